"""The near end of the virtio port: asks the agent inside to run commands and to write files."""

from __future__ import annotations

import base64
import json
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine.laboratory.qemu import KernelDiedError, MachineError

#: What a kernel says last. It does not answer then; who waits looks every so many seconds.
_PANIC = "Kernel panic - not syncing"
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Done:
    """A command that was run: its exit status (124: it took too long), and what it wrote on both outputs."""

    command: str
    status: int
    output: str
    seconds: float


class Hand:
    """A conversation with the agent; each question has a connection of its own."""

    def __init__(self, port: Path, *, console: Callable[[], str]) -> None:
        """`console` gives what the kernel has said until now."""
        self._port = port
        self._console = console

    def run(self, command: str, timeout_seconds: float, answer_within: float | None = None) -> Done:
        """Run a command by bash in /root. Raises MachineError when no answer comes."""
        begun = time.monotonic()
        request = {"command": command, "timeout": timeout_seconds}
        answer = self._ask(request, answer_within or timeout_seconds + 60)
        output = base64.b64decode(answer["output"]).decode(errors="replace")
        return Done(command, answer["status"], output, time.monotonic() - begun)

    def put(self, path: str, content: bytes, mode: int) -> None:
        """Write a file, and its directories."""
        request = {"path": path, "mode": mode, "content": base64.b64encode(content).decode()}
        answer = self._ask(request, 120)
        if answer["status"]:
            raise MachineError(f"{path} was not written: {base64.b64decode(answer['output']).decode()}")

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        number = uuid.uuid4().hex
        said = request.get("command", request.get("path"))
        panics = self._console().count(_PANIC)
        with socket.socket(socket.AF_UNIX) as port:
            port.settimeout(seconds)
            try:
                port.connect(str(self._port))
                # The blank line ends what a question that was cut off may have left.
                port.sendall(b"\n" + json.dumps({"id": number, **request}).encode() + b"\n")
                buffer = b""
                while True:
                    port.settimeout(min(_LOOK_SECONDS, max(0.01, deadline - time.monotonic())))
                    try:
                        data = port.recv(1 << 16)
                    except TimeoutError:
                        if (console := self._console()).count(_PANIC) > panics:
                            raise KernelDiedError(f"the kernel died; asked: {said}\n{console[-8000:]}") from None
                        if time.monotonic() > deadline:
                            raise
                        continue
                    if not data:
                        raise MachineError(f"the machine is gone; asked: {said}")
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        answer = _parsed(line)
                        if answer is not None and answer.get("id") == number:
                            return answer
            except OSError as error:
                raise MachineError(f"no answer from the machine ({error}); asked: {said}") from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A document, unless the line is the rest of an answer that somebody else no longer waited for."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
