"""The thin client against a real server: exit statuses, big and slow streams, and no daemon at all."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from osctl.client import Client, RequestFailed
from osctld.cli.version import BUILD, VERSION, told
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.core.command import ExitStatus, Reply, Text
from osctld.core.errors import Refused
from osctld.server.ports import Caller
from osctld.shell.lxc import processes
from readable_client import readable_client
from server.client import CLIENT, environment
from server.serving import PATIENCE, Running, wait_until


def osctl(
    path: Path | None, *argv: str | bytes, stdin: bytes = b"", directory: Path | None = None
) -> tuple[int, bytes, bytes]:
    """Run the client; return its exit status, standard output and standard error."""
    done = subprocess.run(
        [*CLIENT, *argv],
        input=stdin,
        capture_output=True,
        env=environment(path),
        cwd=directory,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def start_osctl(path: Path, *argv: str, **streams: int | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*CLIENT, *argv], env=environment(path), **streams)  # type: ignore[call-overload, no-any-return]


# --- with a daemon ------------------------------------------------------------------------------------------------


def test_a_command_goes_there_and_its_answer_comes_back(server: Running) -> None:
    assert osctl(server.path, "ping") == (0, b"pong\n", b"")


@pytest.mark.parametrize(
    "options", [["--socket", "PATH"], ["--socket=PATH"], ["-j", "--socket", "PATH"], ["--pool", "p", "--socket=PATH"]]
)
def test_the_socket_is_taken_from_the_options_before_the_command(server: Running, options: list[str]) -> None:
    argv = [each.replace("PATH", str(server.path)) for each in options]

    status, _, stderr = osctl(Path("/nonexistent"), *argv, "ping")

    assert (status, stderr) == (0, b"")
    assert len(server.fake.commands) == 1


def test_a_socket_option_without_a_path_is_a_usage_error(server: Running) -> None:
    for argv in (["--socket"], ["--socket="], ["--socket", "", "ping"]):
        assert osctl(server.path, *argv) == (64, b"", b"error: option --socket requires a value: PATH\n")


def test_a_socket_option_behind_the_command_is_not_ours(server: Running) -> None:
    status, stdout, stderr = osctl(server.path, "ping", "--socket", "/x")

    assert (status, stdout) == (64, b"")
    assert stderr == b"error: unknown option: --socket (it must precede the command)\n"


def test_errors_go_to_standard_error_with_the_status_that_the_daemon_says(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        raise Refused("'web01': container not found")

    server.fake.performing = performing

    assert osctl(server.path, "ct", "start", "web01") == (1, b"", b"error: 'web01': container not found\n")
    assert osctl(server.path, "ct", "frob")[0] == 64


def test_progress_comes_before_the_answer(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        caller.progress("first")
        caller.progress("second")
        return Text(("done",))

    server.fake.performing = performing

    assert osctl(server.path, "ping") == (0, b"first\nsecond\ndone\n", b"")
    assert osctl(server.path, "-q", "ping") == (0, b"done\n", b"")


def test_an_answer_of_many_megabytes_arrives_whole(server: Running) -> None:
    line = "ěšč-" * 1000

    async def performing(_: Caller) -> Reply:
        return Text((line,) * 800)

    server.fake.performing = performing

    status, stdout, stderr = osctl(server.path, "ping")

    assert (status, stderr) == (0, b"")
    assert len(stdout) > 5_000_000
    assert stdout == f"{line}\n".encode() * 800


def test_megabytes_of_words_and_of_standard_input_get_there(server: Running) -> None:
    words = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(300_000)]

    status, _, stderr = osctl(
        server.path, "ct", "netif", "ip", "add", "web", "eth0", *words[:50_000], "-", stdin="\n".join(words).encode()
    )

    assert (status, stderr) == (0, b"")
    (command,) = server.fake.commands
    assert isinstance(command, CtNetifIpAdd)
    assert command.addresses == (*words[:50_000], *words)


def test_words_and_input_that_are_not_utf_8_are_refused_in_words(server: Running) -> None:
    assert osctl(server.path, "ct", "show", b"caf\xe9") == (
        *(64, b""),
        b"error: argument 'caf\\udce9' is not valid UTF-8\n",
    )
    assert osctl(server.path, "ct", "netif", "ip", "add", "web", "eth0", "-", stdin=b"\xff") == (
        *(64, b""),
        b"error: standard input is not valid UTF-8\n",
    )


def test_a_directory_that_is_gone_or_not_utf_8_is_no_hindrance(server: Running, directory: Path) -> None:
    odd = os.fsencode(directory) + b"/caf\xe9"
    os.mkdir(odd)
    assert osctl(server.path, "ping", directory=Path(os.fsdecode(odd)))[0] == 0

    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", odd, *CLIENT, "ping"], env=environment(server.path), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"pong\n", b"")


def test_the_terminals_width_reaches_the_help(server: Running) -> None:
    main, terminal = pty.openpty()
    try:
        # struct winsize: rows, columns, and two that are unused (tty_ioctl(4)); TIOCSWINSZ = 0x5414.
        import fcntl

        fcntl.ioctl(terminal, 0x5414, b"".join(n.to_bytes(2, sys.byteorder) for n in (24, 50, 0, 0)))
        process = start_osctl(server.path, "help", "ct", "netif", stdout=terminal)
        assert process.wait(PATIENCE) == 0
        os.close(terminal)
        terminal = -1
        text = _read_terminal(main)
    finally:
        os.close(main)
        if terminal >= 0:
            os.close(terminal)

    assert 40 < max(map(len, text.splitlines())) <= 50


def _read_terminal(descriptor: int) -> str:
    pieces = []
    while select.select([descriptor], [], [], PATIENCE)[0]:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode()


def test_a_person_is_told_when_the_daemon_is_of_another_build(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def ping() -> tuple[int, bytes, str]:
        main, terminal = pty.openpty()
        try:
            with start_osctl(server.path, "ping", stdout=subprocess.PIPE, stderr=terminal) as process:
                os.close(terminal)
                told = _read_terminal(main)
                assert process.stdout is not None
                return process.wait(PATIENCE), process.stdout.read(), told
        finally:
            os.close(main)

    assert ping() == (0, b"pong\n", "")

    monkeypatch.setattr("osctld.server.connection.BUILD", "0123456789ab")

    theirs = f"{VERSION}, build 0123456789ab"
    told = f"warning: osctl is {VERSION}, build {BUILD}, but the running osctld is {theirs}; restart it\r\n"
    assert ping() == (0, b"pong\n", told)
    # A script's streams are what they were, and so are a shell's while it completes a word.
    assert osctl(server.path, "ping") == (0, b"pong\n", b"")


def test_the_version_of_a_client_of_another_build_is_told_beside_the_daemons(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osctld.cli.interpret.BUILD", "0123456789ab")

    assert osctl(server.path, "--version") == (0, f"{told('osctl')}\n{told('osctld')}\n".encode(), b"")


# --- what the daemon asks for -------------------------------------------------------------------------------------


def test_a_command_writes_to_the_callers_own_streams(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        stdin, stdout, stderr = await caller.descriptors()
        os.write(stdout, os.read(stdin, 100).upper())
        os.write(stderr, b"warning")
        return ExitStatus(42)

    server.fake.performing = performing

    assert osctl(server.path, "ct", "exec", "web", "tr", stdin=b"words") == (42, b"WORDS", b"warning")


def test_a_file_is_opened_by_the_client_in_its_own_directory(server: Running, directory: Path) -> None:
    (directory / "archive").write_bytes(b"content")
    read: list[bytes] = []

    async def performing(caller: Caller) -> Reply:
        read.append(os.read(await caller.open_file("archive"), 100))
        return Text()

    server.fake.performing = performing

    assert osctl(server.path, "ping", directory=directory) == (0, b"", b"")
    assert read == [b"content"]


@pytest.mark.parametrize(
    ("path", "reason"), [("missing", "No such file or directory"), ("/tmp/\0", "embedded null byte")]
)
def test_a_file_that_cannot_be_opened_is_refused_in_words(
    server: Running, directory: Path, path: str, reason: str
) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.open_file(path)
        raise AssertionError

    server.fake.performing = performing
    status, stdout, stderr = osctl(server.path, "ping", directory=directory)

    assert (status, stdout) == (1, b"")
    assert stderr.decode() == f"error: {path!r}: cannot be opened: {reason}\n"


# --- streams that end, fill or are closed -------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_it_silently_with_141(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        return Text(("x" * 1000,) * 5000)

    server.fake.performing = performing
    process = start_osctl(server.path, "ping", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()

    assert process.wait(PATIENCE) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_closed_standard_streams_never_get_the_connection(server: Running) -> None:
    for closing, status, stderr in (
        ("<&-", 0, b""),
        ("2>&-", 0, b""),
        (">&-", 1, b"error: cannot write to standard output: Bad file descriptor\n"),
    ):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", *CLIENT, "ping"],
            env=environment(server.path),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (status, stderr), closing


def test_a_full_disk_is_an_error(server: Running) -> None:
    with open("/dev/full", "wb") as full:
        process = start_osctl(server.path, "ping", stdout=full.fileno(), stderr=subprocess.PIPE)
        _, stderr = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert stderr == b"error: cannot write to standard output: No space left on device\n"


def test_a_non_blocking_standard_output_loses_nothing(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        return Text(("x" * 999,) * 1000)

    server.fake.performing = performing
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start_osctl(server.path, "ping", stdout=writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()

    assert process.wait(PATIENCE) == 0
    assert len(text) == 1_000_000


def test_ctrl_c_ends_it_silently_with_130_and_cancels_the_command(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    server.fake.performing = performing
    process = start_osctl(server.path, "ping", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(server.fake.started.is_set)

    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == 130
    assert server.fake.cancelled.wait(PATIENCE)


def test_who_is_told_to_go_on_before_the_command_has_stopped_does_not_stop(server: Running) -> None:
    was_stopped = threading.Event()

    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        while await caller.next_signal() != signal.SIGTSTP:
            pass
        was_stopped.set()
        while await caller.next_signal() != signal.SIGCONT:
            pass
        caller.may_stop()
        return ExitStatus(5)

    server.fake.performing = performing
    process = start_osctl(server.path, "ct", "exec", "web", "x", stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: processes.heeds(process.pid, signal.SIGCONT))
        process.send_signal(signal.SIGTSTP)
        assert was_stopped.wait(PATIENCE)

        process.send_signal(signal.SIGCONT)

        assert process.wait(PATIENCE) == 5
    finally:
        process.kill()
        process.wait()


def test_a_daemon_that_goes_away_is_told(directory: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "s"))
    listener.listen()
    process = start_osctl(directory / "s", "ping", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.sendall(b'{"version":"0"}\n{"status":tr')
    connection.recv(10)
    connection.close()
    listener.close()

    assert process.communicate(timeout=PATIENCE) == (b"", b"error: osctld closed the connection\n")
    assert process.returncode == 1


def test_a_daemon_that_answers_and_closes_before_reading_is_heard(directory: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "s"))
    listener.listen()
    process = start_osctl(directory / "s", *(["x" * 100_000] * 15), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.sendall(b'{"version":"0"}\n{"status":false,"message":"not today"}\n')
    connection.close()
    listener.close()

    assert process.communicate(timeout=PATIENCE) == (b"", b"error: not today\n")
    assert process.returncode == 1


def test_an_answer_that_is_not_json_is_told(directory: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "s"))
    listener.listen()
    process = start_osctl(directory / "s", "ping", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.sendall(b"HTTP/1.1 400\n")
    _, stderr = process.communicate(timeout=PATIENCE)
    connection.close()
    listener.close()

    assert (process.returncode, stderr) == (1, b"error: osctld sent an answer that is not JSON\n")


# --- no daemon ----------------------------------------------------------------------------------------------------


def test_without_a_daemon_a_command_fails_with_69_and_the_path(directory: Path) -> None:
    path = directory / "s"
    expected = f"error: cannot connect to osctld at {path}: %s; is it running?\n"
    assert osctl(path, "ping") == (69, b"", (expected % "No such file or directory").encode())

    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    assert osctl(path, "ping") == (69, b"", (expected % "Connection refused").encode())


def test_a_path_too_long_for_a_socket_is_an_error_in_words() -> None:
    status, stdout, stderr = osctl(Path("/" + "s" * 200), "ping")

    assert (status, stdout) == (69, b"")
    assert b"AF_UNIX path too long" in stderr


def test_help_and_the_version_need_no_daemon(directory: Path) -> None:
    for argv in ([], ["help"], ["--help"], ["ct", "netif", "ip", "add", "--help"]):
        status, stdout, stderr = osctl(directory / "s", *argv)
        assert (status, stderr) == (0, b"")
        assert stdout.startswith(b"usage: osctl")
    assert osctl(directory / "s", "--version") == (0, f"{told('osctl')}\n".encode(), b"")


def test_a_typing_error_is_told_even_without_a_daemon(directory: Path) -> None:
    assert osctl(directory / "s", "ct", "ls", "--frob") == (64, b"", b"error: unknown option: --frob\n")
    assert osctl(directory / "s", "ct", "show", b"caf\xe9")[0] == 64


def test_nothing_in_the_current_directory_is_run_for_help(directory: Path) -> None:
    for package in ("osctld", "msgspec", "osctl"):
        (directory / package).mkdir()
        (directory / package / "__init__.py").write_text("raise SystemExit('planted')")

    for argv in (["--help"], ["ping"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "osctl", *argv],
            env=environment(directory / "s"),
            cwd=directory,
            capture_output=True,
            check=False,
        )
        assert b"planted" not in done.stderr
        assert done.returncode in (0, 69)


def test_a_reader_of_help_that_goes_away_ends_it_with_141(directory: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start_osctl(directory / "s", "--help", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, stderr = process.communicate(timeout=PATIENCE)

    assert (process.returncode, stderr) == (141, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_somebody_else_gets_permission_denied_with_77(server: Running, directory: Path) -> None:
    assert shutil.which("setpriv")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *readable_client(directory), "ping"],
        env=environment(server.path),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 77
    assert done.stdout == b""
    assert done.stderr == f"error: cannot connect to osctld at {server.path}: Permission denied\n".encode()
    assert server.fake.commands == []


# --- the library --------------------------------------------------------------------------------------------------


def test_a_program_calls_commands_by_name(server: Running) -> None:
    progress: list[str] = []

    async def performing(caller: Caller) -> Reply:
        caller.progress("working")
        return Text(("pong",))

    server.fake.performing = performing
    with Client.connect(str(server.path)) as osctld:
        assert (osctld.version, osctld.build) == (VERSION, BUILD)
        assert osctld.call("self_ping") == "pong"
        response = osctld.call("cli", argv=["ping"], on_progress=progress.append)
        with pytest.raises(RequestFailed, match=r"^Unsupported command 'nonsense'$"):
            osctld.call("nonsense", pool=None)
        assert osctld.call("self_ping") == "pong"

    assert response == {"stdout": "pong\n", "stderr": "", "exit": 0}
    assert progress == ["working"]


def test_an_answer_that_was_not_awaited_is_never_taken_for_that_of_the_next_request(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        caller.progress("working")
        return Text(("done",))

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    server.fake.performing = performing
    with Client.connect(str(server.path)) as osctld:
        with pytest.raises(KeyboardInterrupt):
            osctld.call("ct_start", container="web", on_progress=interrupt)

        with pytest.raises(ConnectionAbortedError, match="open a new connection"):
            osctld.call("self_ping")


def test_a_closed_descriptor_is_told_before_the_daemon_waits_for_it(server: Running) -> None:
    with Client.connect(str(server.path)) as osctld:
        closed = os.open(os.devnull, os.O_RDONLY)
        os.close(closed)

        with pytest.raises(OSError, match="Bad file descriptor"):
            osctld.execute("web", ["true"], stdin=closed)

        assert osctld.call("self_ping") == "pong"
    assert server.fake.commands == []


def test_a_program_is_told_when_a_command_line_needs_what_only_osctl_gives(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        return Text()

    server.fake.performing = performing
    with Client.connect(str(server.path)) as osctld, pytest.raises(ConnectionAbortedError, match=r"need.*descriptors"):
        osctld.call("cli", argv=["ct", "exec", "web", "true"])


def test_a_program_hears_that_there_is_no_daemon(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client.connect(str(directory / "s"))


def test_the_client_loads_nothing_but_what_is_built_in(server: Running) -> None:
    script = "import sys; before = set(sys.modules); import osctl.__main__ as o; sys.argv[1:] = ['ping']; o.main()"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; print(sorted(set(sys.modules) - before))"],
        env=environment(server.path),
        capture_output=True,
        check=True,
        text=True,
    )

    assert done.stdout == "pong\n['_json', '_socket', 'osctl', 'osctl.__main__']\n"
