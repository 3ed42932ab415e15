"""A real server on a real socket, in a thread of the test, with a performer of a few lines behind it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from osctld.core.access import Access
from osctld.core.command import Command, GlobalOptions, Reply, Text
from osctld.protocol.families.self import SelfPing
from osctld.server.door import Limits
from osctld.server.listener import Server
from osctld.server.ports import Caller
from patience import Patience

Performing = Callable[[Caller], Awaitable[Reply]]

#: Seconds that any answer may take.
PATIENCE = 30.0


class Fake:
    """Performs what the test says; by default it answers pong. Remembers what it was asked."""

    def __init__(self) -> None:
        self.performing: Performing | None = None
        self.commands: list[Command] = []
        self.options: list[GlobalOptions] = []
        self.cancelled = threading.Event()
        self.started = threading.Event()

    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        if isinstance(command, SelfPing):  # the tests' own question whether it is still there
            return Text(("pong",))
        self.commands.append(command)
        self.options.append(options)
        self.started.set()
        try:
            return await self.performing(caller) if self.performing else Text(("pong",))
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Running:
    """A server in its own event loop and thread."""

    def __init__(self, path: Path, *, access: Access | None = None, limits: Limits | None = None) -> None:
        self.path = path
        self.fake = Fake()
        self.loop = asyncio.new_event_loop()
        self.server = Server(self.fake, str(path), access=access, limits=limits)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_up = threading.Event()
        self._shall_end = asyncio.Event()
        self.error: BaseException | None = None
        self.grace_seconds = 2.0
        self.kept: dict[str, socket.socket] = {}

    def start(self) -> None:
        self._thread.start()
        assert self._is_up.wait(PATIENCE)
        if self.error is not None:
            raise self.error

    def begin_to_stop(self) -> None:
        self.loop.call_soon_threadsafe(self._shall_end.set)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.begin_to_stop()
            self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    async def _serve(self) -> None:
        try:
            self.server.start(self.kept)
        except BaseException as error:  # noqa: BLE001 raised again by start()
            self.error = error
            return
        finally:
            self._is_up.set()
        await self._shall_end.wait()
        await self.server.close(grace_seconds=self.grace_seconds)

    def connect(self) -> Talk:
        return Talk(self.path)


class Talk:
    """A client of bare bytes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._buffer = b""
        self.greeting = self.read()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, cmd: str, /, **opts: Any) -> None:
        self.send(json.dumps({"cmd": cmd, "opts": opts}).encode() + b"\n")

    def read(self) -> Any:
        """One message. Raises EOFError at the end."""
        while b"\n" not in self._buffer:
            chunk = self.socket.recv(1 << 18)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def ask(self, data: bytes) -> Any:
        self.send(data + b"\n")
        return self.read()

    def ping(self) -> Any:
        self.request("self_ping")
        return self.read()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


PONG = {"status": True, "response": "pong"}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for a condition. Raises AssertionError when it does not come true in time."""
    patience = Patience(PATIENCE)
    while not holds():
        assert not patience.is_over, "it never came true"
        time.sleep(0.005)
