"""The thin client: carries the words to osctld, and its answer back.

It knows no command. It imports only what is built into the interpreter, because a command's duration is mostly the
client's start: with `json` and `socket` it would take twice as long (docs/adr/0006-thin-client.md). The bytes between
client and daemon are those of the daemon's wire protocol: one JSON document a line, and descriptors beside them.
"""

import _json
import _signal
import _socket
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

VERSION = "0.1.0"
#: What these files are: the installation writes it here, and the same into the daemon's.
BUILD = "development"

DEFAULT_SOCKET = "/run/osctl/osctld.sock"

EX_USAGE = 64  # 64, 69, 77: sysexits.h
EX_UNAVAILABLE = 69
EX_NOPERM = 77
INTERRUPTED = 128 + 2  # as a shell reports a process that SIGINT ended
BROKEN_PIPE = 128 + 13  # and SIGPIPE

#: A shell's request for completion, before the words that it is about: answered at once or not at all.
_COMPLETE = "--complete"
_COMPLETION_SECONDS = 2.0

_EPERM, _EAGAIN, _EACCES, _EPIPE = 1, 11, 13, 32

#: What a command inside gets in our place while it runs on our descriptors.
_FORWARDED_SIGNALS = (
    *(_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGALRM),
    *(_signal.SIGTERM, _signal.SIGTSTP, _signal.SIGCONT, _signal.SIGWINCH),
)
_CHUNK = 1 << 18

#: Global options with a value: the word behind them is not the first word of the command.
_OPTIONS_WITH_VALUE = ("--pool",)

#: Runs the daemon's own parser. The package is found beside this one, never in the current directory.
_PARSER = "import sys; sys.path.append(sys.argv.pop(1)); from osctld.cli.__main__ import main; sys.exit(main())"


class _Fault(Exception):
    """Ends the client with one line on standard error, and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        self.message = message
        self.status = status


class _Denied(Exception):
    """The daemon has nothing to do with us."""


class _StdoutClosed(Exception):
    """The reader of standard output is gone."""


class _Made:
    """A file that we made for the daemon to fill, which goes again when the command fails."""

    path = ""


class _Stop:
    """Whether to stop once the command inside has: a stop was requested, and not revoked since."""

    is_wanted = False


def main() -> int:
    """Run one command line and return its exit status."""
    try:
        _fill_standard_descriptors()
        path, argv = _split_socket(sys.argv[1:])
        return _run(path, argv)
    except _Fault as fault:
        if not _is_completion(sys.argv[1:]):
            _write(2, f"error: {fault.message}\n")
        return fault.status
    except TimeoutError:  # only completion has no patience
        return EX_UNAVAILABLE
    except _StdoutClosed:
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _remove_what_was_made()


def _is_completion(argv: "list[str]") -> bool:
    return argv[:1] == [_COMPLETE]


def _fill_standard_descriptors() -> None:
    """Occupy closed standard descriptors: the connection would get their number, and our output go into it."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        while posix.open("/dev/null", posix.O_RDONLY) < 3:
            pass


def _split_socket(argv: "list[str]") -> "tuple[str, list[str]]":
    """Take `--socket PATH` from the options before the command; else the environment's, else the usual path."""
    path = _environment(b"OSCTL_SOCKET") or DEFAULT_SOCKET
    position = 0
    while position < len(argv) and argv[position].startswith("-") and argv[position] != "--":
        word = argv[position]
        if word == "--socket" or word.startswith("--socket="):
            _, equals, path = word.partition("=")
            end = position + 1
            if not equals:
                path = argv[end] if end < len(argv) else ""
                end += 1
            if not path:
                raise _Fault("option --socket requires a value: PATH", EX_USAGE)
            argv = argv[:position] + argv[end:]
        else:
            position += 2 if word in _OPTIONS_WITH_VALUE else 1
    return path, argv


def _environment(name: bytes) -> str:
    return posix.environ.get(name, b"").decode("utf-8", "surrogateescape")


def _run(path: str, argv: "list[str]") -> int:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    if _is_completion(argv):
        connection.settimeout(_COMPLETION_SECONDS)
    try:
        connection.connect(path)
    except OSError as error:
        return _without_daemon(path, error, argv)
    # All of it before the first read: the daemon may answer and close early, and that answer must still be read.
    _send(connection, _request(argv))
    try:
        return _follow(connection, is_completion=_is_completion(argv))
    except _Denied:  # a user who may not connect is refused by the kernel or, if two groups may, by the daemon
        return _without_daemon(path, PermissionError(_EACCES, "Permission denied"), argv)


def _request(argv: "list[str]") -> bytes:
    is_terminal = "true" if posix.isatty(1) else "false"
    words = ",".join([_quoted(word) for word in argv])
    return (
        f'{{"cmd":"cli","opts":{{"argv":[{words}],"columns":{_columns()},'
        f'"stdout_is_terminal":{is_terminal},"terminal_type":{_quoted(_environment(b"TERM"))},'
        f'"version":"{VERSION}","build":"{BUILD}"}}}}\n'
    ).encode()


