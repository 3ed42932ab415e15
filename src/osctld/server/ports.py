"""The ports on both sides of a request on the socket: the performer, and the caller."""

from __future__ import annotations

from typing import Protocol

from osctld.core.command import Command, GlobalOptions, Reply
from osctld.core.events import Event
from osctld.core.person import Asked


class Caller(Protocol):
    """The client of one request: what only it can give, asked for when needed. Descriptors live until the end of
    the request and stay non-inheritable."""

    @property
    def asked(self) -> Asked:
        """What was typed, as a shell would take it, and by whom."""

    def progress(self, text: str) -> None:
        """Tell the person one line now."""

    async def read_stdin(self) -> str:
        """All of the caller's standard input. Raises Refused when it cannot be had."""

    async def open_file(self, path: str) -> int:
        """A descriptor of a file, opened for reading with the caller's rights. Raises Refused, quoting the path."""

    async def read_file(self, path: str) -> str:
        """All of a text file, read with the caller's rights; bytes that are no text as escapes. Raises Refused, quoting
        the path."""

    async def new_file(self, path: str) -> int:
        """A descriptor of a file that was made with the caller's rights, for writing; it goes again should the command
        fail. Raises Refused, quoting the path, also when there is one."""

    async def descriptors(self) -> tuple[int, int, int]:
        """The caller's standard input, output and error. Raises Refused when they cannot be had."""

    @property
    def terminal_type(self) -> str:
        """TERM of the caller; anything at all."""

    async def next_signal(self) -> int:
        """Wait for the next signal that the caller got for the command on its descriptors: 1 to 64."""

    def may_stop(self) -> None:
        """Let a caller stop that got a SIGTSTP."""

    def watching(self) -> None:
        """Say that what was asked to be watched is watched from now on. Such a request has no end of its own: the
        caller's leaving ends it, or the server's."""

    async def event(self, event: Event) -> None:
        """Report an event. Returns when the client has read it: a client that does not read is waited for here."""


class Performer(Protocol):
    """Performs commands. Cancelled when the client disconnects: it shields what must not be interrupted."""

    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        """Raises OsctlError."""
