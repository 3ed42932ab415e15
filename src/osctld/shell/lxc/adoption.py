"""Lives that another daemon has begun: they are found again, or ended when they are not as ours are."""

from __future__ import annotations

import asyncio
import signal

from osctld.core.errors import OsctlError
from osctld.shell.lxc import leftovers, monitor_socket
from osctld.shell.lxc import life as lxc_life
from osctld.shell.lxc.life import ANSWER_SECONDS, START_SECONDS, Life
from osctld.shell.lxc.places import Places
from osctld.shell.process import pidfds
from osctld.shell.process.subprocesses import to_the_end
from osctld.shell.rootfs import idmapped_mount


async def find(places: Places, container: str) -> Life | None:
    """Take hold of a container that was started before, by this daemon or the one before it; None: not running.

    A start that was under way when its daemon died is waited for, and ended when it takes too long; so is a
    container in a state that no start of ours leaves behind, and one that was started for a command alone.
    """
    await _await_orphaned_start(places, container)
    life: Life | None = None
    try:
        if not monitor_socket.has_monitor(places.lxc_path, container):
            return None
        life = await lxc_life.meet(places, container)
        await lxc_life.await_init(places, life, network=places.recorded_network(container))
        await to_the_end(asyncio.to_thread(idmapped_mount.detach, str(places.mount_point(container))))
        if places.is_transient(container):
            await to_the_end(_give_up(places, container, life))
            return None
    except OsctlError:
        await to_the_end(_give_up(places, container, life))
        return None
    except BaseException:
        if life is not None:
            life.close()
        raise
    return life


async def _await_orphaned_start(places: Places, container: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS
    while places.is_starting(container):
        if loop.time() > deadline:
            await leftovers.sweep(places, container, patience_seconds=0)
            return
        await asyncio.sleep(0.02)  # no descriptor tells when a lock is free


async def _give_up(places: Places, container: str, life: Life | None) -> None:
    if life is not None:
        pidfds.send_signal(life.pidfd, signal.SIGKILL)
        life.close()
    # A monitor at its end runs the post-stop hook, which may leave the marker of a reboot.
    await leftovers.sweep(places, container, patience_seconds=ANSWER_SECONDS)
