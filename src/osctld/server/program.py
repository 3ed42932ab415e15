"""Typed requests of programs: `cmd` names a command, `opts` holds what it takes, the answer is data."""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import os
import stat
import termios
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from osctld.cli.show import printable
from osctld.core.command import secret_fields
from osctld.core.errors import OsctlError, Refused
from osctld.core.events import Event
from osctld.core.person import Asked, Person
from osctld.protocol.answers import answer
from osctld.protocol.reading import COMMAND_LINE, read
from osctld.protocol.request import Request
from osctld.server.documents import encode, internal_error
from osctld.server.lines import TooLong, TooSlow
from osctld.server.ports import Performer

log = logging.getLogger("osctld")

#: Characters of a request that are logged after an unexpected failure.
_LONGEST_LOGGED = 500

#: Asks the client to send its descriptors now, each with one byte of its own.
CONTINUE = "continue"

#: Says that events follow, each as an answer of its own.
SUBSCRIBED = "subscribed"

#: Bytes of a text file that is read.
_LONGEST_TEXT = 64 << 20

#: A path that stands for a descriptor of the client.
_STREAM = "-"


#: How long the answer to a command waits for a client that reads nothing of what the command wrote.
_READING_SECONDS = 3.0
_LOOK_SECONDS = 0.002


class Client(Protocol):
    """The connection that the request came from."""

    @property
    def user_id(self) -> int:
        """Whose process it is."""

    @property
    def person(self) -> Person: ...
    def tell(self, message: Mapping[str, Any]) -> None: ...
    def succeed(self, response: Any, *, changed: bool | None = None) -> None: ...
    def fail(self, message: str, *, code: str, subject: str = "", holder: str = "") -> None: ...
    async def take_descriptors(self, count: int) -> list[int]: ...
    def keep_descriptor(self, descriptor: int) -> int: ...
    async def next_signal(self) -> int: ...
    def close_descriptors(self, *, is_later: bool = False) -> None: ...
    def go_on_until_left(self) -> None: ...
    async def flush(self, *, is_patient: bool = False) -> None: ...


async def answer_program(cmd: str, opts: Mapping[str, Any], performer: Performer, client: Client) -> None:
    """Perform what a program asks for and answer it, whatever happens."""
    caller = _Program(cmd, opts, client)
    try:
        asked = read(cmd, opts)
        caller.is_of_original = isinstance(asked.command, Request)
        caller.hide(secret_fields(type(asked.command)))
        reply = await performer.perform(asked.command, asked.options, caller)
        caller.keep_or_remove(is_kept=True)
        said = answer(reply, asked.command, asked.options)
        for line in said.progress:
            caller.progress(line)
        if caller.is_of_original:
            await caller.let_output_be_read()
        client.succeed(said.response, changed=said.changed)
        await client.flush()
    except OsctlError as error:
        _fail(client, error)
    except (TooLong, TooSlow, ConnectionError):
        raise
    except Exception as error:
        log.exception("a request failed: %s", caller.asked.command_line[:_LONGEST_LOGGED])
        _fail(client, internal_error(error))
    finally:
        caller.keep_or_remove(is_kept=False)
        # The original's client looks at its pipes before it looks at the answer, and takes their end for a failure.
        client.close_descriptors(is_later=caller.is_of_original and caller.has_streams)


