"""The socket protocol as a small library for programs. Standard library only.

with Client.connect() as osctld:
    osctld.call("self_ping")  # "pong"
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

DEFAULT_SOCKET = "/run/osctl/osctld.sock"


class RequestFailed(Exception):
    """osctld said no. `code` is stable; `subject` is what the request was about, `holder` who has it already."""

    def __init__(self, message: str, *, code: str = "", subject: str = "", holder: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.subject = subject
        self.holder = holder


class Client:
    """One connection to osctld; any number of calls, one after another. Not for several threads at once."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket and read the daemon's greeting.

        Raises ConnectionError when the daemon closes instead.
        """
        self._connection = connection
        self._lines = connection.makefile("rb")
        #: The daemon's version.
        self.version = str(self._read().get("version", ""))

    @classmethod
    def connect(cls, path: str | None = None) -> Client:
        """Connect to a socket; by default the one in $OSCTL_SOCKET, else /run/osctl/osctld.sock.

        Raises FileNotFoundError or ConnectionRefusedError when no daemon is there, PermissionError when it is not
        for this user.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path or os.environ.get("OSCTL_SOCKET") or DEFAULT_SOCKET)
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    def call(self, cmd: str, *, on_progress: Callable[[str], None] | None = None, **opts: Any) -> Any:
        """Ask for one command and return its response.

        Raises RequestFailed when the daemon refuses, ConnectionError when it goes away meanwhile.
        """
        self._connection.sendall(json.dumps({"cmd": cmd, "opts": opts}).encode() + b"\n")
        while True:
            message = self._read()
            if not message.get("status"):
                raise RequestFailed(
                    str(message.get("message")),
                    **{key: str(message.get(key) or "") for key in ("code", "subject", "holder")},
                )
            if "progress" in message:
                if on_progress is not None:
                    on_progress(str(message["progress"]))
            elif "response" in message:
                return message["response"]

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("osctld closed the connection")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ConnectionAbortedError(f"osctld said {message!r} instead of an object")
        return message
