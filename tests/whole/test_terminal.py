"""`osctl ct exec` typed at a terminal, with the real client and the real daemon."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from lxc.terminal import Terminal
from whole.host import BIN, Topology, wait_until

#: Ends for nobody's hangup, and has children.
STUBBORN = ("sh", "-c", "trap '' HUP INT TERM; echo up; while :; do sleep 1000; done")


@contextlib.contextmanager
def typed(host: Topology, terminal: Terminal, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the client in a session of its own with a controlling terminal, as a window's shell would."""
    client = subprocess.Popen(
        ["setsid", "--ctty", str(BIN / "osctl"), "--socket", str(host.socket), *words],
        stdin=terminal.program,
        stdout=terminal.program,
        stderr=terminal.program,
    )
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def wait_for_text(terminal: Terminal, text: str) -> None:
    wait_until(lambda: text in terminal.screen(), f"{text!r} is on the screen")


def stubborn_processes(host: Topology) -> list[str]:
    lines = host.guest("web", "ps", "-o", "args").stdout.splitlines()
    return [line for line in lines if "sleep 1000" in line]


def test_a_shell_can_be_used_at_a_terminal(host: Topology) -> None:
    host.new_container("web")

    with Terminal() as terminal, typed(host, terminal, ["ct", "exec", "web", "sh"]) as client:
        wait_for_text(terminal, "/ # ")
        terminal.type("echo $((6 * 7))\n")
        wait_for_text(terminal, "42")
        terminal.type("exit 3\n")

        assert client.wait(20) == 3
        assert not terminal.is_raw


def test_a_command_at_a_terminal_shows_what_it_says(host: Topology) -> None:
    host.new_container("web")

    with Terminal() as terminal, typed(host, terminal, ["ct", "exec", "web", "hostname"]) as client:
        assert client.wait(20) == 0
        assert terminal.shown() == b"web\r\n"


def test_a_client_that_goes_away_takes_its_command_along(host: Topology) -> None:
    host.new_container("web")

    with Terminal() as terminal, typed(host, terminal, ["ct", "exec", "web", *STUBBORN]) as client:
        wait_for_text(terminal, "up")
        assert stubborn_processes(host)

        client.kill()
        client.wait(20)

        wait_until(lambda: not stubborn_processes(host), "the command has ended")
        wait_until(lambda: not terminal.is_raw, "the terminal is as it was")


def test_a_terminal_is_as_it_was_when_the_daemon_was_killed(host: Topology) -> None:
    host.new_container("web")

    with Terminal() as terminal, typed(host, terminal, ["ct", "exec", "web", "sh"]) as client:
        wait_for_text(terminal, "/ # ")
        assert terminal.is_raw

        host.kill_daemon()

        assert client.wait(20) == 1
        assert not terminal.is_raw
        assert "error: osctld closed the connection" in terminal.screen()
    host.start_daemon()


def test_a_client_without_a_terminal_takes_its_command_along_too(host: Topology) -> None:
    host.new_container("web")
    client = subprocess.Popen(
        [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "exec", "web", *STUBBORN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == b"up\n"
    assert stubborn_processes(host)

    client.kill()
    client.wait()

    wait_until(lambda: not stubborn_processes(host), "the command has ended")
    client.stdin.close()
    client.stdout.close()


def test_a_terminal_that_closes_takes_the_command_along(host: Topology) -> None:
    host.new_container("web")

    with Terminal() as terminal, typed(host, terminal, ["ct", "exec", "web", *STUBBORN]) as client:
        wait_for_text(terminal, "up")

        terminal.hang_up()

        client.wait(20)
        wait_until(lambda: not stubborn_processes(host), "the command has ended")
