"""The socket: one JSON document a line in, one out. Words become commands here, and replies become text.

Each connection has a reader that never waits, and one task that takes its requests in order; a slow client delays
nobody else. Descriptors arrive beside the bytes (SCM_RIGHTS), which asyncio's streams would drop: hence raw sockets.
Descriptors are handed on as they are and never waited for in the event loop, because that would make the terminal
of the person who typed the command non-blocking. The protocol is described in `osctld.core.wire`.
"""

from __future__ import annotations

import array
import asyncio
import errno
import json
import logging
import os
import select
import shlex
import socket
import stat
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from osctld.cli.interpret import error_line, interpret, refusal
from osctld.cli.parse import Invocation, wants_standard_input, with_standard_input
from osctld.cli.show import printable, show
from osctld.cli.version import VERSION
from osctld.core.command import Command, ExitStatus, GlobalOptions, Reply
from osctld.core.errors import OsctlError, Refused
from osctld.core.wire import CliRequest, CliResponse, Request

log = logging.getLogger("osctld")

#: Bytes of the longest request line.
LONGEST_LINE = 1 << 24

_CHUNK = 1 << 18
_MOST_DESCRIPTORS = 3
_SOCKET_MODE = 0o600
_BACKLOG = 512
#: Seconds until connections are accepted again after descriptors ran out.
_ACCEPT_PAUSE = 0.5
#: Characters of a wrong command's name that are quoted back.
_LONGEST_QUOTE = 100
#: Characters of a command line that are logged when it failed in a way that nobody foresaw.
_LONGEST_LOGGED = 500

_NOT_JSON = "syntax error, expected a valid JSON"


class Caller(Protocol):
    """The client of one request: what only it can give, asked for when needed. Descriptors live until the end of
    the request and stay non-inheritable."""

    @property
    def command_line(self) -> str:
        """What was typed, as a shell would take it."""

    def progress(self, text: str) -> None:
        """Tell the person one line now."""

    async def read_stdin(self) -> str:
        """All of the caller's standard input. Raises Refused when it cannot be had."""

    async def open_file(self, path: str) -> int:
        """A descriptor of a file, opened for reading with the caller's rights. Raises Refused, quoting the path."""

    async def descriptors(self) -> tuple[int, int, int]:
        """The caller's standard input, output and error. Raises Refused when they cannot be had."""


class Performer(Protocol):
    """Who performs commands. Cancelled when the client goes away: it shields what must not be torn."""

    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        """Raises OsctlError."""


