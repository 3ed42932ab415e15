"""The bytes of one connection: lines that come and lines that go, and descriptors beside them.

Descriptors arrive with the bytes (SCM_RIGHTS), which asyncio's streams would drop: hence raw sockets. They are handed
on as they are and never waited for in the event loop, because that would make the terminal of the person who typed
the command non-blocking.
"""

from __future__ import annotations

import array
import asyncio
import errno
import logging
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable

log = logging.getLogger("osctld")

_CHUNK = 1 << 18
_MOST_DESCRIPTORS = 3


class Gone(ConnectionError):
    """The client ended its side: nothing more will come from it."""


class TooLong(Exception):
    """A line without an end."""


class TooSlow(Exception):
    """A line that was begun and not ended in time."""


class Lines:
    """Both directions of one connected socket. Its reader never waits; what is not sent at once is kept."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        longest: int,
        line_seconds: float,
        taking_seconds: float,
        on_hang_up: Callable[[], None],
    ) -> None:
        """`longest` is in bytes. A line takes `line_seconds` at most from its first byte to its last, and while
        something is to be taken, some of it has to be within `taking_seconds`.

        `on_hang_up` is called when the other side is closed altogether, rather than for sending only.
        """
        connection.setblocking(False)
        self._socket = connection
        self._longest = longest
        self._line_seconds = line_seconds
        self._taking_seconds = taking_seconds
        self._on_hang_up = on_hang_up
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        # Incoming.
        self._partial = bytearray()
        #: When the first byte of the partial line came.
        self._begun = 0.0
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_reading = False
        self._has_ended = False
        #: Watches whether the client leaves while nothing is read from it.
        self._farewell: select.epoll | None = None
        self._arrival = asyncio.Event()
        #: Descriptors are taken only while they are wanted; others are closed as they come.
        self.wants_descriptors = False
        self._descriptors: list[int] = []
        # Outgoing.
        self._unsent = bytearray()
        self._sent = asyncio.Event()
        #: When some of it was taken last.
        self._taken = 0.0
        self._read_on()

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._watch_no_more()
        self.close_descriptors()
        self._is_closed = True
        self._socket.close()
        # Many megabytes perhaps, and who refers to us refers to each other: the collector would come much later.
        self._partial.clear()
        self._lines.clear()
        self._unsent.clear()

    # --- incoming ---------------------------------------------------------------------------------------------------

    async def next(self) -> bytes:
        """The next line. Raises Gone when none will come, TooLong or TooSlow when it does not end."""
        called = self._loop.time()
        while not self._lines:
            if len(self._partial) > self._longest:
                raise TooLong
            if self._has_ended:
                raise Gone
            self._arrival.clear()
            # As long as we did not want it, it was not too slow: perhaps we did not read.
            end = max(called, self._begun) + self._line_seconds if self._partial else None
            try:
                async with asyncio.timeout_at(end):
                    await self._arrival.wait()
            except TimeoutError:
                raise TooSlow from None
        line = self._lines.popleft()
        self._waiting_bytes -= len(line) + 1
        if len(line) > self._longest:
            raise TooLong
        if self._waiting_bytes <= self._longest:
            self._read_on()
        return line

    async def next_octet(self) -> int:
        """The next byte, whatever it is. Raises Gone when none will come."""
        while not self._lines and not self._partial:
            if self._has_ended:
                raise Gone
            self._arrival.clear()
            await self._arrival.wait()
        if self._lines:
            line = self._lines.popleft() + b"\n"
            if len(line) > 1:
                self._lines.appendleft(line[1:-1])
        else:
            line = bytes(self._partial[:1])
            del self._partial[:1]
        self._waiting_bytes -= 1
        return line[0]

    def keep_descriptor(self, descriptor: int) -> int:
        """Close it with those that came."""
        self._descriptors.append(descriptor)
        return descriptor

    async def next_that(self, is_meant: Callable[[bytes], bool]) -> bytes:
        """Wait for a line of a kind. Others keep their turn; none of the kind may ever come."""
        while True:
            for line in self._lines:
                if is_meant(line):
                    self._lines.remove(line)
                    self._waiting_bytes -= len(line) + 1
                    return line
            self._arrival.clear()
            await self._arrival.wait()

    def take_descriptors(self, *, behind: int = 0) -> list[int]:
        """The descriptors that came, without the first `behind`. They stay ours to close."""
        return self._descriptors[behind:]

    @property
    def descriptor_count(self) -> int:
        return len(self._descriptors)

    def close_descriptors(self) -> None:
        """Close all descriptors that came so far."""
        _close_all(self._descriptors)
        self._descriptors.clear()

    def _read_on(self) -> None:
        if not self._is_reading and not self._has_ended:
            self._is_reading = True
            self._watch_no_more()
            self._loop.add_reader(self._socket, self._on_readable)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)
            # For no event: that both directions are closed is reported anyway (unix_poll in net/unix/af_unix.c).
            self._farewell = select.epoll()
            self._farewell.register(self._socket, 0)
            self._loop.add_reader(self._farewell, self._on_left)

    def _on_left(self) -> None:
        self._watch_no_more()
        self._on_hang_up()

    def _watch_no_more(self) -> None:
        if self._farewell is not None:
            self._loop.remove_reader(self._farewell)
            self._farewell.close()
            self._farewell = None

    def _on_readable(self) -> None:
        try:
            data, descriptors = _receive(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        if self.wants_descriptors:
            self._descriptors.extend(descriptors)
        else:
            _close_all(descriptors)
        if data:
            self._take(data)
        else:
            self._end()

    def _take(self, data: bytes) -> None:
        if not self._partial:
            self._begun = self._loop.time()
        self._partial += data
        self._waiting_bytes += len(data)
        if b"\n" in data:
            *lines, rest = self._partial.split(b"\n")
            self._lines.extend(bytes(line) for line in lines)
            self._partial = rest
            self._begun = self._loop.time()
        # Backpressure: a client that sends faster than it is answered waits in its own send.
        if self._waiting_bytes > self._longest:
            self._stop_reading()
        self._arrival.set()

    def _end(self) -> None:
        """Nothing more comes. A client that only shut its sending side still waits for an answer, any other is gone."""
        self._has_ended = True
        self._arrival.set()
        self._stop_reading()
        if self._farewell is not None and self._farewell.poll(0):
            self._on_left()  # at once, before a waiting reader is told that there is no more

    # --- outgoing ---------------------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """What was said and not taken yet."""
        return len(self._unsent)

    def write(self, line: bytes) -> None:
        """Send a line, at once as far as the client takes it, the rest when it reads on."""
        if self._is_closed:
            return  # work that continues without its client may still produce output
        if not self._unsent:
            self._taken = self._loop.time()
        self._unsent += line + b"\n"
        self._send_some()
        if self._unsent:
            self._loop.add_writer(self._socket, self._send_some)

    async def flush(self, *, is_patient: bool = False) -> None:
        """Wait until all is sent. Raises Gone when the client takes none of it for too long, unless `is_patient`."""
        called = self._loop.time()
        while self._unsent:
            self._sent.clear()
            end = None if is_patient else max(called, self._taken) + self._taking_seconds
            try:
                async with asyncio.timeout_at(end):
                    await self._sent.wait()
            except TimeoutError:
                if self._loop.time() >= max(called, self._taken) + self._taking_seconds:
                    raise Gone("does not read its answer") from None

    def _send_some(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
                self._taken = self._loop.time()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._unsent.clear()  # gone; the reader says so
        self._loop.remove_writer(self._socket)
        self._sent.set()


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Bytes and the descriptors beside them, which are not inherited by children. No bytes: the end."""
    size = array.array("i").itemsize
    data, ancillary, _, _ = connection.recvmsg(
        _CHUNK, socket.CMSG_SPACE(_MOST_DESCRIPTORS * size), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % size])
    return data, list(descriptors)


def _close_all(descriptors: Iterable[int]) -> None:
    for each in descriptors:
        try:
            os.close(each)
        except OSError as error:
            if error.errno == errno.EBADF:  # a programming error: closed by somebody else
                log.error("descriptor %d of a client was closed elsewhere", each)
