"""The control socket of BIRD: one command at a time, an answer of lines with codes.

The format, from BIRD's programmer's documentation: `NNNN-text` is a line with more to come, ` text` another one with
the same code, `NNNN text` the last one. Codes below 1000 say that it was done, 1000 to 7999 head data, 8000 and above
are errors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from osctld.core.errors import Unavailable

#: Seconds for one answer. BIRD answers within a millisecond; one that is stopped in a debugger does not at all.
ANSWER_SECONDS = 5.0
#: Bytes of a line at most.
LONGEST_LINE = 1 << 20
_FIRST_ERROR = 8000


class Answer(msgspec.Struct, frozen=True):
    """All lines of an answer without their codes, and the code of the last."""

    code: int
    lines: tuple[str, ...]

    @property
    def is_error(self) -> bool:
        return self.code >= _FIRST_ERROR

    @property
    def last(self) -> str:
        return self.lines[-1] if self.lines else ""


class BirdControl:
    """An open connection. Made by `connected`."""

    def __init__(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: str) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        #: What BIRD says first, with its version.
        self.greeting = greeting

    async def ask(self, command: str) -> Answer:
        """Give one command. Raises Unavailable when no answer comes, or none that makes sense."""
        try:
            self._writer.write(f"{command}\n".encode())
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._writer.drain()
                return await _answer(self._reader)
        except (OSError, ValueError) as error:
            raise _unavailable(self._path, error) from error


@contextlib.asynccontextmanager
async def connected(path: str) -> AsyncIterator[BirdControl]:
    """A connection to BIRD. Raises Unavailable when it does not answer."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
    except OSError as error:
        raise _unavailable(path, error) from error
    try:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                greeting = await _answer(reader)
        except (OSError, ValueError) as error:
            raise _unavailable(path, error) from error
        yield BirdControl(path, reader, writer, greeting.last)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    """Raises ValueError for what is no answer, OSError when the connection ends."""
    lines = []
    while True:
        line = (await reader.readline()).decode(errors="replace")
        if not line.endswith("\n"):
            raise ConnectionResetError("the connection was closed")
        line = line.rstrip("\n")
        if line.startswith(("+", " ")):
            lines.append(line[1:])
            continue
        code, mark, text = line[:4], line[4:5], line[5:]
        if not code.isdigit() or mark not in (" ", "-"):
            raise ValueError(f"{line[:80]!r} is no answer")
        lines.append(text)
        if mark == " ":
            return Answer(int(code), tuple(lines))


def _unavailable(path: str, error: Exception) -> Unavailable:
    why = "it does not answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
    return Unavailable(f"'{path}': BIRD: {why}", code="router-unavailable", subject=path)
