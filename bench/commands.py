"""What a command costs from the shell, as ratios to starting the interpreter: run by `./dev bench commands`.

Whole processes, interleaved with the reference `.venv/bin/python3 -I -c pass` in one run; medians. The network is the
tests' own: a namespace as the host, one as the router, real containers.

    netif ls       a small host
    ip add         one address to a running container, durable when answered, observed in the kernel
    new            a busybox container, all of its files on disk when answered
    start          `ct start` asked on the socket, a busybox container with a routed interface, both IP versions;
                   reference: plain lxc-start of the same without network (bench/container_start.py)
    memory         resident set of the daemon with one container running
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from container_start import CLONE_NEWNET, PAUSE_SECONDS, Plain

from osctl.client import Client
from whole.host import Topology

BIN = ROOT / ".venv" / "bin"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=51)
    runs = parser.parse_args().runs
    # The plain start of LXC, too, happens in a network namespace that is not the machine's own.
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        sys.exit("error: needs root")
    with Topology() as host:
        host.osctl("ct", "new", "--distribution", "busybox", "bench")
        vias = ("--via", "10.100.10.100/30", "--via", "fd00:1::/126")
        host.osctl("ct", "netif", "new", "routed", *vias, "bench", "eth0")
        host.osctl("ct", "netif", "ip", "add", "bench", "eth0", "1.2.3.4", "2001:db8:2::4")
        host.osctl("ct", "start", "bench")
        client = [str(BIN / "osctl"), "--socket", str(host.socket)]

        def ls(_: int) -> list[str]:
            return [*client, "ct", "netif", "ls"]

        def add(number: int) -> list[str]:
            return [*client, "ct", "netif", "ip", "add", "bench", "eth0", f"198.51.100.{number + 1}"]

        def new(number: int) -> list[str]:
            return [*client, "ct", "new", "--distribution", "busybox", f"new{number}"]

        report("osctl ct netif ls", ls, runs, goal=1.5)
        report("osctl ct netif ip add (running, durable)", add, runs, goal=2.0)
        report("osctl ct new (busybox, durable)", new, max(runs // 2, 15), goal=8.0)
        for number in range(max(runs // 2, 15)):
            host.osctl("ct", "del", f"new{number}")
        report_start(host, max(runs // 2, 15))
        print(f"daemon, 1 container: {resident_megabytes(host.daemon_pid):.1f} MB resident, goal at most 35")
    return 0


def report(title: str, command: Callable[[int], list[str]], runs: int, *, goal: float) -> None:
    reference = [str(BIN / "python3"), "-I", "-c", "pass"]
    ratios, mine, theirs = [], [], []
    for number in range(runs):
        theirs.append(milliseconds(reference))
        mine.append(milliseconds(command(number)))
        ratios.append(mine[-1] / theirs[-1])
    print(
        f"{title}: {statistics.median(mine):.1f} ms, reference {statistics.median(theirs):.1f} ms,"
        f" ratio {statistics.median(ratios):.2f}, goal at most {goal}"
    )


def report_start(host: Topology, runs: int) -> None:
    """`ct start` on the open socket against plain lxc-start, in turns, the same pause before each."""
    with tempfile.TemporaryDirectory(prefix="osctl-bench-") as directory:
        base = Path(directory)
        base.chmod(0o711)
        subprocess.run(["cp", "-a", str(host.state_dir / "ct/bench/rootfs"), str(base / "root")], check=True)
        plain = Plain(base)
        ours, theirs = [], []
        with Client.connect(str(host.socket)) as osctld:

            def call(*argv: str) -> None:
                answer = osctld.call("cli", argv=[*argv])
                if answer["exit"] != 0:
                    sys.exit(answer["stderr"])

            for _ in range(runs):
                call("ct", "stop", "-k", "bench")
                time.sleep(PAUSE_SECONDS)
                started = time.perf_counter()
                call("ct", "start", "bench")
                ours.append(1000 * (time.perf_counter() - started))
                time.sleep(PAUSE_SECONDS)
                theirs.append(1000 * plain.start())
                plain.stop()
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        print(
            f"ct start, asked on the socket: {statistics.median(ours):.1f} ms,"
            f" plain lxc-start {statistics.median(theirs):.1f} ms, ratio {ratio:.2f}, goal at most 1.2"
        )


def milliseconds(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - started)


def resident_megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
