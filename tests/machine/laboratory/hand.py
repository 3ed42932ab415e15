"""The near end of the virtio port: asks the agent inside to run commands and to write files."""

from __future__ import annotations

import base64
import json
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine.laboratory.qemu import MachineError


@dataclass(frozen=True)
class Done:
    """A command that was run: its exit status (124: it took too long), and what it wrote on both outputs."""

    command: str
    status: int
    output: str
    seconds: float


class Hand:
    """A conversation with the agent; each question has a connection of its own."""

    def __init__(self, port: Path) -> None:
        self._port = port

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
        with socket.socket(socket.AF_UNIX) as port:
            port.settimeout(seconds)
            try:
                port.connect(str(self._port))
                # The blank line ends what a question that was cut off may have left.
                port.sendall(b"\n" + json.dumps({"id": number, **request}).encode() + b"\n")
                buffer = b""
                while True:
                    port.settimeout(max(0.01, deadline - time.monotonic()))
                    data = port.recv(1 << 16)
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
