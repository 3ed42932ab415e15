"""One client: its requests, answered in order. A slow client delays nobody else."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from osctld.cli.show import printable
from osctld.cli.version import VERSION
from osctld.core.errors import Refused
from osctld.core.wire import Request
from osctld.server.command_line import answer_command_line
from osctld.server.lines import LONGEST_LINE, Gone, Lines, TooLong
from osctld.server.ports import Performer

#: Characters of a wrong command's name that are quoted back.
_LONGEST_QUOTE = 100

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
            self.fail(f"request is longer than {LONGEST_LINE} bytes")
            await self._lines.flush()
        except (Gone, ConnectionError):
            pass
        finally:
            self._lines.close()

    def finish(self) -> None:
        """End after the running request, now when there is none."""
        self._is_finishing = True
        if not self._is_busy:
            self._cancel()

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _answer(self, line: bytes) -> None:
        try:
            document = _decode(line)
        except ValueError:
            self.fail(_NOT_JSON)
            return
        request = _request(document)
        if isinstance(request, str):
            self.fail(request)
        elif request.cmd == "cli":
            await answer_command_line(request.opts, self._performer, self)
        elif request.cmd == "self_ping":
            self.succeed("pong")
        else:
            self.fail(f"Unsupported command {_quoted(request.cmd)}")

    # --- answers ----------------------------------------------------------------------------------------------------

    def tell(self, message: Mapping[str, Any]) -> None:
        """Say something that is not the last word on a request."""
        self._write({"status": True, **message})

    def succeed(self, response: Any) -> None:
        self._write({"status": True, "response": response})

    def fail(self, message: str) -> None:
        self._write({"status": False, "message": message})

    def _write(self, message: Mapping[str, Any]) -> None:
        self._lines.write(_encode(message))

    # --- what only the client can give ------------------------------------------------------------------------------

    async def ask(self, need: Mapping[str, Any], *, descriptors: int = 0) -> tuple[Mapping[str, Any], list[int]]:
        """Ask the client for something; return its answer, and the descriptors that came with it.

        Raises Refused when it gives something else.
        """
        self._lines.wants_descriptors = descriptors > 0
        before = self._lines.descriptor_count
        try:
            self.tell(need)
            document = _decode(await self._lines.next())
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

    def close_descriptors(self) -> None:
        """Close what the client gave for the request that has ended."""
        self._lines.close_descriptors()


# --- documents ----------------------------------------------------------------------------------------------------


def _decode(line: bytes) -> Any:
    """Raises ValueError for what is not JSON."""
    try:
        return msgspec.json.decode(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.DecodeError:
        if b"\\u" not in line:
            raise ValueError("not JSON") from None
    # Words that are not UTF-8 travel as lone surrogates, which msgspec refuses as a whole; they shall be quoted back.
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _request(document: Any) -> Request | str:
    """A request, or what is wrong with it."""
    if not isinstance(document, dict):
        return "expected a JSON object"
    cmd, opts = document.get("cmd"), document.get("opts")
    if not isinstance(cmd, str):
        return "cmd: expected the name of a command"
    if opts is None:
        opts = {}
    if not isinstance(opts, dict):
        return "opts: expected an object"
    return Request(cmd, opts)


def _encode(message: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        return json.dumps(message).encode()


def _quoted(text: str) -> str:
    return f"'{printable(text[:_LONGEST_QUOTE])}{'...' * (len(text) > _LONGEST_QUOTE)}'"
