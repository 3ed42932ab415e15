"""Stopping containers: by request, or by force."""

from __future__ import annotations

import asyncio
import signal

from osctld.core.config.life import StopMethod
from osctld.core.errors import ApplyFailed, Unavailable
from osctld.shell.lxc import attach, cgroups, processes
from osctld.shell.lxc.life import DEATH_SECONDS, Life
from osctld.shell.lxc.places import Places
from osctld.shell.process import pidfds
from osctld.shell.process.subprocesses import to_the_end
from osctld.shell.rootfs.guest_root import InitKind

_ASK_AGAIN_SECONDS = 3.0
_SIGRTMIN_PLUS_3 = signal.SIGRTMIN + 3


async def end_init(places: Places, life: Life, *, timeout_seconds: float, method: StopMethod) -> None:
    """End a life's first process, with it all the others.

    Raises Unavailable when the guest has not powered off in time and must not be killed, ApplyFailed when not
    even killing helps.
    """
    if method is not StopMethod.KILL and not life.is_over:
        asking = asyncio.ensure_future(_ask_to_halt(places, life))
        try:
            ended = await pidfds.wait_ended(life.pidfd, timeout_seconds=timeout_seconds)
        finally:
            asking.cancel()
            await to_the_end(asyncio.wait([asking]))
        if not ended and method is StopMethod.SHUTDOWN_OR_FAIL:
            if not asking.cancelled() and (error := asking.exception()) is not None:
                raise ApplyFailed(f"'{life.container}': cannot be asked to power off: {error}", subject=life.container)
            raise Unavailable(
                f"'{life.container}': did not power off within {timeout_seconds:g} s", subject=life.container
            )
    if not life.is_over:
        pidfds.send_signal(life.pidfd, signal.SIGKILL)
        _thaw(places, life)  # a frozen process does not exit
        if not await pidfds.wait_ended(life.pidfd, timeout_seconds=DEATH_SECONDS):
            raise ApplyFailed(f"'{life.container}': did not exit after SIGKILL", subject=life.container)


def _thaw(places: Places, life: Life) -> None:
    if cgroups.is_frozen(life.cgroup, trees=places.trees):
        cgroups.thaw(f"{tree.mount_point}{life.cgroup}" for tree in places.trees)


async def _ask_to_halt(places: Places, life: Life) -> None:
    """Ask the guest to power off, again now and then: a request before init has its handlers is lost."""
    _thaw(places, life)
    kind = processes.init_kind_of(life.init_pid)
    while not life.is_over:
        if kind is InitKind.SYSTEMD:
            if processes.heeds(life.init_pid, _SIGRTMIN_PLUS_3):
                pidfds.send_signal(life.pidfd, _SIGRTMIN_PLUS_3)
                return
            await asyncio.sleep(0.02)  # there is no notification when a process has installed its handlers
            continue
        # SysV init, OpenRC and runit know no signal for it that Debian has set up.
        status = await attach.run(places, life, "/sbin/poweroff")
        if status in (126, 127):  # it has no such program
            pidfds.send_signal(life.pidfd, signal.SIGUSR1 if kind is InitKind.BUSYBOX else signal.SIGPWR)
        await pidfds.wait_ended(life.pidfd, timeout_seconds=_ASK_AGAIN_SECONDS)


async def wait_completely(life: Life) -> None:
    """Wait until first process and monitor have ended by themselves; a monitor is not waited for in vain."""
    await pidfds.wait_ended(life.pidfd, timeout_seconds=None)
    # STOPPED is visible on the command socket before the post-stop hook has run: the monitor's end counts.
    if not await pidfds.wait_ended(life.monitor_pidfd, timeout_seconds=DEATH_SECONDS):
        pidfds.send_signal(life.monitor_pidfd, signal.SIGKILL)
