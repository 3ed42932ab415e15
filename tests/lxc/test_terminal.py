"""Commands of clients that sit at a terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from lxc.lxc_host import Busybox, end, output_of, start, until
from lxc.terminal import Terminal
from osctld.shell.lxc.engine import Life, LxcEngine

SECONDS = 20


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal(rows=33, columns=111) as made:
        yield made


def at(terminal: Terminal, engine: LxcEngine, life: Life, *command: str) -> asyncio.Task[int]:
    tty = terminal.program
    return asyncio.create_task(engine.execute(life, command, stdin=tty, stdout=tty, stderr=tty))


async def is_running(engine: LxcEngine, life: Life, mark: str) -> bool:
    return mark in await output_of(engine, life, "ps", "-o", "args")


async def test_a_shell_typed_at_a_terminal_is_one_at_a_terminal(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    shell = at(terminal, engine, life, "sh")
    await until(lambda: "/ # " in terminal.screen())
    assert terminal.is_raw  # each key goes to the guest, whose own terminal answers to it

    terminal.type('test -t 0 && test -t 1 && test -t 2 && echo "term$TERM"\n')
    await until(lambda: "termxterm" in terminal.screen())
    terminal.type("stty -a\n")
    await until(lambda: "rows 33; columns 111" in terminal.screen())
    # Said by a process in the foreground: an interrupt between a shell's own echo and its handing over of the terminal
    # would meet the shell alone, and nothing would end the command.
    terminal.type("sh -c 'echo sl$((1 + 1))eep; exec sleep 1000'\n")
    await until(lambda: "sl2eep" in terminal.screen())
    prompts = terminal.screen().count("/ # ")
    terminal.type("\x03")
    # Not the ^C alone: what is typed before the shell reads again is thrown away with the interrupt.
    await until(lambda: terminal.screen().count("/ # ") > prompts)
    terminal.type("exit 5\n")

    assert await asyncio.wait_for(shell, SECONDS) == 5
    assert not terminal.is_raw
    await end(engine, life)


async def test_a_terminal_that_changes_its_size_changes_that_inside(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    shell = at(terminal, engine, life, "sh", "-c", "trap 'stty -a' WINCH; echo up; while :; do sleep 0.05; done")
    await until(lambda: "up" in terminal.screen())

    terminal.resize(44, 99)

    await until(lambda: "rows 44; columns 99" in terminal.screen())
    shell.cancel()
    await asyncio.wait([shell])
    await end(engine, life)


async def test_all_that_a_command_says_at_its_end_is_shown(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    running = at(terminal, engine, life, "seq", "1", "30000")

    await until(lambda: terminal.screen() and running.done())
    status = await running

    assert status == 0
    assert terminal.screen().split() == [str(number) for number in range(1, 30001)]
    await end(engine, life)


async def test_output_to_a_terminal_is_shown_while_input_comes_from_elsewhere(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe\n")
    os.close(writer)

    status = await engine.execute(
        life, ["sh", "-c", "cat; echo oops >&2"], stdin=reader, stdout=terminal.program, stderr=terminal.program
    )

    os.close(reader)
    assert status == 0
    assert terminal.screen() == "from a pipe\noops\n"
    await end(engine, life)


async def test_lines_typed_at_a_terminal_reach_a_command_whose_output_goes_elsewhere(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    reader, writer = os.pipe()
    task = asyncio.create_task(
        engine.execute(life, ["cat"], stdin=terminal.program, stdout=writer, stderr=terminal.program)
    )

    terminal.type("one\ntwo\n\x04")

    assert await asyncio.wait_for(task, SECONDS) == 0
    os.close(writer)
    assert os.read(reader, 4096) == b"one\ntwo\n"
    os.close(reader)
    await end(engine, life)


async def test_a_command_that_leaves_a_process_behind_has_ended(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    status = await asyncio.wait_for(
        engine.execute(
            life, ["sh", "-c", "sleep 1000 & echo left"], stdin=null, stdout=terminal.program, stderr=terminal.program
        ),
        SECONDS,
    )

    os.close(null)
    assert status == 0
    assert terminal.screen() == "left\n"
    assert await is_running(engine, life, "sleep 1000")
    await end(engine, life)


async def test_a_cancelled_command_leaves_the_terminal_as_it_was(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    task = at(terminal, engine, life, "sh", "-c", "trap '' HUP; echo up; sleep 1000; sleep 1000")
    await until(lambda: "up" in terminal.screen())

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not terminal.is_raw
    assert not await is_running(engine, life, "sleep 1000")
    await end(engine, life)


async def test_a_terminal_that_hangs_up_ends_its_command(
    engine: LxcEngine, busybox: Busybox, terminal: Terminal
) -> None:
    life = await start(engine, await busybox())
    task = at(terminal, engine, life, "sh", "-c", "trap '' HUP; echo up; sleep 1000; sleep 1000")
    await until(lambda: "up" in terminal.screen())

    terminal.hang_up()

    assert await asyncio.wait_for(task, SECONDS) != 0
    assert not await is_running(engine, life, "sleep 1000")
    await end(engine, life)
