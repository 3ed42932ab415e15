"""`osctl ct exec` as a part of a pipeline, of a script and of a shell with job control; real client, real daemon."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lxc.terminal import Terminal
from osctl.client import connect
from whole.host import BIN, Result, Topology, run, wait_until
from whole.original_client import OriginalClient


@contextlib.contextmanager
def begun(host: Topology, *command: str, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A command inside that has begun: it says `up` first. All its streams are pipes."""
    client = subprocess.Popen(
        [*prefix, str(BIN / "osctl"), "--socket", str(host.socket), "ct", "exec", "web", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stderr is not None
    try:
        assert client.stdout.readline() == b"up\n"
        yield client
    finally:
        client.kill()
        client.wait()
        for stream in (client.stdin, client.stdout, client.stderr):
            stream.close()


def in_a_shell(host: Topology, script: str) -> Result:
    """Run a script of the host in which `osctl` and `inside` (`osctl ct exec web`) are words."""
    words = f'osctl() {{ {BIN}/osctl --socket {host.socket} "$@"; }}; inside() {{ osctl ct exec web "$@"; }}; {script}'
    return run("bash", "-c", words, check=False)


def runs_inside(host: Topology, words: str) -> bool:
    return words in host.guest("web", "ps", "-o", "args").stdout


# --- signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"])
def test_a_signal_for_the_client_is_one_for_the_command(shared: Topology, name: str) -> None:
    shared.new_container("web")
    script = f"trap 'echo cleaned up; exit 7' {name}; echo up; while :; do sleep 0.05; done"

    with begun(shared, "sh", "-c", script) as client:
        client.send_signal(signal.Signals[f"SIG{name}"])

        stdout, _ = client.communicate(timeout=20)
        assert (client.returncode, stdout.splitlines()[-1]) == (7, b"cleaned up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_command_that_a_signal_ends_gives_the_client_its_status(shared: Topology, number: signal.Signals) -> None:
    shared.new_container("web")

    with begun(shared, "sh", "-c", "echo up; exec sleep 1000") as client:
        client.send_signal(number)

        assert client.communicate(timeout=20) == (b"", b"")
        assert client.returncode == 128 + number
    assert not runs_inside(shared, "sleep 1000")


def test_a_command_may_ignore_what_its_client_gets(shared: Topology) -> None:
    shared.new_container("web")

    with begun(shared, "sh", "-c", "trap '' INT TERM HUP; echo up; read word; echo got $word; exit 3") as client:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            client.send_signal(number)

        assert client.communicate(b"word\n", timeout=20) == (b"got word\n", b"")
        assert client.returncode == 3


def test_a_client_that_ignores_a_signal_keeps_it_from_the_command(shared: Topology) -> None:
    shared.new_container("web")

    with begun(shared, "sh", "-c", "echo up; read word; exit 3", prefix=("nohup",)) as client:
        client.send_signal(signal.SIGHUP)

        client.communicate(b"word\n", timeout=20)
        assert client.returncode == 3


def test_guests_hear_signals_whatever_the_daemon_was_started_with() -> None:
    numbers = "HUP,INT,QUIT,USR1,USR2,ALRM,TERM,CHLD"
    program = ("env", f"--ignore-signal={numbers}", "--block-signal=USR1,USR2", str(BIN / "osctld"))
    with Topology(program=program) as host:
        host.new_container("web")

        inside = host.guest("web", "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status").stdout
        init = host.guest("web", "grep", "-E", "^SigIgn", "/proc/1/status").stdout

        assert inside.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
        assert init.split() == ["SigIgn:", "0" * 16]
        os.kill(host.daemon_pid, signal.SIGHUP)  # as before: it is not for the daemon
        assert host.guest("web", "echo", "here").stdout == "here\n"
        assert host.stop_daemon() == 0


# --- streams ------------------------------------------------------------------------------------------------------


def test_input_that_has_ended_or_is_missing_ends_inside(shared: Topology) -> None:
    shared.new_container("web")

    for redirection in ("</dev/null", "<&-"):
        result = in_a_shell(shared, f"inside sh -c 'cat; echo ended' {redirection}")
        assert result == (0, "ended\n", ""), redirection


def test_a_command_whose_output_is_missing_hears_of_it(shared: Topology) -> None:
    shared.new_container("web")

    status, stdout, stderr = in_a_shell(shared, "inside sh -c 'echo word || exit 5' >&-")
    assert (status, stdout) == (5, "")
    assert stderr.count("\n") == 1
    assert "write error: Bad file descriptor" in stderr
    assert in_a_shell(shared, "inside sh -c 'echo out; echo error >&2; exit 4' 2>&-") == (4, "out\n", "")
    assert in_a_shell(shared, "inside sh -c 'exit 6' <&- >&- 2>&-") == (6, "", "")


def test_a_closed_reader_ends_the_command_as_in_any_pipeline(shared: Topology) -> None:
    shared.new_container("web")

    result = in_a_shell(shared, "inside yes | head -n 1; echo ${PIPESTATUS[0]}")

    assert result == (0, "y\n141\n", "")
    assert not runs_inside(shared, "yes")
    status, stdout, stderr = in_a_shell(shared, "inside sh -c 'trap \"\" PIPE; yes; exit 9' | head -n 1")
    assert (status, stdout) == (0, "y\n")
    assert "Broken pipe" in stderr  # the command's own words: it wished to know


def test_a_stream_of_any_bytes_and_length_passes_unchanged_in_both_directions(shared: Topology) -> None:
    shared.new_container("web")
    data = random.Random(2).randbytes(1 << 25)
    script = "head -c 16777216; cat >&2"

    done = subprocess.run(
        [str(BIN / "osctl"), "--socket", str(shared.socket), "ct", "exec", "web", "sh", "-c", script],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0
    assert len(done.stdout) + len(done.stderr) == len(data)
    assert done.stdout + done.stderr == data


def test_a_hundred_commands_at_once_have_their_own_streams_and_statuses(shared: Topology) -> None:
    shared.new_container("web")

    def ask(number: int) -> Result:
        return shared.osctl("ct", "exec", "web", "sh", "-c", f"cat; exit {number}", stdin=f"{number}\n", check=False)

    with ThreadPoolExecutor(100) as threads:
        results = list(threads.map(ask, range(100)))

    assert results == [(number, f"{number}\n", "") for number in range(100)]


# --- the container ends meanwhile ---------------------------------------------------------------------------------


def test_a_command_ends_with_its_container(shared: Topology) -> None:
    shared.new_container("web")

    with begun(shared, "sh", "-c", "trap '' TERM HUP; echo up; sleep 1000; sleep 1000") as client:
        shared.osctl("ct", "stop", "web")

        assert client.wait(20) == 128 + signal.SIGKILL
    assert "not running" in shared.refusal("ct", "exec", "web", "true")


def test_a_command_ends_when_its_container_reboots_and_the_next_runs_in_the_new_life(shared: Topology) -> None:
    shared.new_container("web")
    before = shared.init_pid("web")

    with begun(shared, "sh", "-c", "trap '' TERM HUP; echo up; sleep 1000; sleep 1000") as client:
        shared.guest("web", "reboot", check=False)

        assert client.wait(20) == 128 + signal.SIGKILL
    wait_until(lambda: shared.has_rebooted("web", since=before), "it runs again", seconds=20)
    assert shared.guest("web", "echo", "here").stdout == "here\n"


# --- the daemon ends meanwhile -------------------------------------------------------------------------------------


def test_a_command_whose_daemon_was_killed_ends_when_the_next_daemon_starts(host: Topology) -> None:
    host.new_container("web")

    with begun(host, "sh", "-c", "trap '' HUP; echo up; sleep 1000 & sleep 1000; sleep 1000") as client:
        host.kill_daemon()

        assert client.stderr is not None
        assert (client.stderr.readline(), client.wait(20)) == (b"error: osctld closed the connection\n", 1)
        host.start_daemon()
        assert not runs_inside(host, "sleep 1000")
    assert host.guest("web", "echo", "here").stdout == "here\n"


# --- a shell with job control -------------------------------------------------------------------------------------


class Shell:
    """bash at a terminal, with the word `inside` for `osctl ct exec web`."""

    def __init__(self, host: Topology, terminal: Terminal) -> None:
        self._terminal = terminal
        self._typed = 0
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=terminal.program,
            stdout=terminal.program,
            stderr=terminal.program,
            env={**os.environ, "PS1": "ready$ ", "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "vt100"},
        )
        self.wait_for("ready$ ")
        self.type(f'inside() {{ osctl --socket {host.socket} ct exec web "$@"; }}\n')
        self.wait_for("ready$ ")

    def type(self, text: str) -> None:
        self._typed = len(self._terminal.screen())
        self._terminal.type(text)

    def wait_for(self, text: str) -> str:
        """Wait for a text on the screen behind what was there before the last typing; return all behind that."""
        try:
            wait_until(lambda: text in self._terminal.screen()[self._typed :], f"{text!r} is shown", seconds=20)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self._terminal.screen()}") from None
        return self._terminal.screen()[self._typed :]

    def close(self) -> None:
        self._terminal.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def shell(shared: Topology) -> Iterator[Shell]:
    shared.new_container("web")
    with Terminal() as terminal:
        made = Shell(shared, terminal)
        yield made
        made.close()


def test_a_pipeline_is_stopped_and_brought_back_by_the_shells_keys(shared: Topology, shell: Shell) -> None:
    shell.type("inside sh -c 'echo up; while read word; do echo [$word]; done; echo en''ded' | cat\n")
    shell.wait_for("up\n")

    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.wait_for("ready$ ")
    shell.type("echo from the sh''ell\n")
    shell.wait_for("from the shell\n")
    shell.type("fg\n")
    wait_until(lambda: " T " not in shared.guest("web", "ps", "-o", "pid,stat,args").stdout, "it goes on")
    shell.type("word\n")
    shell.wait_for("[word]")
    shell.type("\x04")

    assert "from the" not in shell.wait_for("ended")
    shell.wait_for("ready$ ")


def test_an_interrupt_typed_at_a_pipeline_ends_all_of_it(shared: Topology, shell: Shell) -> None:
    shell.type("inside sh -c 'echo up; sleep 1000; echo never' | cat\n")
    shell.wait_for("up\n")

    shell.type("\x03")

    shell.wait_for("ready$ ")
    wait_until(lambda: not runs_inside(shared, "sleep 1000"), "nothing is left inside")


def test_a_command_in_the_background_leaves_the_keyboard_to_the_shell(shell: Shell) -> None:
    shell.type("inside sh -c 'echo up; read word; echo [$word]' &\n")
    shell.wait_for("ready$ ")
    wait_until(lambda: _jobs_say(shell, "Stopped"), "it waits for the keyboard")
    shell.type("echo $((6 * 7))\n")
    shell.wait_for("42\n")

    shell.type("fg\n")
    shell.wait_for("up\n")
    shell.type("word\n")

    shell.wait_for("[word]")
    shell.wait_for("ready$ ")


def _jobs_say(shell: Shell, text: str) -> bool:
    shell.type("jobs\n")
    return text in shell.wait_for("inside")


def test_a_shell_inside_has_job_control_of_its_own(shared: Topology, shell: Shell) -> None:
    shell.type("inside sh\n")
    shell.wait_for("/ # ")
    shell.type("echo $TERM; /bin/sleep 1000\n")  # a program: `sleep` alone is part of some shells
    shell.wait_for("vt100\n")
    wait_until(lambda: runs_inside(shared, "sleep 1000"), "the shell has somebody to stop")
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.wait_for("/ # ")
    shell.type("fg\n")
    shell.wait_for("sleep 1000\n")
    shell.type("\x03")
    shell.wait_for("/ # ")
    shell.type("exit 8\n")
    shell.wait_for("ready$ ")
    shell.type("echo $?\n")
    shell.wait_for("8\n")


# --- files named on the command line ------------------------------------------------------------------------------


def test_a_file_that_the_caller_may_not_read_is_refused_with_its_name(idle_host: Topology, tmp_path: Path) -> None:
    file = tmp_path / "secret.tar"
    file.write_bytes(b"x")
    os.chown(file, 1000, 1000)
    file.chmod(0o600)
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")

    osctl = (str(BIN / "osctl"), "--socket", str(idle_host.socket))
    result = run(*powerless, *osctl, "ct", "new", "--from-archive", str(file), "web", check=False)

    assert result == (1, "", f"error: '{file}': cannot be opened: Permission denied\n")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.tar", "No such file or directory"),
        ("/", "Is a directory"),
        ("", "No such file or directory"),
        ("a/" * 10_000 + "b", "File name too long"),
        ("/dev/fd/99", "No such file or directory"),
    ],
    ids=["missing", "directory", "empty", "long", "descriptor"],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_name(idle_host: Topology, path: str, reason: str) -> None:
    before = idle_host.stored()

    assert idle_host.refusal("ct", "new", "--from-archive", path, "web") == f"{path!r}: cannot be opened: {reason}"

    assert idle_host.stored() == before


def test_archives_that_say_nothing_hold_up_no_start(shared: Topology) -> None:
    shared.new_container("web", start=False)
    with contextlib.ExitStack() as waiting:
        for number in range(30):
            client = waiting.enter_context(OriginalClient(shared.socket))
            client.send("ct_create", id=f"waiting{number}", template={"type": "stream"})
            assert client.answer()["response"] == "continue"
            silent, writer = os.pipe()
            client.send_descriptor(silent)
            os.close(silent)
            waiting.callback(os.close, writer)

        shared.osctl("ct", "start", "web", seconds=30)

    assert shared.guest("web", "echo", "here").stdout == "here\n"


def test_a_pipe_that_nobody_writes_keeps_its_caller_waiting_and_nobody_else(
    idle_host: Topology, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    archive = ("--from-archive", pipe.name)
    with connect(str(idle_host.socket)) as daemon:
        begun_commands = daemon.events("management", state="run")
        with subprocess.Popen(
            [str(BIN / "osctl"), "--socket", str(idle_host.socket), "ct", "new", *archive, "web"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as client:
            assert next(begun_commands).opts["cmd"] == "ct_new"
            assert "being created" in idle_host.refusal("ct", "new", "--distribution", "busybox", "web")
            idle_host.osctl("ct", "new", "--distribution", "busybox", "other")

            client.send_signal(signal.SIGINT)

            assert client.communicate(timeout=20) == (b"", b"")
            assert client.returncode == 130
    idle_host.osctl("ct", "del", "other")
    idle_host.osctl("ct", "new", "--distribution", "busybox", "web")
    idle_host.osctl("ct", "del", "web")