def _unread_bytes(pipe: int) -> int:
    """Number of unread bytes in a pipe; works on either end (FIONREAD, pipe(7))."""
    counted = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, counted)
    return counted[0]


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
        #: Whether it asks in the original's words rather than in ours.
        self.is_of_original = False
        self._made = ""

    def hide(self, secret: Collection[str]) -> None:
        """Leave out of the command line what is secret: these keys, and what was typed, where they stand too."""
        if secret:
            self._opts = {key: value for key, value in self._opts.items() if key not in (*secret, COMMAND_LINE)}

    @property
    def asked(self) -> Asked:
        """What its user typed, if it says so; else the request."""
        typed = self._opts.get(COMMAND_LINE)
        if not isinstance(typed, str) or not typed.strip():  # the history has no empty lines
            typed = f"{self._cmd} {encode(self._opts).decode()}"
        return Asked(printable(typed), self._client.person)

    def progress(self, text: str) -> None:
        self._client.tell({"progress": printable(text)})

    async def read_stdin(self) -> str:
        raise Refused("a request has no standard input", code="unsupported")

    async def open_file(self, path: str) -> int:
        if path == _STREAM:
            (descriptor,) = await self._client.take_descriptors(1)
            return descriptor
        self._check_reachable(path)
        try:
            # Not waiting for the other end of a FIFO: everybody else waits here.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL, reported differently by Python versions
            reason = getattr(error, "strerror", "embedded null byte")
            raise Refused(f"{path!r}: cannot be opened: {reason}", code="file", subject=path) from None
        self._client.keep_descriptor(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise Refused(f"{path!r}: cannot be opened: Is a directory", code="file", subject=path)
        os.set_blocking(descriptor, True)
        return descriptor

    async def read_file(self, path: str) -> str:
        self._check_reachable(path)
        descriptor = await self.open_file(path)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path!r}: cannot be read: not a regular file", code="file", subject=path)
        if status.st_size > _LONGEST_TEXT:
            raise Refused(f"{path!r}: cannot be read: larger than {_LONGEST_TEXT >> 20} MiB", code="file", subject=path)
        try:
            content = await asyncio.to_thread(os.pread, descriptor, _LONGEST_TEXT, 0)
        except OSError as error:
            raise Refused(f"{path!r}: cannot be read: {error.strerror}", code="file", subject=path) from None
        return content.decode(errors="backslashreplace")

    async def new_file(self, path: str) -> int:
        if path == _STREAM:
            return await self.open_file(path)
        self._check_reachable(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", "embedded null byte")
            raise Refused(f"{path!r}: cannot be created: {reason}", code="file", subject=path) from None
        self._made = path
        return self._client.keep_descriptor(descriptor)

    def keep_or_remove(self, *, is_kept: bool) -> None:
        """See to a file that was made: its name is on the disk like its content, or gone."""
        path, self._made = self._made, ""
        if not path:
            return
        if not is_kept:
            os.unlink(path)
            return
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _check_reachable(self, path: str) -> None:
        """Raises Refused."""
        # It names a file on the daemon's side, and must not reach files that the user may not open.
        if self._client.user_id != os.geteuid():
            raise Refused(
                f"{path!r}: cannot be opened: not permitted for user {self._client.user_id}", code="file", subject=path
            )
        if not os.path.isabs(path):
            raise Refused(f"{path!r}: cannot be opened: the path is not absolute", code="file", subject=path)

    async def descriptors(self) -> tuple[int, int, int]:
        if self._standard is None:
            stdin, stdout, stderr = await self._client.take_descriptors(3)
            self._standard = (stdin, stdout, stderr)
            if self.is_of_original:
                self._make_pipes_block()
        return self._standard

    def _make_pipes_block(self) -> None:
        """Ruby since 3.0 makes pipes that do not block, and few programs write to such without losing something.

        The ends that were sent are the command's alone: the original's client closes its own at once.
        """
        for each in self._standard or ():
            if stat.S_ISFIFO(os.fstat(each).st_mode):
                os.set_blocking(each, True)

    @property
    def has_streams(self) -> bool:
        """Whether the client gave its standard streams."""
        return self._standard is not None

    async def let_output_be_read(self) -> None:
        """Wait until the client has read what a command wrote to its pipes, as long as it continues reading.

        The original's client reads nothing more once it has seen the answer.
        """
        pipes = [each for each in (self._standard or ())[1:] if stat.S_ISFIFO(os.fstat(each).st_mode)]
        loop = asyncio.get_running_loop()
        unread, since = -1, loop.time()
        while left := sum(map(_unread_bytes, pipes)):
            if left != unread:
                unread, since = left, loop.time()
            elif loop.time() > since + _READING_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)  # nothing tells that a pipe has become empty

    async def next_signal(self) -> int:
        return await self._client.next_signal()

    def may_stop(self) -> None:
        self._client.tell({"stop": True})

    def watching(self) -> None:
        self._client.succeed(SUBSCRIBED)
        self._client.go_on_until_left()

    async def event(self, event: Event) -> None:
        self._client.succeed({"type": event.type, "opts": event.opts, "sequence": event.sequence, "time": event.time})
        await self._client.flush(is_patient=True)
