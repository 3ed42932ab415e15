"""How long others wait while somebody asks for much. Run by `./dev bench waiting`.

While one client has a container of 100,000 routes changed, listed or looked at, another one asks for its `ct show` of
another container every few milliseconds. Told is the longest time that it waited for an answer, beyond what it waits
when nobody asks for anything: the event loop was held up for so long. The goal holds for each.

The containers are bare network namespaces (tests/whole/bare_daemon.py). Exit status 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from osctl.client import Client
from whole.bare_daemon import BARE
from whole.host import Topology

#: Milliseconds.
GOAL = 50.0
PAUSE_SECONDS = 0.002


class Bystander:
    """Asks for something small again and again, and remembers how long each answer took, in milliseconds."""

    def __init__(self, host: Topology) -> None:
        self._client = Client.connect(str(host.socket))
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times: list[float] = []

    def _run(self) -> None:
        while not self._is_over.wait(PAUSE_SECONDS):
            began = time.perf_counter()
            self._client.call("cli", argv=["ct", "show", "other"])
            self.times.append(1000 * (time.perf_counter() - began))

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._client.close()


def longest(host: Topology, work: Callable[[], object]) -> tuple[float, float]:
    """What the bystander waited at most, and how long the work took, in milliseconds."""
    with Bystander(host) as bystander:
        time.sleep(0.05)
        began = time.perf_counter()
        work()
        took = 1000 * (time.perf_counter() - began)
        time.sleep(0.05)
    return max(bystander.times), took


def commands(count: int) -> Sequence[tuple[str, Sequence[str], str]]:
    networks = [f"20.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(count)]
    lines, half = "".join(f"{each}\n" for each in networks), "".join(f"{each}\n" for each in networks[::2])
    where = ("web", "eth0")
    return (
        ("route add, a dry run", ("--dry-run", "ct", "netif", "route", "add", *where, "-"), lines),
        ("route add", ("ct", "netif", "route", "add", *where, "-"), lines),
        ("ip add", ("ct", "netif", "ip", "add", *where, "1.2.3.5"), ""),
        ("ip del", ("ct", "netif", "ip", "del", *where, "1.2.3.5"), ""),
        ("route ls", ("ct", "netif", "route", "ls", *where), ""),
        ("route ls, as JSON", ("-j", "ct", "netif", "route", "ls", *where), ""),
        ("netif show", ("ct", "netif", "show", *where), ""),
        ("netif show, as JSON", ("-j", "ct", "netif", "show", *where), ""),
        ("netif ls", ("ct", "netif", "ls"), ""),
        ("net ls", ("net", "ls"), ""),
        ("net who 20.0.0.0/8", ("net", "who", "20.0.0.0/8"), ""),
        ("net reconcile", ("net", "reconcile"), ""),
        ("self check", ("self", "check"), ""),
        ("status", ("status",), ""),
        ("self metrics", ("self", "metrics"), ""),
        ("history", ("history",), ""),
        ("rename", ("ct", "netif", "rename", *where, "eth0"), ""),
        ("set --mtu, a dry run", ("--dry-run", "ct", "netif", "set", "--mtu", "1400", *where), ""),
        ("set --via, a dry run", ("--dry-run", "ct", "netif", "set", "--via", "10.100.10.108/30", *where), ""),
        ("ct stop", ("ct", "stop", "-k", "web"), ""),
        ("ct start", ("ct", "start", "web"), ""),
        ("route del of half", ("ct", "netif", "route", "del", *where, "-"), half),
        ("route del all", ("ct", "netif", "route", "del", *where, "all"), ""),
        ("bare newlines, 16 MB", ("ct", "netif", "route", "add", *where, "-"), "\n" * (16 << 20)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=100_000)
    arguments = parser.parse_args()
    missed = 0
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"])
        host.new_container("other", via=["10.100.10.104/30"])
        with Bystander(host) as alone:
            time.sleep(1)
        usual = statistics.median(alone.times)
        print(f"alone: {usual:.1f} ms, the slowest {max(alone.times):.1f} ms")
        for title, argv, stdin in commands(arguments.routes):
            work = functools.partial(host.osctl, *argv, stdin=stdin, seconds=300, check=False)
            waited, took = longest(host, work)
            missed += waited - usual > GOAL
            print(f"{title}: others waited {waited - usual:.0f} ms at most, it took {took:.0f} ms, goal {GOAL:g} ms")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