def _columns() -> int:
    """The width of the terminal that standard output is, else 0."""
    try:
        return posix.get_terminal_size(1).columns
    except OSError:
        return 0


def _follow(connection: "_socket.socket", *, is_completion: bool = False) -> int:
    """Do what the daemon says until it has said the last thing; return the exit status."""
    modes: list[Any] | None = None
    for message in _messages(connection):
        if "status" not in message:  # the greeting
            if message.get("build") != BUILD and not is_completion:
                _warn_of_other_build(message)
            continue
        if not message["status"]:
            if message.get("code") == "permission-denied":
                raise _Denied
            raise _Fault(str(message.get("message")))
        if "progress" in message:
            _write(1, f"{message['progress']}\n")
        elif "print" in message:
            _write(1, message["print"])
        elif "need" in message:
            modes = _answer_need(connection, message) or modes
        elif "stop" in message:
            if _Stop.is_wanted:
                posix.kill(posix.getpid(), _signal.SIGSTOP)
        else:
            response = message["response"]
            if not response["exit"]:
                _keep_what_was_made()
            _write(2, response["stderr"])
            _write(1, response["stdout"])
            return int(response["exit"])
    _restore_terminal(modes)
    raise _Fault("osctld closed the connection")


def _warn_of_other_build(greeting: "dict[str, Any]") -> None:
    """Warn a person; the output of a script stays the same, and `--version` and `self status` show it too."""
    if posix.isatty(2):
        theirs = f"{greeting.get('version')}, build {greeting.get('build', 'unknown')}"
        _write(2, f"warning: osctl is {VERSION}, build {BUILD}, but the running osctld is {theirs}; restart it\n")


def _messages(connection: "_socket.socket") -> "Iterator[dict[str, Any]]":
    """Every line that arrives, decoded. Lines may be many megabytes, and arrive in pieces."""
    decode = _json_decoder()
    pieces: list[bytes] = []
    while True:
        try:
            chunk = connection.recv(_CHUNK)
        except ConnectionError:
            return
        if not chunk:
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            pieces.append(line)
            try:
                message, _ = decode(b"".join(pieces).decode(), 0)
            except (ValueError, StopIteration):
                raise _Fault("osctld sent an answer that is not JSON") from None
            pieces.clear()
            yield message
        pieces.append(rest)


def _answer_need(connection: "_socket.socket", message: "dict[str, Any]") -> "list[Any] | None":
    """Give what only we can give. Returns the modes of a terminal that the daemon now has in its hands."""
    modes = None
    need = message["need"]
    if need == "stdin":
        try:
            text = _read_all(0).decode("utf-8", "surrogateescape")
        except OSError as error:
            raise _Fault(f"cannot read standard input: {error.strerror}") from None
        _send(connection, f'{{"stdin":{_quoted(text)}}}\n'.encode())
    elif need == "text":
        _send(connection, _text_of(message["path"], message["longest"]))
    elif need == "descriptors":
        _come_to_the_foreground()
        modes = _terminal_modes()
        _send_descriptors(connection, (0, 1, 2))
        _forward_signals(connection)
    elif need in ("file", "new file"):
        path = message["path"]
        try:
            opened = _made(path) if need == "new file" else posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL, reported differently by Python versions
            reason = getattr(error, "strerror", "embedded null byte")
            _send(connection, f'{{"error":{_quoted(reason)}}}\n'.encode())
            return None
        _send_descriptors(connection, (opened,))
        posix.close(opened)
    else:
        raise _Fault(f"osctld requires {need!r}, which this client does not support; are both of the same version?")
    return modes


def _text_of(path: str, longest: int) -> bytes:
    """The answer with all of a text file, or with the reason why there is none."""
    try:
        opened = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        text = _read_all(opened, longest).decode("utf-8", "surrogateescape")
        posix.close(opened)
    except (OSError, ValueError) as error:  # ValueError: as for files that are passed
        return f'{{"error":{_quoted(getattr(error, "strerror", "embedded null byte"))}}}\n'.encode()
    answer = f'{{"text":{_quoted(text)}}}\n'.encode()
    return answer if len(answer) <= longest else b'{"error":"File too large"}\n'


def _made(path: str) -> int:
    """Make a file for the daemon to fill."""
    opened = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
    _Made.path = path
    return opened


def _keep_what_was_made() -> None:
    """The daemon has filled our file: have its name on the disk, too."""
    path, _Made.path = _Made.path, ""
    if path:
        try:
            directory = posix.open(path.rpartition("/")[0] or ("/" if "/" in path else "."), posix.O_RDONLY)
            posix.fsync(directory)
            posix.close(directory)
        except OSError as error:
            raise _Fault(f"{path}: {error.strerror}") from None


