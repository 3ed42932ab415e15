"""How long `osctl ping` takes, as a multiple of starting the interpreter for nothing.

    .venv/bin/python bench/client_start.py [--runs N] [--socket PATH]

Without --socket a server process with a performer that only says pong is started, so that the client, the socket,
the parser and the tables are measured and nothing else. Runs are interleaved: both feel the same machine. Exit
status 1 when the median ratio is above the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from osctld.core.command import Command, GlobalOptions, Reply, Text
from osctld.server.listener import Server
from osctld.server.ports import Caller

#: `osctl ping` against `python3 -I -c pass`.
GOAL = 1.25
FEWEST_RUNS = 31


class Pong:
    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:  # noqa: ARG002 a Performer
        return Text(("pong",))


async def serve(path: str) -> None:
    server = Server(Pong(), path)
    server.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


def seconds_of(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    duration = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return duration


def measure(runs: int, path: str) -> float:
    """Print the medians; return their ratio."""
    programs = Path(sys.executable).parent
    reference = [str(programs / "python3"), "-I", "-c", "pass"]
    measured = {
        "python3 -I -c pass": reference,
        "osctl ping": [str(programs / "osctl"), "ping"],
        "osctl ct netif ls": [str(programs / "osctl"), "ct", "netif", "ls"],
    }
    environment = {**os.environ, "OSCTL_SOCKET": path}
    durations: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(runs + 2):
        for name, command in measured.items():
            duration = seconds_of(command, environment)
            if number >= 2:  # the first ones fill caches
                durations[name].append(duration)
    base = statistics.median(durations["python3 -I -c pass"])
    for name, each in durations.items():
        median = statistics.median(each)
        print(f"{name:20} {median * 1000:6.1f} ms  {median / base:5.2f}")
    return statistics.median(durations["osctl ping"]) / base


def main() -> int:
    arguments = argparse.ArgumentParser(description="Measure how fast the client is.")
    arguments.add_argument("--runs", type=int, default=FEWEST_RUNS)
    arguments.add_argument("--socket", help="of a running daemon, instead of a server that only says pong")
    arguments.add_argument("--serve", metavar="PATH", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    runs = max(given.runs, FEWEST_RUNS)
    if given.socket:
        ratio = measure(runs, given.socket)
    else:
        with tempfile.TemporaryDirectory(prefix="osctl-bench-") as directory:
            path = str(Path(directory) / "s")
            server = subprocess.Popen([sys.executable, __file__, "--serve", path], stdout=subprocess.PIPE)
            try:
                assert server.stdout is not None
                server.stdout.readline()
                ratio = measure(runs, path)
            finally:
                server.terminate()
                server.wait()
    print(f"{'within' if ratio <= GOAL else 'above'} the goal of {GOAL}")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
