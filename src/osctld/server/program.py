"""Typed requests of programs: `cmd` names a command, `opts` holds what it takes, the answer is data."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from typing import Any, Protocol

from osctld.cli.show import printable
from osctld.core.errors import OsctlError, Refused
from osctld.core.events import Event
from osctld.protocol.answers import answer
from osctld.protocol.reading import COMMAND_LINE, read
from osctld.server.documents import encode, internal_error
from osctld.server.lines import TooLong
from osctld.server.ports import Performer

log = logging.getLogger("osctld")

#: Characters of a request that are logged when it failed in a way that nobody foresaw.
_LONGEST_LOGGED = 500

#: Says that the client shall send its descriptors now, each with one byte of its own.
CONTINUE = "continue"

#: Says that events follow, each as an answer of its own.
SUBSCRIBED = "subscribed"

#: A path that stands for a descriptor of the client.
_STREAM = "-"


class Client(Protocol):
    """The connection that the request came from."""

    @property
    def user_id(self) -> int:
        """Whose process it is."""

    def tell(self, message: Mapping[str, Any]) -> None: ...
    def succeed(self, response: Any, *, changed: bool | None = None) -> None: ...
    def fail(self, message: str, *, code: str, subject: str = "", holder: str = "") -> None: ...
    async def take_descriptors(self, count: int) -> list[int]: ...
    def keep_descriptor(self, descriptor: int) -> int: ...
    async def next_signal(self) -> int: ...
    def close_descriptors(self) -> None: ...
    def go_on_until_left(self) -> None: ...
    async def flush(self) -> None: ...


async def answer_program(cmd: str, opts: Mapping[str, Any], performer: Performer, client: Client) -> None:
    """Perform what a program asks for and answer it, whatever happens."""
    caller = _Program(cmd, opts, client)
    try:
        asked = read(cmd, opts)
        reply = await performer.perform(asked.command, asked.options, caller)
        said = answer(reply, asked.command, asked.options)
        for line in said.progress:
            caller.progress(line)
        client.succeed(said.response, changed=said.changed)
        # Before the descriptors are closed: the original's client takes the end of its pipes for a failure.
        await client.flush()
    except OsctlError as error:
        _fail(client, error)
    except (TooLong, ConnectionError):
        raise
    except Exception as error:
        log.exception("a request failed: %s", caller.command_line[:_LONGEST_LOGGED])
        _fail(client, internal_error(error))
    finally:
        client.close_descriptors()


def _fail(client: Client, error: OsctlError) -> None:
    client.fail(printable(error.message), code=error.code, subject=error.subject, holder=error.holder)


class _Program:
    """The caller of a typed request."""

    terminal_type = ""

    def __init__(self, cmd: str, opts: Mapping[str, Any], client: Client) -> None:
        self._cmd = cmd
        self._opts = opts
        self._client = client
        self._standard: tuple[int, int, int] | None = None

    @property
    def command_line(self) -> str:
        """What its user typed, if it says so; else the request."""
        typed = self._opts.get(COMMAND_LINE)
        if not isinstance(typed, str) or not typed.strip():  # the history has no empty lines
            typed = f"{self._cmd} {encode(self._opts).decode()}"
        return printable(typed)

    def progress(self, text: str) -> None:
        self._client.tell({"progress": printable(text)})

    async def read_stdin(self) -> str:
        raise Refused("a request has no standard input", code="unsupported")

    async def open_file(self, path: str) -> int:
        if path == _STREAM:
            (descriptor,) = await self._client.take_descriptors(1)
            return descriptor
        # It names a file where the daemon is, and shall reach no other files than its user may.
        if self._client.user_id != os.geteuid():
            raise Refused(f"cannot open {path!r}: not for user {self._client.user_id}", code="file", subject=path)
        if not os.path.isabs(path):
            raise Refused(f"cannot open {path!r}: the path is not absolute", code="file", subject=path)
        try:
            # Not waiting for the other end of a FIFO: everybody else waits here.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL, told differently by each Python
            reason = getattr(error, "strerror", "embedded null byte")
            raise Refused(f"cannot open {path!r}: {reason}", code="file", subject=path) from None
        self._client.keep_descriptor(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise Refused(f"cannot open {path!r}: Is a directory", code="file", subject=path)
        os.set_blocking(descriptor, True)
        return descriptor

    async def descriptors(self) -> tuple[int, int, int]:
        if self._standard is None:
            stdin, stdout, stderr = await self._client.take_descriptors(3)
            self._standard = (stdin, stdout, stderr)
        return self._standard

    async def next_signal(self) -> int:
        return await self._client.next_signal()

    def may_stop(self) -> None:
        self._client.tell({"stop": True})

    def watching(self) -> None:
        self._client.succeed(SUBSCRIBED)
        self._client.go_on_until_left()

    async def event(self, event: Event) -> None:
        self._client.succeed(
            {"type": event.type, "opts": event.opts, "sequence": event.sequence, "time": event.time}
        )
        await self._client.flush()