def _remove_what_was_made() -> None:
    path, _Made.path = _Made.path, ""
    if path:
        try:
            posix.unlink(path)
        except OSError as error:
            _write(2, f"error: {path}: incomplete, but could not be removed: {error.strerror}\n")


def _send_descriptors(connection: "_socket.socket", descriptors: "Sequence[int]") -> None:
    packed = b"".join([each.to_bytes(4, sys.byteorder) for each in descriptors])
    line = f'{{"descriptors":{len(descriptors)}}}\n'.encode()
    try:
        sent = connection.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
    except ConnectionError:
        return
    _send(connection, line[sent:])


def _come_to_the_foreground() -> None:
    """Stop, as whoever reads the keyboard, while a shell has put us in the background.

    The daemon, which is going to read it, is not a process of the terminal: the kernel would let it, and lines for the
    shell would be lost. To read nothing is enough to be stopped (SIGTTIN).
    """
    if posix.isatty(0):
        try:
            posix.read(0, 0)
        except OSError as error:
            raise _Fault(f"cannot read standard input: {error.strerror}") from None


def _terminal_modes() -> "list[Any] | None":
    """How the terminal is set that the daemon is going to make raw; None when there is none."""
    if not posix.isatty(0):
        return None
    import termios  # not built in: only who is at a terminal pays for it

    try:
        return termios.tcgetattr(0)
    except termios.error:  # it has hung up meanwhile
        return None


def _restore_terminal(modes: "list[Any] | None") -> None:
    """Set the terminal as it was: a daemon that was killed has not."""
    if modes is not None:
        import termios

        try:
            termios.tcsetattr(0, termios.TCSANOW, modes)
        except termios.error:  # gone
            return


def _forward_signals(connection: "_socket.socket") -> None:
    """Have the daemon forward signals to the command, except those that we were started to ignore."""

    def forward(number: int, _: object) -> None:
        if number == _signal.SIGCONT:
            _come_to_the_foreground()
        if number in (_signal.SIGTSTP, _signal.SIGCONT):
            _Stop.is_wanted = number == _signal.SIGTSTP
        _send(connection, f'{{"signal":{number:d}}}\n'.encode())

    for number in _FORWARDED_SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, forward)


def _send(connection: "_socket.socket", data: bytes) -> None:
    """Send all of it. A daemon that has closed its end may have answered before: reading will show."""
    try:
        if data:
            connection.sendall(data)
    except ConnectionError:
        return


def _read_all(descriptor: int, most: int = sys.maxsize) -> bytes:
    """Until its end, or a little more than this many bytes."""
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            piece = posix.read(descriptor, _CHUNK)
        except BlockingIOError:
            _wait_a_moment()
            continue
        pieces.append(piece)
        size += len(piece)
        if not piece or size > most:
            return b"".join(pieces)


def _write(descriptor: int, text: str) -> None:
    """Write all of it, however slowly it is read."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        try:
            data = data[posix.write(descriptor, data) :]
        except BlockingIOError:
            _wait_a_moment()
        except OSError as error:
            if descriptor == 2:  # nowhere left to complain
                return
            if error.errno == _EPIPE:
                raise _StdoutClosed from None
            raise _Fault(f"cannot write to standard output: {error.strerror}") from None


def _wait_a_moment() -> None:
    """Somebody else made our descriptor non-blocking; it is not ours to change back."""
    _signal.sigtimedwait((), 0.01)


def _quoted(text: str) -> str:
    # Bytes of argv that are not UTF-8 become lone surrogates, and those \udcXX: the daemon refuses them with a message.
    return _json.encode_basestring_ascii(text)


def _json_decoder() -> "Callable[[str, int], tuple[Any, int]]":
    """The interpreter's own JSON scanner, without the module around it."""

    class Settings:
        strict = False
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float

    return _json.make_scanner(Settings)  # type: ignore[arg-type]  # the stub asks for a scanner to make one


# --- no daemon ----------------------------------------------------------------------------------------------------


def _without_daemon(path: str, error: OSError, argv: "list[str]") -> int:
    """Let a second interpreter look at the words: help needs no daemon, and a typing error is worth telling first."""
    reason = error.strerror or str(error)
    if error.errno in (_EACCES, _EPERM):
        status, message = EX_NOPERM, f"cannot connect to osctld at {path}: {reason}"
    else:
        status, message = EX_UNAVAILABLE, f"cannot connect to osctld at {path}: {reason}; is it running?"
    if _is_completion(argv):
        raise _Fault(message, status)
    packages = __file__.rpartition("/")[0].rpartition("/")[0] or "."
    command = [sys.executable, "-IB", "-c", _PARSER, packages, "--unavailable", str(status), message, *argv]
    try:
        posix.execv(sys.executable, command)
    except OSError:  # too many words for one exec, or no interpreter by that name
        raise _Fault(message, status) from None
    return status


if __name__ == "__main__":
    sys.exit(main())
