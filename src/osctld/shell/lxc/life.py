"""A life: a container from its first process to the end of its monitor, and how to take hold of one."""

from __future__ import annotations

import asyncio
import contextlib
import os

from osctld.core.config.confinement import profile_of
from osctld.core.config.life import End
from osctld.core.errors import ApplyFailed
from osctld.shell.lxc import apparmor, monitor_socket, processes
from osctld.shell.lxc.monitor_socket import NotRunning
from osctld.shell.lxc.places import Places
from osctld.shell.process import pidfds
from osctld.shell.rootfs import idmapped_mount

# Bounds, in seconds, that only end what hangs. A start takes 20 to 40 ms, a hundred at once some seconds, and tens of
# seconds where all processors are taken by others.
START_SECONDS = 120.0
ANSWER_SECONDS = 5.0
DEATH_SECONDS = 30.0
_EXEC_SECONDS = 120.0
#: From the first step of a process's end, in which it lets go of its namespaces, to the last: milliseconds.
_ENDING_SECONDS = 0.5

_ENDED_AT_ONCE = "init exited at once"


class Life:
    """A container from its first process to the end of its monitor. Owns two descriptors: close it once.

    `init_pid` is the first process as the host counts; `pidfd` and `monitor_pidfd` become readable when init and
    LXC's monitor have ended. `cgroup` is the path of its cgroup below each hierarchy.
    """

    def __init__(self, *, container: str, init_pid: int, pidfd: int, monitor_pidfd: int, cgroup: str) -> None:
        self.container = container
        self.init_pid = init_pid
        self.pidfd = pidfd
        self.monitor_pidfd = monitor_pidfd
        self.cgroup = cgroup
        self.ending: asyncio.Task[End] | None = None

    @property
    def is_over(self) -> bool:
        return self.pidfd < 0 or pidfds.has_ended(self.pidfd)

    def close(self) -> None:
        """Give the descriptors back; the container itself is not touched."""
        if self.ending is not None:
            self.ending.cancel()
        for descriptor in (self.pidfd, self.monitor_pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self.monitor_pidfd = -1


async def meet(places: Places, container: str) -> Life:
    """Take hold of a container that a monitor runs. Raises ApplyFailed if there is none (any longer)."""
    try:
        pidfd = await monitor_socket.init_pidfd(places.lxc_path, container, timeout_seconds=START_SECONDS)
    except NotRunning as error:
        raise places.failed_start(container, _ENDED_AT_ONCE) from error
    except TimeoutError as error:
        raise ApplyFailed(f"'{container}': its monitor does not answer", subject=container) from error
    monitor: int | None = None
    try:
        init_pid = pidfds.pid_of(pidfd)
        parent = processes.parent_of(init_pid) if init_pid else None
        monitor = pidfds.open_pidfd(parent) if parent else None
        # The parent is read again under the eyes of a living child: its id cannot have been recycled between.
        if init_pid is None or monitor is None or processes.parent_of(init_pid) != parent or pidfds.has_ended(pidfd):
            raise places.failed_start(container, _ENDED_AT_ONCE)
        life = Life(
            container=container,
            init_pid=init_pid,
            pidfd=pidfd,
            monitor_pidfd=monitor,
            cgroup=await _cgroup_of(places, container),
        )
        pidfd, monitor = -1, None
        return life
    finally:
        if pidfd >= 0:
            os.close(pidfd)
        if monitor is not None:
            os.close(monitor)


async def _cgroup_of(places: Places, container: str) -> str:
    counts_memory = any("memory" in tree.controllers for tree in places.trees)
    with contextlib.suppress(NotRunning, TimeoutError):
        path = await monitor_socket.payload_cgroup(
            places.lxc_path,
            container,
            controller="memory" if counts_memory else "",
            timeout_seconds=ANSWER_SECONDS,
        )
        if path is not None:
            return path
    return f"/{places.cgroups_of(container).payload}"


async def await_init(places: Places, life: Life, *, network: int) -> None:
    """Wait until the guest's own init runs, and make sure that it runs where it should."""
    # LXC reports success before it executes init. No descriptor signals when that has happened.
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _EXEC_SECONDS
    pause = 0.0005
    while processes.runs_the_same_program(life.init_pid, pidfds.pid_of(life.monitor_pidfd)):
        if life.is_over:
            break
        if loop.time() > deadline:
            raise ApplyFailed(
                f"'{life.container}': did not start: /sbin/init was not executed within {_EXEC_SECONDS:g} s",
                subject=life.container,
            )
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.02)
    idmapped = idmapped_mount.is_root_idmapped(life.init_pid)
    try:
        joined = os.stat(f"/proc/{life.init_pid}/ns/net").st_ino
    except OSError:
        joined = 0
    if (not idmapped or joined != network) and not life.is_over:
        # One that is just ending gives up its root and its namespaces a moment before its pidfd says so.
        await pidfds.wait_ended(life.pidfd, timeout_seconds=_ENDING_SECONDS)
    confined_by = apparmor.label_of(life.init_pid)
    if life.is_over:
        await pidfds.wait_ended(life.monitor_pidfd, timeout_seconds=ANSWER_SECONDS)
        raise places.failed_start(life.container, _ENDED_AT_ONCE)
    if not idmapped:
        raise ApplyFailed(f"'{life.container}': killed, its root is not id-mapped", subject=life.container)
    if joined != network:
        raise ApplyFailed(f"'{life.container}': killed, it ran in another network namespace", subject=life.container)
    wanted = places.recorded_label(life.container)
    if wanted and profile_of(confined_by) != profile_of(wanted):
        raise ApplyFailed(
            f"'{life.container}': killed, it was confined by {confined_by!r} and not by {wanted!r}",
            subject=life.container,
        )
