"""What a dead life has left behind: processes, cgroups, mounts, files. It is looked for and removed."""

from __future__ import annotations

import asyncio
import contextlib
import os

from osctld.core.errors import ApplyFailed, Refused
from osctld.shell.lxc import cgroups, monitor_socket, processes
from osctld.shell.lxc.life import ANSWER_SECONDS, DEATH_SECONDS
from osctld.shell.lxc.monitor_socket import NotRunning
from osctld.shell.lxc.places import Places, file_name
from osctld.shell.process import pidfds
from osctld.shell.process.subprocesses import to_the_end


async def collect(places: Places, container: str) -> None:
    """Remove all that a dead life has left: processes, cgroups, mounts, files. The reboot marker stays.

    Raises Refused when the container runs.
    """
    if monitor_socket.has_monitor(places.lxc_path, file_name(container)):
        with contextlib.suppress(NotRunning, TimeoutError):
            pidfd = await monitor_socket.init_pidfd(places.lxc_path, container, timeout_seconds=ANSWER_SECONDS)
            alive = not pidfds.has_ended(pidfd)
            os.close(pidfd)
            if alive:
                raise Refused(f"'{container}': container is running", code="running", subject=container)
    await sweep(places, container, patience_seconds=ANSWER_SECONDS)


async def sweep(places: Places, container: str, *, patience_seconds: float) -> None:
    """Remove what is left of a container. It is looked for until a look finds nothing: what ends may still make
    something on its way, as a monitor does that moves to another cgroup to remove its own.

    One look at all processes can miss a monitor whose parent ends after it was listed and before it was read; the
    next one cannot, for the parent ends after its fork.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEATH_SECONDS
    names = places.cgroups_of(container)
    is_doubtful = monitor_socket.has_monitor(places.lxc_path, container) or places.is_starting(container)
    clean_looks = 0
    while clean_looks < (2 if is_doubtful else 1):
        found: list[int] = []
        if is_doubtful:
            found += await asyncio.to_thread(processes.monitors_of, lxc_path=places.lxc_path, container=container)
        left = cgroups.existing((names.payload, names.monitor, names.pivot), trees=places.trees, bases=places.bases)
        if left:
            opened = [pidfds.open_pidfd(pid) for pid in await asyncio.to_thread(cgroups.members, left)]
            found += [pidfd for pidfd in opened if pidfd is not None]
            await asyncio.to_thread(cgroups.thaw, left)
        await pidfds.end_all(found, patience_seconds=patience_seconds)
        left = await asyncio.to_thread(cgroups.remove, left) if left else ()
        if not found and not left:
            clean_looks += 1
            continue
        clean_looks = 0
        if loop.time() > deadline:
            raise ApplyFailed(
                f"'{container}': its previous run has not ended: {', '.join(left) or 'the monitor is still there'}",
                subject=container,
            )
        await asyncio.sleep(0.005)  # a cgroup is busy for a moment after its last process
    if places.directory(container).exists():
        await to_the_end(asyncio.to_thread(places.remove_directory, container))
