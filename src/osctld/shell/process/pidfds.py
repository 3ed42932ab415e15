"""Processes held by descriptor, so that a recycled process id can never be mistaken for the one that was meant.

`/proc/PID exists` does not show that a process is alive: a killed process stays there as a zombie until its parent
reaps it. A pidfd becomes readable when the process has ended, reaped or not (pidfd_open(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Iterable


def open_pidfd(pid: int) -> int | None:
    """Return a pidfd of a process (close-on-exec), None if there is no such process."""
    try:
        return os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        # EINVAL: the id is that of a thread, hence of nothing that we ever mean.
        return None


def has_ended(pidfd: int) -> bool:
    """Tell at once whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal; False when the process had ended before."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def pid_of(pidfd: int) -> int | None:
    """Return the process id behind a pidfd in this pid namespace, None when the process has been reaped (proc(5))."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("Pid:"):
                pid = int(line.split()[1])
                return pid if pid > 0 else None
    return None


async def wait_readable(descriptor: int, *, timeout_seconds: float | None) -> bool:
    """Wait until a descriptor is readable; False when the time is over.

    A duplicate is registered with the loop, because a loop keeps one reader for each descriptor and several
    tasks may wait for the same process.
    """
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    duplicate = os.dup(descriptor)

    def report() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(duplicate, report)
    try:
        async with asyncio.timeout(timeout_seconds):
            await readable
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(duplicate)
        os.close(duplicate)
    return True


async def wait_ended(pidfd: int, *, timeout_seconds: float | None) -> bool:
    """Wait until the process has ended; False when it has not within the time."""
    if has_ended(pidfd):
        return True
    return await wait_readable(pidfd, timeout_seconds=timeout_seconds)


async def end_all(pidfds: Iterable[int], *, patience_seconds: float, kill_seconds: float = 10) -> bool:
    """Wait for processes to end by themselves, kill what is left after the patience; False if any survives that.

    The descriptors are closed.
    """
    held = list(pidfds)
    try:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        for pidfd in held:
            await wait_ended(pidfd, timeout_seconds=max(0.0, deadline - loop.time()))
        for pidfd in held:
            with contextlib.suppress(PermissionError):
                send_signal(pidfd, signal.SIGKILL)
        deadline = loop.time() + kill_seconds
        ended = [await wait_ended(pidfd, timeout_seconds=max(0.0, deadline - loop.time())) for pidfd in held]
        return all(ended)
    finally:
        for pidfd in held:
            os.close(pidfd)
