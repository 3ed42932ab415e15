"""Signals for a command that an lxc-attach runs.

lxc-attach passes none on, and a signal for itself would end it and leave the command behind; so the command itself is
signalled, its first process being the child of lxc-attach.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process

from osctld.core.life import SignalSource
from osctld.shell import lxc_processes, pidfds
from osctld.shell.lxc_terminal import Streams

#: What a keyboard sends, to all in the foreground rather than to one process (termios(3)).
_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_LOOK_SECONDS = 0.005


async def pass_on(source: SignalSource, process: Process, streams: Streams) -> None:
    """Pass each signal on to the command that an lxc-attach runs, until cancelled. Early ones wait for the command.

    Those of a keyboard go to the command's whole foreground group, others to its first process, as kill(1) would.
    A stop and its end stop and continue the group. A command with a terminal of its own goes on when its client
    stops, as far as its terminal takes what it says: stops that are typed are the guest's.
    """
    while True:
        number = await source.next_signal()
        if number == signal.SIGWINCH and streams.has_terminal:
            streams.follow_size()  # the guest's terminal then tells its foreground
        elif number == signal.SIGTSTP:
            streams.pause()
            if not streams.has_terminal:
                await _to_group(process, number)
            source.may_stop()
        elif number == signal.SIGCONT:
            streams.resume()
            streams.follow_size()
            await _to_group(process, number)
        elif number in _KEYBOARD:
            await _to_group(process, number)
        elif (pidfd := await command_of(process)) is not None:
            pidfds.send_signal(pidfd, number)
            os.close(pidfd)


async def _to_group(process: Process, number: int) -> None:
    command = await command_of(process)
    if command is None:
        return
    try:
        pid = pidfds.pid_of(command)
        held = await asyncio.to_thread(lxc_processes.of_group, pid, spared=process.pid) if pid is not None else []
    finally:
        os.close(command)
    for pidfd in held:
        pidfds.send_signal(pidfd, _stopping(pidfd) if number == signal.SIGTSTP else number)
        os.close(pidfd)


def _stopping(pidfd: int) -> int:
    """Return what stops a process: SIGTSTP is for those that handle or ignore it.

    The kernel lets it stop nobody in a group without a parent in its session, and the command's is such a group.
    """
    pid = pidfds.pid_of(pidfd)
    is_particular = pid is not None and (
        lxc_processes.heeds(pid, signal.SIGTSTP) or lxc_processes.ignores(pid, signal.SIGTSTP)
    )
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
            for pid in lxc_processes.children(process.pid):
                pidfd = pidfds.open_pidfd(pid)
                if pidfd is None:
                    continue
                # Asked under the eyes of both: neither id can have been recycled.
                is_meant = (
                    lxc_processes.parent_of(pid) == process.pid
                    and lxc_processes.has_another_program(pid, than=process.pid)
                    and not pidfds.has_ended(attach)
                )
                if is_meant and not pidfds.has_ended(pidfd):
                    return pidfd
                os.close(pidfd)
            await asyncio.sleep(_LOOK_SECONDS)
        return None
    finally:
        os.close(attach)
