"""A client that behaves as the original osctl's does, written from the description of its protocol.

It reads 1024 bytes at a time until a piece ends with a newline, forgets whatever came together with the greeting,
sends what was typed beside what it asks for, and says null where it has nothing to say.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

#: Seconds that any answer may take on a busy machine.
PATIENCE = 60.0


class Failed(Exception):
    """The daemon's final answer was an error; `answer` is all of it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["message"])
        self.answer = answer


class Ran(NamedTuple):
    status: int
    stdout: bytes
    stderr: bytes


class OriginalClient:
    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        #: All progress since the last call began.
        self.progress: list[str] = []
        self._messages: list[dict[str, Any]] = []
        self.version = json.loads(self._receive().splitlines()[0])["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def call(self, request: str, /, **opts: Any) -> Any:
        """Send one request as the command line does, and return the response. Raises Failed."""
        self.send(request, **opts)
        return self.answer()["response"]

    def error(self, request: str, /, **opts: Any) -> str:
        """The words of a request that must fail."""
        self.send(request, **opts)
        try:
            answer = self.answer()
        except Failed as failed:
            return str(failed)
        raise AssertionError(f"{request} {opts}: {answer}")

    def send(self, request: str, /, **opts: Any) -> None:
        typed = f"osctl {request.replace('_', ' ')}"
        self.socket.sendall(json.dumps({"cmd": request, "opts": {**opts, "cli": typed}}).encode() + b"\n")
        self.progress = []

    def answer(self) -> dict[str, Any]:
        """The final message: what has a `progress` comes before it."""
        while True:
            message = self.message()
            if not message["status"]:
                assert isinstance(message["message"], str)
                raise Failed(message)
            if "progress" not in message:
                assert "response" in message
                return message
            self.progress.append(message["progress"])

    def message(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        if not self._messages:
            self._messages = [json.loads(line) for line in self._receive().splitlines()]
        return self._messages.pop(0)

    def execute(self, container: str, *cmd: str, stdin: bytes = b"", pause: float = 0.0) -> Ran:
        """Run a command inside, as `ct exec` does: on three pipes, each sent with one byte of its own.

        `pause` is what it needs, in seconds, to show each piece of the output.
        """
        # As Ruby makes them since 3.0: no end blocks.
        (r_in, w_in), (r_out, w_out), (r_err, w_err) = (os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(3))
        try:
            self.send("ct_exec", id=container, pool=None, cmd=list(cmd))
            assert self.answer()["response"] == "continue"
            for descriptor in (r_in, w_out, w_err):
                self.send_descriptor(descriptor)
            for descriptor in (r_in, w_out, w_err):
                os.close(descriptor)
            r_in = w_out = w_err = -1
            os.write(w_in, stdin)
            os.close(w_in)
            w_in = -1
            said = {r_out: b"", r_err: b""}
            # As the original does: an end of a pipe is an error, and with the answer it stops reading.
            while True:
                ready, _, _ = select.select([r_out, r_err, self.socket.fileno()], [], [], PATIENCE)
                assert ready, f"neither an answer nor output of {cmd}"
                for each in ready:
                    if each == self.socket.fileno():
                        status = self.answer()["response"]["exitstatus"]
                        return Ran(status, said[r_out], said[r_err])
                    piece = os.read(each, 4096)
                    if not piece:
                        raise EOFError("end of file reached")
                    said[each] += piece
                    time.sleep(pause)
        finally:
            for descriptor in (r_in, w_in, r_out, w_out, r_err, w_err):
                if descriptor >= 0:
                    os.close(descriptor)

    def send_descriptor(self, descriptor: int) -> None:
        """Send one descriptor beside a byte of its own."""
        packed = array.array("i", [descriptor])
        self.socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])

    def _receive(self) -> bytes:
        pieces = b""
        while True:
            piece = self.socket.recv(1024)
            if not piece:
                raise EOFError("osctld closed connection")
            pieces += piece
            if piece.endswith(b"\n"):
                return pieces
