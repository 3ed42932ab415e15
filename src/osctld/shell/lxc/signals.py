"""Signals for a command that an lxc-attach runs.

lxc-attach passes none on, and a signal for itself would end it and leave the command behind; so the command itself is
signalled, its first process being the child of lxc-attach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process

from osctld.core.config.life import SignalSource
from osctld.shell.lxc import processes
from osctld.shell.lxc.terminal import Streams
from osctld.shell.process import pidfds
from osctld.shell.process.subprocesses import to_the_end

#: What a keyboard sends, to all in the foreground rather than to one process (termios(3)).
_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_LOOK_SECONDS = 0.005
#: Maximum number of scans for processes to signal: a program that forks faster than that is not followed.
_LOOKS = 20


async def pass_on(source: SignalSource, process: Process, streams: Streams) -> None:
    """Pass each signal on to the command that an lxc-attach runs, until cancelled. Early ones wait for the command.

    Those of a keyboard go to the command's whole foreground group, others to its first process, as kill(1) would. A
    stop and its end stop and continue the group. A command with a terminal of its own continues when its client stops,
    as far as its terminal takes what it says: stops that are typed are the guest's.
    """
    while True:
        number = await source.next_signal()
        if number == signal.SIGWINCH and streams.has_terminal:
            streams.follow_size()  # the guest's terminal then tells its foreground
        elif number == signal.SIGTSTP:
            streams.pause()
            if not streams.has_terminal:
                await to_the_end(_to_group(process, number))
            source.may_stop()
        elif number == signal.SIGCONT:
            streams.resume()
            streams.follow_size()
            await to_the_end(_to_group(process, number))
        elif number in _KEYBOARD:
            await to_the_end(_to_group(process, number))
        elif (pidfd := await command_of(process)) is not None:
            pidfds.send_signal(pidfd, number)
            os.close(pidfd)


async def _to_group(process: Process, number: int) -> None:
    """Signal all of the command's foreground group."""
    command = await command_of(process)
    if command is None:
        return
    try:
        leader = pidfds.pid_of(command)
        group = processes.foreground_group_of(leader) if leader is not None else None
        if group is None:
            return
        # To lxc-attach, if it is in the group, to be continued means nothing. It ignores an interrupt, as its users
        # expect.
        is_for_all = group != process.pid or number == signal.SIGCONT or processes.ignores(process.pid, number)
        if number != signal.SIGTSTP and is_for_all:
            # By one call, as a keyboard does: who looks first and then signals one after the other misses a child that
            # is just being made.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        else:
            await _to_each(group, number, spared=process.pid)
    finally:
        os.close(command)


async def _to_each(group: int, number: int, *, spared: int) -> None:
    """Signal all of a group but one, also those that are made meanwhile unless somebody handles the signal: what is
    new then may be what the handler does."""
    told: dict[int, int] = {}
    is_handled = False
    try:
        for _ in range(_LOOKS):
            passed = {spared, *(pid for pid, pidfd in told.items() if not pidfds.has_ended(pidfd))}
            found = await asyncio.to_thread(processes.of_group, group, spared=passed)
            for pid, pidfd in found.items():
                is_handled |= processes.heeds(pid, number) or processes.ignores(pid, number)
                if (former := told.pop(pid, None)) is not None:
                    os.close(former)
                told[pid] = pidfd
                pidfds.send_signal(pidfd, _stopping(pidfd) if number == signal.SIGTSTP else number)
            if not found or is_handled:
                break
    finally:
        for pidfd in told.values():
            os.close(pidfd)


def _stopping(pidfd: int) -> int:
    """Return what stops a process: SIGTSTP is for those that handle or ignore it.

    The kernel lets it stop nobody in a group without a parent in its session, and the command's is such a group.
    """
    pid = pidfds.pid_of(pidfd)
    is_particular = pid is not None and (processes.heeds(pid, signal.SIGTSTP) or processes.ignores(pid, signal.SIGTSTP))
    return signal.SIGTSTP if is_particular else signal.SIGSTOP


async def command_of(process: Process) -> int | None:
    """Return a pidfd, owned by the caller, of the command's first process; None when it has ended.

    Waits until lxc-attach has executed it: its helpers before must not be disturbed.
    """
    attach = pidfds.open_pidfd(process.pid) if process.returncode is None else None
    if attach is None:
        return None
    try:
        while not pidfds.has_ended(attach):
            for pid in processes.children(process.pid):
                pidfd = pidfds.open_pidfd(pid)
                if pidfd is None:
                    continue
                # Asked under the eyes of both: neither id can have been recycled.
                is_meant = (
                    processes.parent_of(pid) == process.pid
                    and processes.has_another_program(pid, than=process.pid)
                    and not pidfds.has_ended(attach)
                )
                if is_meant and not pidfds.has_ended(pidfd):
                    return pidfd
                os.close(pidfd)
            await asyncio.sleep(_LOOK_SECONDS)
        return None
    finally:
        os.close(attach)
