"""Pings that go on while something else happens."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator

from whole.host import Topology


@contextlib.contextmanager
def pings(host: Topology, *addresses: str) -> Iterator[dict[str, tuple[int, int]]]:
    """A hundred pings a second from the router to each address; afterwards, how many were sent and answered."""
    counts: dict[str, tuple[int, int]] = {}
    running = {
        address: subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{host.R}", "ping", "-n", "-q", "-i", "0.01", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for address in addresses
    }
    try:
        yield counts
    finally:
        for address, process in running.items():
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=10)
            found = re.search(r"(\d+) packets transmitted, (\d+) received", output)
            assert found, output
            counts[address] = (int(found[1]), int(found[2]))
