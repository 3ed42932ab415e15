"""One client: its requests, answered in order. A slow client delays nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from osctld.cli.version import BUILD, VERSION
from osctld.core.access import Role
from osctld.core.errors import Refused
from osctld.core.person import Person
from osctld.server.command_line import answer_command_line
from osctld.server.documents import decode, encode, request, signal_number
from osctld.server.door import Limits, Peer
from osctld.server.lines import Gone, Lines, TooLong, TooSlow
from osctld.server.ports import Performer
from osctld.server.program import CONTINUE, answer_program

log = logging.getLogger("osctld")

#: How long the streams of a command that has ended are kept from their end.
_HOLDING_SECONDS = 10.0

_NOT_JSON = "syntax error, expected a valid JSON"


class Connection:
    """Greets, then answers request after request until the client goes or the server closes."""

    def __init__(
        self,
        connection: socket.socket,
        performer: Performer,
        *,
        peer: Peer,
        role: Role,
        limits: Limits,
        may_keep: Callable[[Connection], bool],
    ) -> None:
        """`performer` does what somebody of this role may ask for. `may_keep` is asked whether as much as the client
        has not taken yet may be kept for it."""
        self.peer = peer
        self._performer = performer
        self._limits = limits
        self._longest = limits.longest_line if role is Role.OPERATOR else limits.longest_line_of_reader
        self._may_keep = may_keep
        self._lines = Lines(
            connection,
            longest=self._longest,
            line_seconds=limits.request_seconds,
            taking_seconds=limits.answer_seconds,
            on_hang_up=self._cancel,
        )
        self.task: asyncio.Task[None] | None = None
        self._is_busy = False
        self._is_finishing = False
        #: Closes the streams of a command that has ended, unless the client moves before.
        self._letting_go: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        try:
            self._write({"version": VERSION, "build": BUILD})
            while not self._is_finishing:
                line = await self._lines.next()
                self._let_go()
                self._is_busy = True
                try:
                    await self._answer(line)
                    await self._lines.flush()
                finally:
                    self._is_busy = False
        except (TooLong, TooSlow, ConnectionError) as error:
            await self._say_farewell(error)
        finally:
            self._let_go()
            self._lines.close()
            # A cancelled task keeps its last frame, and with it the last request of us, who would keep the task.
            self.task = None

    async def _say_farewell(self, error: Exception) -> None:
        seconds = self._limits.request_seconds
        match error:
            case TooLong():
                self.fail(f"request is longer than {self._longest} bytes", code="too-long")
            case TooSlow():
                self.fail(f"request not complete within {seconds:g} s", code="too-slow")
            case Gone(args=(str(why),)):
                log.warning("a client of user %d %s; its connection is closed", self.peer.user, why)
                return
            case _:
                return
        with contextlib.suppress(ConnectionError):
            await self._lines.flush()

    def finish(self) -> None:
        """End after the running request, now when there is none."""
        self._is_finishing = True
        if not self._is_busy:
            self._cancel()

    def go_on_until_left(self) -> None:
        """The running request has no end: finishing does not wait for it."""
        self._is_busy = False
        if self._is_finishing:
            self._cancel()

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _answer(self, line: bytes) -> None:
        try:
            asked = request(decode(line))
        except ValueError:
            self.fail(_NOT_JSON, code="bad-json")
            return
        if signal_number(line) is not None:
            return  # it crossed with the end of the command that it was for
        if isinstance(asked, str):
            self.fail(asked, code="bad-request")
        elif asked.cmd == "cli":
            await answer_command_line(asked.opts, self._performer, self)
        else:
            await answer_program(asked.cmd, asked.opts, self._performer, self)

    # --- answers ----------------------------------------------------------------------------------------------------

    def tell(self, message: Mapping[str, Any]) -> None:
        """Say something that is not the last word on a request."""
        self._write({"status": True, **message})

    def succeed(self, response: Any, *, changed: bool | None = None) -> None:
        self._write({"status": True, "response": response, **({} if changed is None else {"changed": changed})})

    def fail(self, message: str, *, code: str, subject: str = "", holder: str = "") -> None:
        self._write({"status": False, "message": message, "code": code, "subject": subject, "holder": holder})

    def _write(self, message: Mapping[str, Any]) -> None:
        self._lines.write(encode(message))
        if self._lines.unsent_bytes and not self._may_keep(self):
            log.warning("a client of user %d has too much unread output; its connection is closed", self.peer.user)
            self._cancel()  # as if it had left: what performs its command knows that

    @property
    def unsent_bytes(self) -> int:
        return self._lines.unsent_bytes

    async def flush(self, *, is_patient: bool = False) -> None:
        """Wait until all that was said has been taken. Raises ConnectionError when the client takes nothing for too
        long, unless `is_patient`."""
        await self._lines.flush(is_patient=is_patient)

    # --- what only the client can give ------------------------------------------------------------------------------

    async def ask(self, need: Mapping[str, Any], *, descriptors: int = 0) -> tuple[Mapping[str, Any], list[int]]:
        """Ask the client for something; return its answer, and the descriptors that came with it.

        Raises Refused when it gives something else.
        """
        self._lines.wants_descriptors = descriptors > 0
        before = self._lines.descriptor_count
        try:
            self.tell(need)
            document = decode(await self._lines.next())
        except ValueError:
            raise Refused(f"the client answered {need['need']!r} with something other than JSON") from None
        finally:
            self._lines.wants_descriptors = False
        if not isinstance(document, dict):
            raise Refused(f"the client answered {need['need']!r} with something other than an object")
        received = self._lines.take_descriptors(behind=before)
        if "error" not in document and len(received) != descriptors:
            raise Refused(f"the client sent {len(received)} descriptors for {need['need']!r} instead of {descriptors}")
        return document, received

    async def take_descriptors(self, count: int) -> list[int]:
        """Tell the client to continue, and receive this many descriptors: each with one byte of any value.

        Raises Refused when there are fewer.
        """
        lines = self._lines
        before = lines.descriptor_count
        lines.wants_descriptors = True
        try:
            self.succeed(CONTINUE)
            octets = 0
            while octets < count and lines.descriptor_count < before + count:
                await lines.next_octet()
                octets += 1
        finally:
            lines.wants_descriptors = False
        received = lines.take_descriptors(behind=before)
        if len(received) != count:
            raise Refused(f"the client sent {len(received)} descriptors instead of {count}", code="bad-descriptors")
        return received

    def keep_descriptor(self, descriptor: int) -> int:
        """Close it with those of the client."""
        return self._lines.keep_descriptor(descriptor)

    @property
    def user_id(self) -> int:
        return self.peer.user

    @property
    def longest_line(self) -> int:
        return self._longest

    @property
    def person(self) -> Person:
        return self.peer.person

    async def next_signal(self) -> int:
        """Wait for a line that names a signal. Other lines are requests, which are handled later."""
        number = signal_number(await self._lines.next_that(lambda line: signal_number(line) is not None))
        assert number is not None
        return number

    def close_descriptors(self, *, is_later: bool = False) -> None:
        """Close what the client gave for the request that has ended; `is_later` when it asks for something else or
        leaves. One that does neither may wait for the end of its pipes, and gets it after a while."""
        if is_later:
            self._letting_go = asyncio.get_running_loop().call_later(_HOLDING_SECONDS, self._let_go)
        else:
            self._lines.close_descriptors()

    def _let_go(self) -> None:
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go = None
            self._lines.close_descriptors()
