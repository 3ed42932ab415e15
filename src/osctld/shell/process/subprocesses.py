"""Programs that the shell executes: with a clean environment, and to their end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable
from typing import Any, TypeVar

from osctld.core.health.programs import missing
from osctld.shell.process.inheritance import as_others

Result = TypeVar("Result")

CLEAN_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


async def to_the_end(work: Awaitable[Result]) -> Result:
    """Run a coroutine to its end even if this task is cancelled meanwhile; the cancellation then follows."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancellation = error
        except BaseException:  # noqa: BLE001 - raised again by the last line
            break
    if cancellation is not None and not task.cancelled() and task.exception() is None:
        raise cancellation
    return task.result()


async def execute(*command: str, subject: str = "", **how: Any) -> Process:
    """Start a program as asyncio.create_subprocess_exec does, with a clean environment, and without what only the
    daemon has to have.

    Raises Unavailable, with its package, when it is not installed.
    """
    words = as_others(*command)
    if words != command:
        require(command[0], subject=subject)  # a shell would be executed, and say it in its own words
    try:
        return await asyncio.create_subprocess_exec(*words, env=CLEAN_ENVIRONMENT, **how)
    except FileNotFoundError as error:
        if is_installed(command[0]):
            raise
        raise missing(command[0], subject=subject) from error


def require(program: str, *, subject: str = "") -> None:
    """Raise Unavailable, with its package, when a program is not installed that another one is to execute."""
    if not is_installed(program):
        raise missing(program, subject=subject)


def is_installed(program: str) -> bool:
    return shutil.which(program, path=CLEAN_ENVIRONMENT["PATH"]) is not None


async def kill(process: Process) -> None:
    """Kill a child, unless it has ended, and reap it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def last_line(process: Process) -> str:
    """Read standard error of a process to its end; return the last informative line."""
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(1 << 16):
        tail = (tail + chunk)[-4096:]
    lines = [line.strip() for line in tail.decode(errors="replace").splitlines()]
    telling = [line for line in lines if line and "Error is not recoverable" not in line and "Exiting with" not in line]
    return telling[-1] if telling else ""


async def run_quietly(*command: str, timeout_seconds: float) -> int | None:
    """Run a program with no streams and a clean environment; its exit status, None when it was killed for slowness."""
    process = await execute(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, cwd="/", start_new_session=True)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        await to_the_end(kill(process))
