"""One client: its requests, answered in order. A slow client delays nobody else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from osctld.cli.version import VERSION
from osctld.core.errors import Refused
from osctld.server.command_line import answer_command_line
from osctld.server.documents import decode, encode, request, signal_number
from osctld.server.lines import LONGEST_LINE, Lines, TooLong
from osctld.server.ports import Performer
from osctld.server.program import CONTINUE, answer_program

_NOT_JSON = "syntax error, expected a valid JSON"


class Connection:
    """Greets, then answers request after request until the client goes or the server closes."""

    def __init__(self, connection: socket.socket, performer: Performer) -> None:
        self._performer = performer
        self._lines = Lines(connection, on_hang_up=self._cancel)
        self.task: asyncio.Task[None] | None = None
        self._is_busy = False
        self._is_finishing = False

    async def serve(self) -> None:
        try:
            self._write({"version": VERSION})
            while not self._is_finishing:
                line = await self._lines.next()
                self._is_busy = True
                try:
                    await self._answer(line)
                    await self._lines.flush()
                finally:
                    self._is_busy = False
        except TooLong:
            self.fail(f"request is longer than {LONGEST_LINE} bytes", code="too-long")
            await self._lines.flush()
        except ConnectionError:
            pass
        finally:
            self._lines.close()
            # A cancelled task keeps its last frame, and with it the last request of us, who would keep the task.
            self.task = None

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

    async def flush(self) -> None:
        """Wait until all that was said has been taken."""
        await self._lines.flush()

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
            raise Refused(f"the client answered {need['need']!r} with something else than JSON") from None
        finally:
            self._lines.wants_descriptors = False
        if not isinstance(document, dict):
            raise Refused(f"the client answered {need['need']!r} with something else than an object")
        received = self._lines.take_descriptors(behind=before)
        if "error" not in document and len(received) != descriptors:
            raise Refused(f"the client sent {len(received)} descriptors for {need['need']!r} instead of {descriptors}")
        return document, received

    async def take_descriptors(self, count: int) -> list[int]:
        """Tell the client to go on, and take as many descriptors: each beside one byte, of whatever value.

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
        return self._lines.user_id

    async def next_signal(self) -> int:
        """Wait for a line that tells of a signal. What else arrives are requests, whose turn comes later."""
        number = signal_number(await self._lines.next_that(lambda line: signal_number(line) is not None))
        assert number is not None
        return number

    def close_descriptors(self) -> None:
        """Close what the client gave for the request that has ended."""
        self._lines.close_descriptors()
