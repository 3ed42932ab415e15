"""Many routes and addresses in one command, from the request to its answer: run by `./dev bench many_routes`.

    .venv/bin/python bench/many_routes.py [--routes N ...] [--rounds N]

The client is started with all networks on its standard input, and has ended when they are in the kernel and on disk.
The reference for routes is one process `ip -batch` that adds the same routes to the same table over the same link and
gateway; it remembers nothing and looks at nothing. Both run in turns, beginning with a table without these routes. A
container that has them is stopped and started in turns with the same reference. For addresses the reference is
`python3 -I -c pass`, what any command in Python costs at least.

The container is a bare network namespace (tests/whole/bare_daemon.py): its network is that of any other. `bench
kernel_batch` has the kernel's part alone. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from whole.bare_daemon import BARE
from whole.host import Topology, run

BIN = ROOT / ".venv" / "bin"
PYTHON = [str(BIN / "python3"), "-I", "-c", "pass"]

#: How many times as fast as `ip -batch`, by number of routes.
ROUTES_GOALS = {10_000: 1.5, 100_000: 2.0}
#: 250 addresses in one command, in times of the reference.
ADDRESSES, ADDRESSES_GOAL = 250, 3.0


def milliseconds(argv: list[str], *, stdin: str = "") -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True, input=stdin.encode(), stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - started)


def networks(count: int) -> list[str]:
    """So many networks of one address, in a range of documentation and private use."""
    return [f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32" for number in range(count)]


def routes(host: Topology, count: int, rounds: int) -> bool:
    client = [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "netif", "route"]
    wanted = networks(count)
    words = "".join(f"{each}\n" for each in wanted)
    batch = host.directory / f"routes-{count}"
    link = host.veth("web")
    # Of the protocol of routes made by hand: others' routes, which the daemon leaves alone.
    batch.write_text("".join(f"route add {each} via 10.100.10.102 dev {link}\n" for each in wanted))
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(milliseconds([*client, "add", "web", "eth0", "-"], stdin=words))
        assert len(host.ip(host.H, "route", "show", "proto", "111").splitlines()) == count
        milliseconds([*client, "del", "web", "eth0", "-"], stdin=words)
        theirs.append(milliseconds(["ip", "-n", host.H, "-batch", str(batch)]))
        run("ip", "-n", host.H, "route", "flush", "proto", "boot", "dev", link)
    ratio = statistics.median(other / one for one, other in zip(ours, theirs, strict=True))
    goal = ROUTES_GOALS.get(count, 0.0)
    print(
        f"{count} routes, from request to answer: {statistics.median(ours):.0f} ms, ip -batch"
        f" {statistics.median(theirs):.0f} ms, {ratio:.2f} times as fast, goal at least {goal}",
        flush=True,
    )
    return ratio >= goal


def life(host: Topology, count: int, rounds: int) -> None:
    """Stop and start of a container that has so many routes, which an earlier version is to be compared with."""
    client = [str(BIN / "osctl"), "--socket", str(host.socket), "ct"]
    words = "".join(f"{each}\n" for each in networks(count))
    milliseconds([*client, "netif", "route", "add", "web", "eth0", "-"], stdin=words)
    batch = host.directory / f"others-{count}"
    batch.write_text("".join(f"route add {each.replace('10.', '11.', 1)} dev up0\n" for each in networks(count)))
    took: dict[str, list[float]] = {"stop": [], "start": []}
    theirs = []
    for _ in range(rounds):
        for word, durations in took.items():
            durations.append(milliseconds([*client, word, "web"]))
        theirs.append(milliseconds(["ip", "-n", host.H, "-batch", str(batch)]))
        run("ip", "-n", host.H, "route", "flush", "proto", "boot", "dev", "up0", "root", "11.0.0.0/8")
    milliseconds([*client, "netif", "route", "del", "web", "eth0", "-"], stdin=words)
    for word, durations in took.items():
        ratio = statistics.median(durations) / statistics.median(theirs)
        print(f"{word} with {count} routes: {statistics.median(durations):.0f} ms, {ratio:.2f} x ip -batch", flush=True)


def addresses(host: Topology, rounds: int) -> bool:
    client = [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "netif", "ip"]
    wanted = [f"198.51.100.{number}" for number in range(1, ADDRESSES + 1)]
    ours, ratios = [], []
    for _ in range(rounds):
        reference = milliseconds(PYTHON)
        ours.append(milliseconds([*client, "add", "web", "eth0", *wanted]))
        ratios.append(ours[-1] / reference)
        milliseconds([*client, "del", "web", "eth0", *wanted])
    ratio = statistics.median(ratios)
    print(
        f"{ADDRESSES} addresses in one command: {statistics.median(ours):.1f} ms, ratio to the reference {ratio:.2f},"
        f" goal at most {ADDRESSES_GOAL}",
        flush=True,
    )
    return ratio <= ADDRESSES_GOAL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root")
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"])
        reached = [addresses(host, 21)]
        reached += [routes(host, count, arguments.rounds) for count in arguments.routes]
        for count in arguments.routes:
            life(host, count, arguments.rounds)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
