"""What `osctl status` and `osctl self metrics` cost on 1000 interfaces: run by `./dev bench status`.

Whole processes, in turns with `python3 -I -c pass`; medians. Once with all well, once with 50 addresses that null
routes take away and 200 that are assigned and not routed. How long another client waits meanwhile is told as well, and
what `osctl self check` costs there and with 100,000 routes. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from large_hosts import PYTHON, LargeHost, report

import osctl.client

#: Milliseconds.
STATUS_GOAL, METRICS_GOAL, WAIT_GOAL, CHECK_GOAL = 100.0, 250.0, 50.0, 2000.0


def milliseconds(argv: Sequence[str]) -> float:
    started = time.perf_counter()
    # Its exit status tells how all is.
    subprocess.run(argv, check=False, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - started)


def measured(host: LargeHost, what: str, words: Sequence[str], rounds: int, *, goal: float) -> bool:
    references, took = [], []
    for _ in range(rounds):
        references.append(milliseconds(PYTHON))
        took.append(milliseconds(host.command(*words)))
    value = f"{statistics.median(took):.1f} ms, reference {statistics.median(references):.1f} ms"
    return report(what, value, is_reached=statistics.median(took) <= goal, goal=f"at most {goal:g} ms")


def longest_wait(host: LargeHost, work: Callable[[], object]) -> float:
    """Milliseconds that a ping on an open connection took at most while others worked."""
    waits = []
    with osctl.client.connect(str(host.socket)) as daemon:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            started = time.perf_counter()
            daemon.call("cli", argv=["ping"])
            waits.append(1000 * (time.perf_counter() - started))
        thread.join()
    return max(waits)


@contextlib.contextmanager
def begun(routes: Sequence[int]) -> Iterator[LargeHost]:
    """A host whose daemon has seen to everything."""
    with LargeHost(routes) as host:
        host.start_daemon(seconds=300)
        # Inside, a daemon that finds a life leaves what differs; here nothing was ever made there.
        subprocess.run(host.command("net", "reconcile"), check=True, stdout=subprocess.DEVNULL)
        yield host


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--interfaces", type=int, default=1000)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root")
    reached = []
    rounds, metrics, check = arguments.rounds, ("self", "metrics"), ("self", "check")
    with begun([10] * arguments.interfaces) as host:
        reached.append(measured(host, "status, all well", ["status"], rounds, goal=STATUS_GOAL))
        reached.append(measured(host, "metrics, all well", metrics, rounds, goal=METRICS_GOAL))
        reached.append(measured(host, "check", check, rounds, goal=CHECK_GOAL))
        names = [f"ct{number}" for number in range(min(50, arguments.interfaces))]
        for number, name in enumerate(names):
            addresses = [f"100.64.{number}.{each}" for each in range(4)]
            subprocess.run(host.command("ct", "netif", "ip", "add", "--no-route", name, "eth0", *addresses), check=True)
            host.ip(host.H, "route", "replace", "blackhole", f"20.{number >> 2}.{(number & 3) << 6}.0/32")
        reached.append(measured(host, "status, much to tell", ["status"], rounds, goal=STATUS_GOAL))
        reached.append(measured(host, "metrics, much to tell", metrics, rounds, goal=METRICS_GOAL))
        for words in (["status"], metrics, check):
            longest = longest_wait(host, lambda words=words: [milliseconds(host.command(*words)) for _ in range(5)])
            value = f"{longest:.1f} ms"
            what = f"a ping beside {' '.join(words)}, the longest"
            reached.append(report(what, value, is_reached=longest <= WAIT_GOAL, goal=f"at most {WAIT_GOAL:g} ms"))
    with begun([100] * arguments.interfaces) as host:
        reached.append(measured(host, "status, 100,000 routes", ["status"], rounds, goal=STATUS_GOAL))
        reached.append(measured(host, "check, 100,000 routes", check, rounds, goal=CHECK_GOAL))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
