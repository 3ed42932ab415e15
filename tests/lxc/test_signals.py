"""Signals for commands inside a guest, and what a stopped client leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from lxc.lxc_host import Busybox, end, output_of, start, until
from lxc.terminal import Terminal
from osctld.shell.lxc.engine import Life, LxcEngine

SECONDS = 20


class Sender:
    """A client that gets signals."""

    def __init__(self, *early: signal.Signals) -> None:
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
        self.stops = 0
        for number in early:
            self.send(number)

    def send(self, number: signal.Signals) -> None:
        self._waiting.put_nowait(number)

    async def next_signal(self) -> int:
        return await self._waiting.get()

    def may_stop(self) -> None:
        self.stops += 1


class Command:
    """A command without a terminal, and what it says."""

    def __init__(self, engine: LxcEngine, life: Life, script: str, sender: Sender) -> None:
        self._reader, writer = os.pipe()
        self._said = b""
        os.set_blocking(self._reader, False)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

        async def run() -> int:
            try:
                return await engine.execute(
                    life, ["sh", "-c", script], stdin=null, stdout=writer, stderr=writer, signals=sender
                )
            finally:
                os.close(null)
                os.close(writer)

        self.task = asyncio.create_task(run())

    def said(self) -> str:
        """All of it until now, or until it was closed."""
        if self._reader < 0:
            return self._said.decode()
        try:
            while piece := os.read(self._reader, 1 << 16):
                self._said += piece
        except BlockingIOError:
            pass
        return self._said.decode()

    async def status(self) -> int:
        status = await asyncio.wait_for(self.task, SECONDS)
        self.close()
        return status

    def close(self) -> None:
        self.said()
        os.close(self._reader)
        self._reader = -1


def processes_inside(life: Life) -> list[tuple[str, str]]:
    """State, as proc(5) has it, and words of each process of a guest."""
    inside = os.stat(f"/proc/{life.init_pid}/ns/pid").st_ino
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == inside:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
                found.append((state, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


def has_pending(life: Life, number: signal.Signals) -> bool:
    """Whether a process of a guest has yet to run to get a signal that was sent to it."""
    inside = os.stat(f"/proc/{life.init_pid}/ns/pid").st_ino
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == inside:
                fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                if (int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)) >> (number - 1) & 1:
                    return True
    return False


def states_of(life: Life, words: str) -> set[str]:
    return {state for state, found in processes_inside(life) if words in found}


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "WINCH"])
async def test_a_command_handles_the_signals_of_its_client(engine: LxcEngine, busybox: Busybox, name: str) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, f"trap 'echo got; exit 9' {name}; echo up; while :; do sleep 0.05; done", sender)
    await until(lambda: "up" in command.said())

    sender.send(signal.Signals[f"SIG{name}"])

    assert await command.status() == 9
    assert command.said().splitlines()[0] == "up"
    assert command.said().splitlines()[-1] == "got"  # between them a shell may tell how its child ended
    await end(engine, life)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL])
async def test_a_command_that_does_not_handle_a_signal_is_ended_by_it(
    engine: LxcEngine, busybox: Busybox, number: signal.Signals
) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, "echo up; exec sleep 1000", sender)
    await until(lambda: "up" in command.said())

    sender.send(number)

    assert await command.status() == 128 + number
    assert not states_of(life, "sleep 1000")
    await end(engine, life)


async def test_a_signal_that_comes_before_the_command_runs_waits_for_it(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())

    statuses = [
        await Command(engine, life, "exec sleep 1000", Sender(number)).status()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ]

    assert statuses == [143, 130, 129]
    await end(engine, life)


async def test_an_interrupt_reaches_all_that_a_keyboard_would_reach(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, "echo up; sleep 1000; echo never", sender)
    await until(lambda: "up" in command.said())

    sender.send(signal.SIGINT)

    assert await command.status() == 130
    assert not states_of(life, "sleep 1000")
    await end(engine, life)


async def test_an_interrupt_reaches_also_those_who_are_made_at_that_moment(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    for _ in range(5):
        sender = Sender()
        # A chain that grows: each link makes the next one a moment later, twenty times.
        script = "f() { test $1 = 0 || sleep 1000 | { sleep 0.01; f $(($1 - 1)); }; }; echo up; f 20; sleep 1000"
        command = Command(engine, life, script, sender)
        await until(lambda command=command: "up" in command.said())  # type: ignore[misc]

        sender.send(signal.SIGINT)

        assert await command.status() == 130
        assert not states_of(life, "sleep")
    await end(engine, life)


async def test_other_signals_are_for_the_command_alone(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, "trap 'echo heard' USR1; echo up; sleep 2; echo slept $?", sender)
    await until(lambda: "up" in command.said())

    sender.send(signal.SIGUSR1)

    assert await command.status() == 0
    assert command.said() == "up\nheard\nslept 0\n"
    await end(engine, life)


async def test_a_command_stops_and_goes_on_with_its_client(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, "echo up; sleep 1000", sender)
    await until(lambda: states_of(life, "sleep 1000") == {"S"})

    sender.send(signal.SIGTSTP)
    await until(lambda: sender.stops)

    await until(lambda: states_of(life, "sleep 1000") == {"T"})  # when it runs next

    sender.send(signal.SIGCONT)
    sender.send(signal.SIGINT)

    assert await command.status() == 130
    assert sender.stops == 1
    await end(engine, life)


async def test_a_command_that_handles_a_stop_is_asked_and_one_that_ignores_it_goes_on(
    engine: LxcEngine, busybox: Busybox
) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, "trap 'echo asked; exit 4' TSTP; echo up; while :; do sleep 0.05; done", sender)
    await until(lambda: "up" in command.said())
    sender.send(signal.SIGTSTP)
    await until(lambda: sender.stops)
    await until(lambda: not has_pending(life, signal.SIGTSTP))  # to be continued takes a stop back that is on its way
    sender.send(signal.SIGCONT)
    assert await command.status() == 4
    assert command.said() == "up\nasked\n"

    command = Command(engine, life, "trap '' TSTP; echo up; exec sleep 1000", sender)
    await until(lambda: "up" in command.said())
    sender.send(signal.SIGTSTP)
    await until(lambda: sender.stops == 2)
    assert "T" not in states_of(life, "sleep 1000")
    sender.send(signal.SIGTERM)
    assert await command.status() == 143
    await end(engine, life)


async def test_a_stopped_command_ends_with_its_client(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    command = Command(engine, life, "trap 'touch /heard; exit' HUP; echo up; while :; do sleep 0.05; done", sender)
    await until(lambda: "up" in command.said())
    sender.send(signal.SIGTSTP)
    await until(lambda: sender.stops)

    command.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command.status()

    assert not states_of(life, "heard")
    assert await output_of(engine, life, "ls", "/heard") == "/heard\n"
    command.close()
    await end(engine, life)


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ("xterm-256color", "xterm-256color"),
        ("screen.xterm-256color", "screen.xterm-256color"),
        ("dumb", "dumb"),
        ("", "xterm"),
        ("../../etc/passwd", "xterm"),
        ("a\nLD_PRELOAD=x", "xterm"),
        ("a" * 65, "xterm"),
    ],
)
async def test_a_command_at_a_terminal_knows_its_type(
    engine: LxcEngine, busybox: Busybox, given: str, inside: str
) -> None:
    life = await start(engine, await busybox())

    with Terminal() as terminal:
        tty = terminal.program
        status = await engine.execute(
            life, ["sh", "-c", 'echo "[$TERM]"'], stdin=tty, stdout=tty, stderr=tty, terminal_type=given
        )

        assert (status, terminal.screen()) == (0, f"[{inside}]\n")
    await end(engine, life)


async def test_a_stopped_client_has_its_terminal_for_itself(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    with Terminal() as terminal:
        tty = terminal.program
        script = "echo up; while read word; do echo [$word]; done; echo ended; exit 6"
        running = asyncio.create_task(
            engine.execute(life, ["sh", "-c", script], stdin=tty, stdout=tty, stderr=tty, signals=sender)
        )
        await until(lambda: "up" in terminal.screen())
        assert terminal.is_raw

        sender.send(signal.SIGTSTP)
        await until(lambda: sender.stops)

        assert not terminal.is_raw
        terminal.type("for the shell\n")
        assert os.read(tty, 100) == b"for the shell\n"

        terminal.resize(7, 70)
        sender.send(signal.SIGCONT)
        await until(lambda: terminal.is_raw)
        terminal.type("inside\n")
        await until(lambda: "[inside]" in terminal.screen())
        assert "[for the shell]" not in terminal.screen()
        terminal.type("\x04")
        assert await asyncio.wait_for(running, SECONDS) == 6
        assert not terminal.is_raw
    await end(engine, life)


async def test_a_terminal_that_says_so_has_its_new_size_inside_at_once(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    sender = Sender()
    with Terminal() as terminal:
        tty = terminal.program
        script = "trap 'stty -a' WINCH; echo up; while :; do sleep 0.05; done"
        running = asyncio.create_task(
            engine.execute(life, ["sh", "-c", script], stdin=tty, stdout=tty, stderr=tty, signals=sender)
        )
        await until(lambda: "up" in terminal.screen())

        terminal.resize(44, 99)
        sender.send(signal.SIGWINCH)

        await until(lambda: "rows 44; columns 99" in terminal.screen())
        sender.send(signal.SIGTERM)
        assert await asyncio.wait_for(running, SECONDS) == 143
    await end(engine, life)
