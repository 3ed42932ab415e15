"""The request `cli`: a command line as it was typed. Words become a command here, and its reply text."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from osctld.aside import considered
from osctld.cli.events import event_line
from osctld.cli.interpret import interpret, refusal
from osctld.cli.parse import Invocation, wants_standard_input, with_standard_input
from osctld.cli.show import printable, show
from osctld.core.command import ExitStatus, Listing, Reply, Text, without_secrets
from osctld.core.errors import OsctlError, Refused
from osctld.core.events import Event
from osctld.core.person import Asked, Person
from osctld.core.wire import CliRequest, CliResponse
from osctld.server.documents import internal_error
from osctld.server.lines import TooLong, TooSlow
from osctld.server.ports import Caller, Performer

log = logging.getLogger("osctld")

#: Characters of a command line that are logged after an unexpected failure.
_LONGEST_LOGGED = 500


class Client(Protocol):
    """The connection that the request came from."""

    @property
    def person(self) -> Person: ...
    @property
    def longest_line(self) -> int:
        """How many bytes an answer may have."""

    def tell(self, message: Mapping[str, Any]) -> None: ...
    def succeed(self, response: Any, *, changed: bool | None = None) -> None: ...
    def fail(self, message: str, *, code: str, subject: str = "", holder: str = "") -> None: ...
    async def ask(self, need: Mapping[str, Any], *, descriptors: int = 0) -> tuple[Mapping[str, Any], list[int]]: ...
    async def next_signal(self) -> int: ...
    def close_descriptors(self) -> None: ...
    def go_on_until_left(self) -> None: ...
    async def flush(self, *, is_patient: bool = False) -> None: ...


async def answer_command_line(opts: Mapping[str, Any], performer: Performer, client: Client) -> None:
    """Perform what was typed and answer with what to print, whatever happens."""
    try:
        request = msgspec.convert(opts, CliRequest)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: a key that is not UTF-8
        client.fail(f"cli: {error}", code="bad-opts")
        return
    response = await _response(request, performer, client)
    client.succeed(msgspec.to_builtins(response))


async def _response(request: CliRequest, performer: Performer, client: Client) -> CliResponse:
    columns = request.columns
    is_json = False
    typed: Sequence[str] = ()
    try:
        interpreted = interpret(request.argv, columns=columns, client=(request.version, request.build))
        if isinstance(interpreted, CliResponse):
            return interpreted
        is_json = interpreted.options.json
        typed = without_secrets(request.argv, interpreted.command)
        caller = _Person(client, request, typed=typed, is_quiet=interpreted.options.quiet or is_json, is_json=is_json)
        is_colored = request.stdout_is_terminal and interpreted.options.color and request.terminal_type != "dumb"
        return await _perform(interpreted, performer, caller, is_colored=is_colored)
    except OsctlError as error:
        return refusal(error, columns=columns, is_json=is_json)
    except (TooLong, TooSlow, ConnectionError):
        raise
    except Exception as error:
        log.exception("a command failed: %s", printable(" ".join(typed))[:_LONGEST_LOGGED])
        return refusal(internal_error(error), is_json=is_json)
    finally:
        client.close_descriptors()


async def _perform(invocation: Invocation, performer: Performer, caller: Caller, *, is_colored: bool) -> CliResponse:
    command = invocation.command
    if wants_standard_input(command):
        command = with_standard_input(command, await caller.read_stdin())
    reply = await performer.perform(command, invocation.options, caller)
    match reply:
        case ExitStatus(status=status) | Listing(exit_status=status):
            pass
        case _:
            status = 0
    work = functools.partial(show, reply, command, invocation.options, is_colored=is_colored)
    notes = reply.notes if isinstance(reply, Listing) and not invocation.options.quiet else ()
    told = "".join(f"note: {printable(note)}\n" for note in notes)
    return CliResponse(stdout=await considered(_length(reply), work), stderr=told, exit=status)


def _length(reply: Reply) -> int:
    """How many things there are to be made into text."""
    match reply:
        case Text(lines=lines):
            return len(lines)
        case Listing(rows=rows):
            # A list in a cell may be long in a record of one thing; rows of lists have short ones.
            lists = (each for row in rows[:1] for each in row.values() if isinstance(each, list | tuple))
            return len(rows) + sum(map(len, lists))
        case _:
            return 0


class _Person:
    """The caller of a command line. Each thing is asked for once."""

    def __init__(
        self, client: Client, request: CliRequest, *, typed: Sequence[str], is_quiet: bool, is_json: bool
    ) -> None:
        """`typed` are the words without secrets."""
        self.asked = Asked(shlex.join(["osctl", *typed]), client.person)
        self.terminal_type = request.terminal_type
        self._client = client
        self._is_quiet = is_quiet
        self._is_json = is_json
        self._stdin: str | None = None
        self._standard: tuple[int, int, int] | None = None

    def progress(self, text: str) -> None:
        if not self._is_quiet:
            self._client.tell({"progress": printable(text)})

    async def read_stdin(self) -> str:
        if self._stdin is None:
            answer, _ = await self._client.ask({"need": "stdin"})
            text = answer.get("stdin")
            if not isinstance(text, str):
                raise Refused("the client passed no standard input")
            self._stdin = text
        return self._stdin

    async def open_file(self, path: str) -> int:
        answer, received = await self._client.ask({"need": "file", "path": path}, descriptors=1)
        if "error" in answer:
            raise Refused(f"{path!r}: cannot be opened: {answer['error']}", code="file", subject=path)
        if stat.S_ISDIR(os.fstat(received[0]).st_mode):
            raise Refused(f"{path!r}: cannot be opened: Is a directory", code="file", subject=path)
        return received[0]

    async def read_file(self, path: str) -> str:
        # By the client: whoever may only look must not make us wait for a file that never comes to an end.
        answer, _ = await self._client.ask({"need": "text", "path": path, "longest": self._client.longest_line})
        if "error" in answer:
            raise Refused(f"{path!r}: cannot be read: {answer['error']}", code="file", subject=path)
        text = answer.get("text")
        if not isinstance(text, str):
            raise Refused(f"{path!r}: the client passed no text", code="file", subject=path)
        # What was no text arrives as lone surrogates (PEP 383).
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")

    async def new_file(self, path: str) -> int:
        answer, received = await self._client.ask({"need": "new file", "path": path}, descriptors=1)
        if "error" in answer:
            raise Refused(f"{path!r}: cannot be created: {answer['error']}", code="file", subject=path)
        return received[0]

    async def descriptors(self) -> tuple[int, int, int]:
        if self._standard is None:
            answer, received = await self._client.ask({"need": "descriptors"}, descriptors=3)
            if "error" in answer:
                raise Refused(f"the client passed no descriptors: {answer['error']}")
            self._standard = (received[0], received[1], received[2])
        return self._standard

    async def next_signal(self) -> int:
        return await self._client.next_signal()

    def may_stop(self) -> None:
        self._client.tell({"stop": True})

    def watching(self) -> None:
        self._client.go_on_until_left()

    async def event(self, event: Event) -> None:
        self._client.tell({"print": event_line(event, is_json=self._is_json)})
        await self._client.flush(is_patient=True)
