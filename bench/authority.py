"""What the authority on addresses costs: run by `./dev bench authority`.

    add        one address to a running container, from request to answer, in turns on two hosts: one as it is, one
               whose tables hold 100,000 routes of each IP version of a routing daemon, while others come and go
    who        `net who` of an address, and a refused `ip add`, in turns where 10 and where 100,000 networks are held
    log        who held an address at some moment, after a million changes

The containers are bare network namespaces (tests/whole/bare_daemon.py). Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from osctl.client import Client
from osctld.config import SCHEMA, HoldingRows
from osctld.core.authority.claims import Holder
from osctld.shell.store.database import Store
from osctld.shell.store.rows import HistoryLine, Saved
from whole.bare_daemon import BARE
from whole.host import ROUTER_4, ROUTER_6, Topology

CLONE_NEWNET = 0x40000000

ADD_GOAL, WHO_GOAL, LOG_GOAL_MILLISECONDS = 1.05, 1.3, 50.0


@contextlib.contextmanager
def host_with_web() -> Iterator[Topology]:
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"])
        yield host


def learn(host: Topology, count: int) -> None:
    """Give the host so many routes of each IP version, as a routing daemon would."""
    for option, lines in (
        ("-4", (f"20.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 via {ROUTER_4}" for n in range(count))),
        ("-6", (f"2001:{n >> 16:x}:{n & 0xFFFF:x}::/48 via {ROUTER_6}" for n in range(count))),
    ):
        batch = "".join(f"route add {line} proto bird\n" for line in lines)
        subprocess.run(["ip", option, "-n", host.H, "-batch", "-"], input=batch, text=True, check=True)


@contextlib.contextmanager
def churn(host: Topology) -> Iterator[None]:
    """Others of its routes come and go meanwhile."""
    is_over = threading.Event()

    def run() -> None:
        routes = [f"21.0.0.{n}/32 via {ROUTER_4} proto bird" for n in range(50)]
        lines = [f"route {what} {each}\n" for what in ("add", "del") for each in routes]
        while not is_over.wait(0.05):
            subprocess.run(["ip", "-n", host.H, "-batch", "-"], input="".join(lines), text=True, check=True)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def milliseconds(client: Client, *argv: str, status: int = 0) -> float:
    began = time.perf_counter()
    answer = client.call("cli", argv=[*argv])
    took = 1000 * (time.perf_counter() - began)
    if answer["exit"] != status:
        sys.exit(f"{argv}: {answer}")
    return took


def told(title: str, ours: list[float], theirs: list[float], goal: float) -> bool:
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    print(
        f"{title}: {statistics.median(ours):.2f} ms against {statistics.median(theirs):.2f} ms,"
        f" ratio {ratio:.2f}, goal at most {goal}"
    )
    return ratio <= goal


def add(runs: int, count: int) -> bool:
    with host_with_web() as usual, host_with_web() as learned:
        learn(learned, count)
        clients = [Client.connect(str(each.socket)) for each in (usual, learned)]
        for each in clients:
            milliseconds(each, "ct", "netif", "ip", "add", "web", "eth0", "198.51.100.1")
        times: tuple[list[float], list[float]] = ([], [])
        with churn(learned):
            for number in range(runs):
                address = f"198.51.{101 + number // 250}.{number % 250 + 1}"
                # In turns, and who is first changes too: what one leaves behind the other finds.
                for place in (0, 1) if number % 2 else (1, 0):
                    words = ("ct", "netif", "ip", "add", "web", "eth0", address)
                    times[place].append(milliseconds(clients[place], *words))
        for each in clients:
            each.close()
    return told(f"ip add beside {2 * count} routes of a routing daemon", times[1], times[0], ADD_GOAL)


def who(runs: int, count: int) -> bool:
    with host_with_web() as few, host_with_web() as many:
        for host, networks in ((few, 10), (many, count)):
            host.new_container("db", via=["10.100.10.104/30"])
            lines = "".join(f"20.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(networks))
            host.osctl("ct", "netif", "route", "add", "db", "eth0", "-", stdin=lines, seconds=300)
        clients = [Client.connect(str(each.socket)) for each in (few, many)]
        asked: tuple[list[float], list[float]] = ([], [])
        refused: tuple[list[float], list[float]] = ([], [])
        for number in range(runs):
            for place in (0, 1) if number % 2 else (1, 0):
                asked[place].append(milliseconds(clients[place], "-j", "net", "who", f"20.0.0.{number % 10}"))
                words = ("ct", "netif", "ip", "add", "web", "eth0", f"20.0.0.{number % 10}")
                refused[place].append(milliseconds(clients[place], *words, status=1))
        for each in clients:
            each.close()
    is_good = told(f"net who, {count} networks held, against 10", asked[1], asked[0], WHO_GOAL)
    return told(f"a refused ip add, {count} networks held, against 10", refused[1], refused[0], WHO_GOAL) and is_good


def log(runs: int, changes: int) -> bool:
    chance = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="osctl-bench-") as directory:
        file = Path(directory) / "osctl.sqlite"
        store = Store(file, schema=SCHEMA, new_host_uuid="bench")
        holders = [Holder(f"ct{n}", "eth0", f"uuid {n}", f"container {n}") for n in range(100)]
        # The first changes as they come, all others as rows: a million commits take long.
        for number, holder in enumerate(holders):
            rows = HoldingRows(4, number.to_bytes(4, "big"), 32, "route", holder)
            store.save(Saved(holder.container, b"{}", 1, (), (rows,), HistoryLine(float(number), "osctl")))
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO change (time, command) VALUES (?, ?)",
                ((float(number), "osctl ct netif ip add ...") for number in range(100, changes)),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO past VALUES (4, ?, 32, ?, 'route', ?, 1, 'wanted', ?)",
                (
                    (
                        chance.randrange(20_000).to_bytes(4, "big"),
                        since,
                        1 + since % 100,
                        since + chance.randrange(1, 50),
                    )
                    for since in range(101, changes - 50)
                ),
            )
            connection.execute("COMMIT")
        times = []
        for _ in range(runs):
            address = chance.randrange(20_000).to_bytes(4, "big")
            began = time.perf_counter()
            store.held(4, address, 32, at=chance.random() * changes)
            times.append(1000 * (time.perf_counter() - began))
        store.close()
    print(
        f"who held an address at some moment, after {changes} changes: {statistics.median(times):.1f} ms,"
        f" the slowest {max(times):.1f} ms, goal at most {LOG_GOAL_MILLISECONDS:g} ms"
    )
    return max(times) <= LOG_GOAL_MILLISECONDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--routes", type=int, default=100_000)
    arguments = parser.parse_args()
    # Namespaces are entered from one that is not the machine's own.
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        sys.exit("error: needs root")
    results = [
        add(arguments.runs, arguments.routes),
        who(arguments.runs, arguments.routes),
        log(arguments.runs, 1_000_000),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
