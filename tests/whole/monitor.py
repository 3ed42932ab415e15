"""A client that is told what happens, from the first moment on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from whole.host import BIN, Topology, wait_until


class Monitor:
    """A client that listens from the first moment of the block."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: list[str] = []
        self.process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def lines(self) -> list[str]:
        return list(self._lines)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def monitor(host: Topology, *words: str) -> Iterator[Monitor]:
    argv = [str(BIN / "osctl"), "--socket", str(host.socket), *words]
    listener = Monitor(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
    try:
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def everything(host: Topology) -> Iterator[Monitor]:
    with monitor(host, "-j", "monitor") as listener:

        def is_listening() -> bool:
            host.osctl("ct", "del", "nobody", check=False)
            return bool(listener.lines)

        wait_until(is_listening, "the monitor hears of a command that fails")
        yield listener


def happened(listener: Monitor) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in listener.lines]
    return [each for each in events if each["type"] != "management"]


def events_of(listener: Monitor, kind: str) -> list[dict[str, object]]:
    return [each["opts"] for each in happened(listener) if each["type"] == kind]
