"""osctld for programs: typed requests, and data back. Standard library only.

    import osctl.client

    with osctl.client.connect() as daemon:
        daemon.call("ct_netif_ip_add", container="web", netif="eth0", addresses=["1.2.3.4/32"])
        for row in daemon.call("ct_netif_ip_ls", container="web"):
            print(row["addr"])

What there is to ask for, and what the answers look like: docs/programs.md.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answer:
    """What a request gave. `changed` says whether anything is different now; None where nothing could be."""

    response: Any
    changed: bool | None
    progress: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened. `sequence` grows by each event; `time` is in seconds since 1970."""

    sequence: int
    time: float
    type: str
    opts: dict[str, Any]


def connect(path: str | None = None) -> Client:
    """Connect to a socket; by default the one in $OSCTL_SOCKET, else /run/osctl/osctld.sock.

    Raises FileNotFoundError or ConnectionRefusedError when no daemon is there, PermissionError when it is not
    for this user.
    """
    return Client.connect(path)


class Client:
    """One connection to osctld; any number of calls, one after another. Not for several threads at once.

    A call that was interrupted leaves a connection that is good for nothing: the next raises ConnectionAbortedError.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket and read the daemon's greeting.

        Raises PermissionError when it is not for this user, ConnectionError when the daemon closes instead, or has
        too many connections.
        """
        self._connection = connection
        self._lines = connection.makefile("rb")
        #: Whether the last word on a request is still to come: it would be taken for the answer to the next one.
        self._is_owed = False
        try:
            greeting = self._read()
            if greeting.get("code") == "permission-denied":
                raise PermissionError(str(greeting.get("message")))
            if greeting.get("status") is False:
                raise ConnectionRefusedError(str(greeting.get("message")))
            #: The daemon's version, and what exactly is installed.
            self.version = str(greeting.get("version", ""))
            self.build = str(greeting.get("build", ""))
        except BaseException:
            self._lines.close()
            raise

    @classmethod
    def connect(cls, path: str | None = None) -> Self:
        """See `connect`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path or os.environ.get("OSCTL_SOCKET") or DEFAULT_SOCKET)
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    # --- requests ---------------------------------------------------------------------------------------------------

    def call(self, request: str, /, *, on_progress: Callable[[str], None] | None = None, **opts: Any) -> Any:
        """Ask for one thing and return its response.

        Raises RequestFailed when the daemon refuses, ConnectionError when it goes away meanwhile.
        """
        return self.ask(request, on_progress=on_progress, **opts).response

    def ask(self, request: str, /, *, on_progress: Callable[[str], None] | None = None, **opts: Any) -> Answer:
        """Like `call`, but also say whether anything changed."""
        self._send(request, opts)
        progress: list[str] = []
        while True:
            message = self._message()
            if "progress" not in message:
                self._is_owed = False
                return Answer(message["response"], message.get("changed"), tuple(progress))
            progress.append(str(message["progress"]))
            if on_progress is not None:
                on_progress(progress[-1])

    def plan(self, request: str, /, **opts: Any) -> list[str]:
        """What a change would do, as lines of ip, sysctl and nft; nothing is done.

        Raises like `call`, and ValueError for a request that only asks.
        """
        response = self.call(request, **{**opts, "dry_run": True})
        if not isinstance(response, dict) or "plan" not in response:
            raise ValueError(f"{request} changes nothing and has no plan")
        return [str(line) for line in response["plan"]]

    def execute(
        self, container: str, command: Sequence[str], *, stdin: int = 0, stdout: int = 1, stderr: int = 2
    ) -> int:
        """Run a command in a container on these descriptors, and return its exit status.

        128 + N when signal N ended it. The descriptors stay the caller's. Raises like `call`, and OSError for a
        descriptor that is closed.
        """
        for descriptor in (stdin, stdout, stderr):
            os.fstat(descriptor)  # before the daemon waits for it
        self._send("ct_exec", {"container": container, "command": list(command)})
        self._message()
        for descriptor in (stdin, stdout, stderr):
            packed = array.array("i", [descriptor])
            self._connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
        while True:
            message = self._message()
            if "progress" not in message:
                self._is_owed = False
                return int(message["response"]["exitstatus"])

    def events(self, *types: str, **opts: Any) -> Iterator[Event]:
        """Subscribe to events and yield each as it happens, without end: use a connection for nothing else.

        Of these types, all when there is none; with these values of their opts, each a value or a list of acceptable
        ones. Raises ConnectionError when the daemon ends.
        """
        self._send("event_subscribe", {"type": list(types), "opts": opts})
        self._message()
        return self._events()

    def _events(self) -> Iterator[Event]:
        while True:
            event = self._message()["response"]
            yield Event(event["sequence"], event["time"], event["type"], event["opts"])

    # --- messages ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: str, opts: dict[str, Any]) -> None:
        line = json.dumps({"cmd": request, "opts": opts}).encode() + b"\n"
        if self._is_owed:
            raise ConnectionAbortedError("the answer to an earlier request is still pending; open a new connection")
        self._is_owed = True
        # A daemon that has closed its end may have answered before: reading will show.
        with contextlib.suppress(ConnectionError):
            self._connection.sendall(line)

    def _message(self) -> dict[str, Any]:
        """The next message. Raises RequestFailed when it says no."""
        message = self._read()
        if not message.get("status"):
            self._is_owed = False
            raise RequestFailed(
                str(message.get("message")),
                **{key: str(message.get(key) or "") for key in ("code", "subject", "holder")},
            )
        if not message.keys() & {"response", "progress"}:
            raise ConnectionAbortedError(f"osctld requires something that this client does not support: {message}")
        return message

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("osctld closed the connection")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ConnectionAbortedError(f"osctld sent {message!r} instead of an object")
        return message
