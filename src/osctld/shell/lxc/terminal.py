"""Terminals of clients, for commands inside containers.

lxc-attach relays only between a command and its own controlling terminal; what a command writes to another terminal is
lost (lxc: src/lxc/terminal.c). A client's terminal cannot be its controlling one: it is that of the client's session.
So lxc-attach never sees it. It gets a pseudo-terminal of ours when the client's input and output are terminals, pipes
in place of single terminals otherwise, and the bytes are carried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
import tty
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from osctld.core.errors import Unavailable

_CHUNK = 1 << 16
_SIZE_SECONDS = 0.5
_WINSIZE = bytes(8)  # struct winsize: four unsigned shorts, ioctl_tty(2)
#: struct termios of the kernel: flags of input, output, control and others; a line discipline, 19 characters.
_TERMIOS = struct.Struct("=4I20x")


class Streams:
    """Three streams for a program, and words to put before it: call `hand_over` once it runs.

    `hung_up` is done when a terminal that the program was to be controlled by is gone.
    """

    carrier: _Carrier | None = None

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.prefix: tuple[str, ...] = ()
        self.has_terminal = False
        self.hung_up = _future()
        self.given: set[int] = set()

    def hand_over(self) -> None:
        """Close the ends that are the program's alone: with it they reach their end."""
        while self.given:
            os.close(self.given.pop())

    def pause(self) -> None:
        """Leave the client's terminals alone: the client is about to stop, and its shell will use them."""
        if self.carrier is not None:
            self.carrier.pause()

    def resume(self) -> None:
        """Use the client's terminals again."""
        if self.carrier is not None:
            self.carrier.resume()

    def follow_size(self) -> None:
        """The client's terminal has another size, perhaps: look now."""
        if self.carrier is not None:
            self.carrier.resized.set()


@contextlib.asynccontextmanager
async def carried(stdin: int, stdout: int, stderr: int) -> AsyncIterator[Streams]:
    """Put something that can be handed to lxc-attach in place of terminals; other streams stay what they are.

    On leaving, what the ended command has written is carried to its end; after an exception it is not. The client's
    terminal is then as it was. Raises Unavailable for a terminal that cannot be used from here.
    """
    streams = Streams(stdin, stdout, stderr)
    if not any(map(os.isatty, (stdin, stdout, stderr))):
        yield streams
        return
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(streams.hand_over)
        carrier = streams.carrier = _Carrier(cleaning)
        if os.isatty(stdin) and os.isatty(stdout):
            carrier.put_terminal(streams)
        else:
            carrier.put_pipes(streams)
        try:
            yield streams
            await carrier.finish()
        finally:
            await carrier.stop()


