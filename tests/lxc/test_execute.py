"""Commands inside a running guest: streams, end of input, exit status."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lxc.lxc_host import Busybox, end, output_of, start, until
from osctld.core.config.life import StopMethod
from osctld.core.errors import Refused, Unavailable
from osctld.shell.lxc.engine import Life, LxcEngine


@asynccontextmanager
async def running(engine: LxcEngine, busybox: Busybox) -> AsyncIterator[Life]:
    life = await start(engine, await busybox())
    try:
        yield life
    finally:
        await end(engine, life)


def null() -> int:
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


async def status_of(engine: LxcEngine, life: Life, *command: str) -> int:
    descriptor = null()
    try:
        return await engine.execute(life, command, stdin=descriptor, stdout=descriptor, stderr=descriptor)
    finally:
        os.close(descriptor)


async def test_the_exit_status_is_that_of_the_command(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        assert await status_of(engine, life, "true") == 0
        assert await status_of(engine, life, "sh", "-c", "exit 7") == 7
        assert await status_of(engine, life, "sh", "-c", "kill -9 $$") == 137
        assert await status_of(engine, life, "sh", "-c", "kill -TERM $$") == 143
        assert await status_of(engine, life, "no-such-command") == 127
        assert await status_of(engine, life, "/etc/passwd") == 126


async def test_the_three_streams_are_apart_and_input_ends(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        in_reader, in_writer = os.pipe()
        out_reader, out_writer = os.pipe()
        error_reader, error_writer = os.pipe()
        os.write(in_writer, b"one\ntwo\n")
        os.close(in_writer)

        status = await engine.execute(
            life, ["sh", "-c", "cat; echo oops >&2"], stdin=in_reader, stdout=out_writer, stderr=error_writer
        )

        for descriptor in (in_reader, out_writer, error_writer):
            os.close(descriptor)
        assert status == 0
        assert os.read(out_reader, 4096) == b"one\ntwo\n"
        assert os.read(out_reader, 4096) == b""
        assert os.read(error_reader, 4096) == b"oops\n"
        os.close(out_reader)
        os.close(error_reader)


async def test_a_large_stream_arrives_whole(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        content = os.urandom(1 << 16).hex() * 16

        echoed = await output_of(engine, life, "cat", stdin=content.encode())

        assert echoed == content


async def test_descriptors_of_the_caller_stay_blocking(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        reader, writer = os.pipe()

        await engine.execute(life, ["true"], stdin=reader, stdout=writer, stderr=writer)

        for descriptor in (reader, writer):
            assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK
            os.close(descriptor)


async def test_a_command_has_a_clean_environment_and_what_was_asked_for(
    engine: LxcEngine, busybox: Busybox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "42")
    async with running(engine, busybox) as life:
        reader, writer = os.pipe()
        descriptor = null()

        await engine.execute(
            life, ["sh", "-c", "env; pwd"], stdin=descriptor, stdout=writer, stderr=descriptor,
            environment={"TERM": "xterm", "LANG": "a=b c"},
        )  # fmt: skip

        os.close(writer)
        os.close(descriptor)
        lines = os.read(reader, 1 << 16).decode().splitlines()
        os.close(reader)
        assert {"TERM=xterm", "LANG=a=b c", "HOME=/root"} <= set(lines)
        assert not [line for line in lines if "SECRET" in line]
        assert lines[-1] == "/"
        assert "SECRET_OF_THE_HOST" not in await output_of(engine, life, "sh", "-c", "tr '\\0' '\\n' </proc/1/environ")


async def test_words_of_a_command_arrive_as_they_are(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        words = ["-n", "--help", "a b", "$HOME; exit 3", "", "ü", "'\""]

        shown = await output_of(engine, life, "sh", "-c", 'for word; do echo "[$word]"; done', "-", *words)

        assert shown.splitlines() == [f"[{word}]" for word in words]


async def test_what_makes_no_command_is_refused(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        with pytest.raises(Refused):
            await status_of(engine, life)
        with pytest.raises(Refused):
            await status_of(engine, life, "a\0b")
        with pytest.raises(Refused):
            await status_of(engine, life, "echo", "\ud800")
        with pytest.raises(Refused, match="'echo': too long to be executed with its arguments, 200006 bytes"):
            await status_of(engine, life, "echo", "x" * 200_000)
        assert await status_of(engine, life, "true", "x" * 100_000, "\udcff") == 0


async def test_a_stopped_guest_runs_no_commands(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    await engine.shut_down(life, timeout_seconds=0, method=StopMethod.KILL)

    with pytest.raises(Unavailable, match="'web': container not running"):
        await status_of(engine, life, "true")
    life.close()


async def test_a_cancelled_command_ends_inside_too(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        script = "trap '' HUP TERM INT; touch /here; while :; do sleep 1000; done"
        task = asyncio.ensure_future(status_of(engine, life, "sh", "-c", script))
        await until(lambda: os.path.exists(f"/proc/{life.init_pid}/root/here"))

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert "trap" not in await output_of(engine, life, "sh", "-c", "ps -o args | grep -v grep | grep here; true")


async def test_a_command_that_is_cancelled_on_its_way_inside_never_runs_on(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        for milliseconds in range(40):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(milliseconds / 2000):
                    await status_of(engine, life, "sleep", "1000")

        assert "sleep 1000" not in await output_of(engine, life, "ps", "-o", "args")


async def test_commands_end_with_their_guest(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    task = asyncio.ensure_future(status_of(engine, life, "sh", "-c", "touch /here; sleep 1000"))
    await until(lambda: os.path.exists(f"/proc/{life.init_pid}/root/here"))

    await engine.shut_down(life, timeout_seconds=0, method=StopMethod.KILL)

    assert await asyncio.wait_for(task, 10) == 137
    life.close()


async def test_twenty_commands_at_once_get_their_own_answers(engine: LxcEngine, busybox: Busybox) -> None:
    async with running(engine, busybox) as life:
        statuses = await asyncio.gather(*(status_of(engine, life, "sh", "-c", f"exit {n}") for n in range(20)))

        assert statuses == list(range(20))