class Server:
    """Listens on a Unix socket and answers until closed."""

    def __init__(self, performer: Performer, path: str) -> None:
        self.performer = performer
        self.path = path
        self._listener: socket.socket | None = None
        self._inode = 0
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Listen. Whoever calls this holds the daemon's lock: a socket file that is there is a dead daemon's.

        Raises Refused when the path is too long or something else is there, OSError when it cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            # The mode of an unbound socket is that of the file made by bind: no moment in which others may connect,
            # and no umask changed under other threads (unix_bind in linux/net/unix/af_unix.c).
            os.fchmod(listener.fileno(), _SOCKET_MODE)
            _remove_stale_socket(self.path)
            _bind(listener, self.path)
            self._inode = os.stat(self.path).st_ino
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    async def close(self, *, grace_seconds: float = 10.0) -> None:
        """Accept nothing more, let running requests finish for a while, cancel what is left, remove the socket."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self._remove_socket()
        for connection in list(self._connections):
            connection.finish()
        tasks = set(self._connections.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=grace_seconds)

    def _remove_socket(self) -> None:
        try:
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            log.error("cannot accept a connection: %s", error)
            # Out of descriptors or memory: the waiting client keeps the listener readable, and the loop would spin.
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(_ACCEPT_PAUSE, self._accept_again)
            return
        connection = _Connection(accepted, self.performer)
        task = asyncio.get_running_loop().create_task(connection.serve())
        connection.task = task
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection, None))

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)


def _remove_stale_socket(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused(f"{path!r} is in the way: not a socket", code="socket-path", subject=path)
    os.unlink(path)


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno is not None:
            raise
        # Python's own check against sun_path, 108 bytes with the final NUL (unix(7)); it has no errno.
        raise Refused(
            f"{path!r} is too long for a socket: 107 bytes at most", code="socket-path", subject=path
        ) from None


class _Gone(Exception):
    """The client ended its side: nothing more will come from it."""


class _TooLong(Exception):
    """A line without an end."""


class _Connection:
    """One client: bytes in both directions, and the request that is being answered."""

    def __init__(self, connection: socket.socket, performer: Performer) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._performer = performer
        self._loop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None
        self._is_busy = False
        self._is_finishing = False
        self._is_closed = False
        # Incoming.
        self._partial = bytearray()
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_reading = False
        self._has_ended = False
        self._arrival = asyncio.Event()
        # Descriptors are taken only while one is asked for.
        self._wants_descriptors = False
        self._descriptors: list[int] = []
        # Outgoing.
        self._unsent = bytearray()
        self._sent = asyncio.Event()

    # --- the life of a connection -----------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Greet, then answer request after request until the client goes or the server closes."""
        self._read_on()
        try:
            self._write({"version": VERSION})
            while not self._is_finishing:
                line = await self._line()
                self._is_busy = True
                try:
                    await self._answer(line)
                    await self._flush()
                finally:
                    self._is_busy = False
        except _TooLong:
            self._write(_failure(f"request is longer than {LONGEST_LINE} bytes"))
            await self._flush()
        except (_Gone, ConnectionError):
            pass
        finally:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._close_descriptors()
            self._is_closed = True
            self._socket.close()

    def finish(self) -> None:
        """End after the running request, now when there is none."""
        self._is_finishing = True
        if not self._is_busy and self.task is not None:
            self.task.cancel()

    # --- incoming ---------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._is_reading and not self._has_ended:
            self._is_reading = True
            self._loop.add_reader(self._socket, self._on_readable)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def _on_readable(self) -> None:
        try:
            data, descriptors = _receive(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        if self._wants_descriptors:
            self._descriptors.extend(descriptors)
        else:
            _close_all(descriptors)
        if data:
            self._take(data)
        else:
            self._end()

    def _take(self, data: bytes) -> None:
        self._partial += data
        self._waiting_bytes += len(data)
        if b"\n" in data:
            *lines, rest = self._partial.split(b"\n")
            self._lines.extend(bytes(line) for line in lines)
            self._partial = rest
        # Backpressure: a client that sends faster than it is answered waits in its own send.
        if self._waiting_bytes > LONGEST_LINE:
            self._stop_reading()
        self._arrival.set()

    def _end(self) -> None:
        """Nothing more comes. A client that only shut its sending side still waits for an answer, any other is gone."""
        self._has_ended = True
        self._stop_reading()
        self._arrival.set()
        if _has_hung_up(self._socket) and self.task is not None:
            self.task.cancel()

    async def _line(self) -> bytes:
        """The next line. Raises _Gone when none will come, _TooLong when it does not end."""
        while not self._lines:
            if len(self._partial) > LONGEST_LINE:
                raise _TooLong
            if self._has_ended:
                raise _Gone
            self._arrival.clear()
            await self._arrival.wait()
        line = self._lines.popleft()
        self._waiting_bytes -= len(line) + 1
        if len(line) > LONGEST_LINE:
            raise _TooLong
        if self._waiting_bytes <= LONGEST_LINE:
            self._read_on()
        return line

    # --- outgoing ---------------------------------------------------------------------------------------------------

    def _write(self, message: Mapping[str, Any]) -> None:
        """Send a message, at once as far as the client takes it, the rest when it reads on."""
        if self._is_closed:
            return  # work that goes on without its client may still have something to say
        self._unsent += _encode(message) + b"\n"
        self._send_some()
        if self._unsent:
            self._loop.add_writer(self._socket, self._send_some)

    def _send_some(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._unsent.clear()  # gone; the reader says so
        self._loop.remove_writer(self._socket)
        self._sent.set()

    async def _flush(self) -> None:
        """Wait until all is sent."""
        while self._unsent:
            self._sent.clear()
            await self._sent.wait()

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _answer(self, line: bytes) -> None:
        try:
            document = _decode(line)
        except ValueError:
            self._write(_failure(_NOT_JSON))
            return
        request = _request(document)
        if isinstance(request, str):
            self._write(_failure(request))
        elif request.cmd == "cli":
            await self._answer_cli(request.opts)
        elif request.cmd == "self_ping":
            self._write(_success("pong"))
        else:
            self._write(_failure(f"Unsupported command {_quoted(request.cmd)}"))

    async def _answer_cli(self, opts: Mapping[str, Any]) -> None:
        try:
            request = msgspec.convert(opts, CliRequest)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: a key that is not UTF-8
            self._write(_failure(f"cli: {error}"))
            return
        response = await self._response(request)
        self._write(_success(msgspec.to_builtins(response)))

    async def _response(self, request: CliRequest) -> CliResponse:
        columns = request.columns
        caller: _Caller | None = None
        try:
            interpreted = interpret(request.argv, columns=columns)
            if isinstance(interpreted, CliResponse):
                return interpreted
            caller = _Caller(self, request.argv, is_quiet=interpreted.options.quiet or interpreted.options.json)
            return await self._perform(interpreted, caller)
        except OsctlError as error:
            return refusal(error, columns=columns)
        except (_Gone, _TooLong, ConnectionError):
            raise
        except Exception as error:
            log.exception("a command failed: %s", printable(" ".join(request.argv))[:_LONGEST_LOGGED])
            summary = printable(str(error))[:_LONGEST_QUOTE]
            text = f"internal error ({type(error).__name__}: {summary}), see the log of osctld"
            return CliResponse(stderr=error_line(text), exit=1)
        finally:
            self._close_descriptors()

    async def _perform(self, invocation: Invocation, caller: _Caller) -> CliResponse:
        command = invocation.command
        if wants_standard_input(command):
            command = with_standard_input(command, await caller.read_stdin())
        reply = await self._performer.perform(command, invocation.options, caller)
        status = reply.status if isinstance(reply, ExitStatus) else 0
        return CliResponse(stdout=show(reply, command, invocation.options), exit=status)

    # --- what only the client can give ------------------------------------------------------------------------------

    def tell(self, message: Mapping[str, Any]) -> None:
        self._write({"status": True, **message})

    async def ask(self, need: Mapping[str, Any], *, descriptors: int = 0) -> tuple[Mapping[str, Any], list[int]]:
        """Ask the client for something; return its answer, and the descriptors that came with it.

        Raises Refused when it gives something else.
        """
        self._wants_descriptors = descriptors > 0
        before = len(self._descriptors)
        try:
            self.tell(need)
            document = _decode(await self._line())
        except ValueError:
            raise Refused(f"the client answered {need['need']!r} with something else than JSON") from None
        finally:
            self._wants_descriptors = False
        if not isinstance(document, dict):
            raise Refused(f"the client answered {need['need']!r} with something else than an object")
        received = self._descriptors[before:]
        if "error" not in document and len(received) != descriptors:
            raise Refused(f"the client sent {len(received)} descriptors for {need['need']!r} instead of {descriptors}")
        return document, received

    def _close_descriptors(self) -> None:
        _close_all(self._descriptors)
        self._descriptors.clear()


class _Caller:
    """What a command may ask of its client. Each thing is asked for once."""

    def __init__(self, connection: _Connection, argv: Sequence[str], *, is_quiet: bool) -> None:
        self.command_line = shlex.join(["osctl", *argv])
        self._connection = connection
        self._is_quiet = is_quiet
        self._stdin: str | None = None
        self._standard: tuple[int, int, int] | None = None

    def progress(self, text: str) -> None:
        if not self._is_quiet:
            self._connection.tell({"progress": printable(text)})

    async def read_stdin(self) -> str:
        if self._stdin is None:
            answer, _ = await self._connection.ask({"need": "stdin"})
            text = answer.get("stdin")
            if not isinstance(text, str):
                raise Refused("the client gave no standard input")
            self._stdin = text
        return self._stdin

    async def open_file(self, path: str) -> int:
        answer, received = await self._connection.ask({"need": "file", "path": path}, descriptors=1)
        if "error" in answer:
            raise Refused(f"cannot open {path!r}: {answer['error']}", code="file", subject=path)
        return received[0]

    async def descriptors(self) -> tuple[int, int, int]:
        if self._standard is None:
            answer, received = await self._connection.ask({"need": "descriptors"}, descriptors=3)
            if "error" in answer:
                raise Refused(f"the client gave no descriptors: {answer['error']}")
            self._standard = (received[0], received[1], received[2])
        return self._standard


# --- bytes --------------------------------------------------------------------------------------------------------


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
                log.error("descriptor %d of a client was closed by somebody else", each)


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the other side is closed altogether, rather than for sending only (unix_poll in af_unix.c)."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


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


def _success(response: Any) -> dict[str, Any]:
    return {"status": True, "response": response}


def _failure(message: str) -> dict[str, Any]:
    return {"status": False, "message": message}


def _quoted(text: str) -> str:
    return f"'{printable(text[:_LONGEST_QUOTE])}{'...' * (len(text) > _LONGEST_QUOTE)}'"