class _Carrier:
    def __init__(self, cleaning: contextlib.ExitStack) -> None:
        self._cleaning = cleaning
        self._ends_of_input: set[int] = set()
        cleaning.callback(self._end_input)
        self._ended = _future()
        self._inputs: list[asyncio.Task[None]] = []
        self._outputs: list[asyncio.Task[None]] = []
        self.resized = asyncio.Event()
        self._may_carry = asyncio.Event()
        self._may_carry.set()
        #: The client's terminal that is in raw mode, and how it was before; None while it is as it was.
        self._raw_terminal: int | None = None
        self._cooked: tuple[int, list[Any]] | None = None

    def put_terminal(self, streams: Streams) -> None:
        """Give the command a pseudo-terminal for each of the client's terminals, which is in raw mode meanwhile."""
        source, sink = self._reopened(streams.stdin, os.O_RDONLY), self._reopened(streams.stdout, os.O_WRONLY)
        master, slave = os.openpty()
        self._own(master)
        streams.given.add(slave)
        os.set_blocking(master, False)
        size = _size(sink)
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)
        # lxc-attach makes it raw a moment later: what is typed until then must not be echoed twice.
        tty.setraw(slave)
        _pass_line_ends(slave)
        self._raw_terminal = source
        self._cleaning.callback(self._restore)
        self._make_raw()
        streams.stdin = streams.stdout = slave
        if os.isatty(streams.stderr):
            streams.stderr = slave
        streams.prefix = ("setsid", "--ctty")  # by exec: it is not a process group leader yet
        streams.has_terminal = True
        self._inputs.append(_task(self._carry_keys(source, master, streams.hung_up)))
        self._inputs.append(_task(self._follow_size(sink, master, size)))
        self._outputs.append(_task(self._carry(master, sink)))

    def put_pipes(self, streams: Streams) -> None:
        """Give the command a pipe for each of the client's terminals; one for both outputs keeps their order."""
        if os.isatty(streams.stdin):
            source = self._reopened(streams.stdin, os.O_RDONLY)
            streams.stdin, sink = os.pipe()
            streams.given.add(streams.stdin)
            os.set_blocking(sink, False)
            self._ends_of_input.add(sink)
            self._inputs.append(_task(self._carry_input(source, sink)))
        outputs = [name for name in ("stdout", "stderr") if os.isatty(getattr(streams, name))]
        if outputs:
            sink = self._reopened(getattr(streams, outputs[0]), os.O_WRONLY)
            source, given = os.pipe()
            self._own(source)
            streams.given.add(given)
            os.set_blocking(source, False)
            for name in outputs:
                setattr(streams, name, given)
            self._outputs.append(_task(self._carry(source, sink)))

    async def finish(self) -> None:
        """Forward what has been written. A process that the command left behind may keep writing, but nobody reads
        it."""
        self._ended.set_result(None)
        if not self._may_carry.is_set():
            for task in self._inputs:  # what is typed meanwhile is for the shell of the stopped client
                task.cancel()
            self._may_carry.set()
        if self._outputs:
            await asyncio.wait(self._outputs)

    async def stop(self) -> None:
        tasks = [*self._inputs, *self._outputs]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def pause(self) -> None:
        self._may_carry.clear()
        self._restore()

    def resume(self) -> None:
        if not self._may_carry.is_set():
            self._make_raw()
            self._may_carry.set()

    def _make_raw(self) -> None:
        if self._raw_terminal is not None:
            with contextlib.suppress(termios.error):  # it has gone
                self._cooked = self._raw_terminal, termios.tcgetattr(self._raw_terminal)
                # TCSANOW: to wait for the output of a terminal that somebody has stopped would be to wait for ever.
                tty.setraw(self._raw_terminal, termios.TCSANOW)

    def _restore(self) -> None:
        if self._cooked is not None:
            terminal, attributes = self._cooked
            self._cooked = None
            with contextlib.suppress(termios.error):  # it has gone
                termios.tcsetattr(terminal, termios.TCSANOW, attributes)

    def _own(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            self._cleaning.callback(os.close, descriptor)

    def _reopened(self, terminal: int, flags: int) -> int:
        """Reopen a terminal: non-blocking only for us, not for everybody who uses the client's descriptor."""
        try:
            descriptor = os.open(f"/proc/self/fd/{terminal}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(f"osctld cannot use the terminal: {error.strerror}") from error
        self._own(descriptor)
        return descriptor

    async def _carry(self, source: int, sink: int) -> None:
        with contextlib.suppress(OSError):  # EIO: a terminal has gone; EPIPE: the command reads no more
            while data := await self._read(source):
                await _write(sink, data)

    async def _carry_keys(self, source: int, sink: int, hung_up: asyncio.Future[None]) -> None:
        await self._carry(source, sink)
        _settle(hung_up)  # a terminal in raw mode has no other end

    async def _carry_input(self, source: int, sink: int) -> None:
        await self._carry(source, sink)
        self._end_input()

    def _end_input(self) -> None:
        while self._ends_of_input:
            os.close(self._ends_of_input.pop())

    async def _follow_size(self, source: int, master: int, size: bytes) -> None:
        """Give a pseudo-terminal the size of a terminal: at once when told, and now and then.

        SIGWINCH comes only to the group in the foreground of a terminal, which need not be that of the client.
        """
        with contextlib.suppress(OSError):
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SIZE_SECONDS):
                        await self.resized.wait()
                self.resized.clear()
                if (present := _size(source)) != size:
                    size = present
                    fcntl.ioctl(master, termios.TIOCSWINSZ, size)

    async def _read(self, source: int) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            await self._may_carry.wait()
            try:
                return os.read(source, _CHUNK)
            except BlockingIOError:
                if self._ended.done():
                    return b""
            readable = _future()
            loop.add_reader(source, _settle, readable)
            try:
                await asyncio.wait((readable, self._ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                loop.remove_reader(source)


async def _write(sink: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(sink, left) :]
            continue
        except BlockingIOError:
            pass
        writable = _future()
        loop.add_writer(sink, _settle, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sink)


def _pass_line_ends(terminal: int) -> None:
    """Have a terminal add no carriage returns to ends of lines, whatever lxc-attach sets: that inside has added them.

    lxc-attach sets OPOST and ONLCR, and everything that is shown would have two of them. Flags can be locked, see
    TIOCSLCKTRMIOS in ioctl_tty(2).
    """
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    fcntl.ioctl(terminal, termios.TIOCSLCKTRMIOS, _TERMIOS.pack(0, termios.ONLCR, 0, 0))


def _size(terminal: int) -> bytes:
    return fcntl.ioctl(terminal, termios.TIOCGWINSZ, _WINSIZE)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)
