"""Programs that the shell executes: with a clean environment, and to their end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable
from typing import TypeVar

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


def is_installed(program: str) -> bool:
    return shutil.which(program, path=CLEAN_ENVIRONMENT["PATH"]) is not None


async def kill(process: Process) -> None:
    """Kill a child, unless it has ended, and reap it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def last_line(process: Process) -> str:
    """Read what a process says on standard error, to its end; return the last line that tells something."""
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(1 << 16):
        tail = (tail + chunk)[-4096:]
    lines = [line.strip() for line in tail.decode(errors="replace").splitlines()]
    telling = [line for line in lines if line and "Error is not recoverable" not in line and "Exiting with" not in line]
    return telling[-1] if telling else ""


async def run_quietly(*command: str, timeout_seconds: float) -> int | None:
    """Run a program with no streams and a clean environment; its exit status, None when it was killed for slowness."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, cwd="/", env=CLEAN_ENVIRONMENT, start_new_session=True
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        await to_the_end(kill(process))
