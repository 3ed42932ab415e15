"""`osctld --at-shutdown`: what osctl-shutdown.service runs when it is stopped, which it is whenever the host goes down.

It does nothing when the host does not go down. Else the daemon is asked to stop all containers. Where none answers,
they are stopped here, by the same engine and in the same order, and neither store nor network is needed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

import osctl.client
from osctld import config
from osctld.core.config.autostart import ShutdownMark, stop_groups
from osctld.core.config.host import Container
from osctld.core.config.life import StopMethod
from osctld.core.errors import OsctlError
from osctld.lifecycle.boot import ABORTED, LONGEST_KILLING, stop_in_order
from osctld.lifecycle.engine import L
from osctld.shell.host_boot import NotedShutdown, boot_identity, is_going_down
from osctld.shell.process import pidfds
from osctld.shell.store.database import documents_in

log = logging.getLogger("osctld")

#: Seconds within which a live daemon answers, however busy it is.
PATIENCE = 10.0
#: How often systemd is asked what it is about to do if it does not answer.
_QUESTIONS = 5
#: A daemon that says this is older than this program, and is none that could help.
_CODES_OF_IGNORANCE = ("unknown-command", "bad-opts")


class Engine(Protocol[L]):
    """What the engine does for it."""

    def names(self) -> Sequence[str]: ...
    async def find(self, container: str, /) -> L | None: ...
    async def shut_down(self, life: L, /, *, timeout_seconds: float, method: StopMethod) -> None: ...


class DaemonPlaces(msgspec.Struct, frozen=True):
    """Where one daemon has its things, and how long its containers may take to power off."""

    state_dir: Path
    socket: Path
    lock: Path
    timeout_seconds: float


def shut_down(places: DaemonPlaces, engine: Engine[L], *, is_forced: bool) -> int:
    """Stop all containers if the host goes down, or in any case with `is_forced`. Returns the exit status."""
    if not is_forced:
        goes_down = asyncio.run(_is_going_down())
        if goes_down is None:
            log.error("systemd does not say whether the host is going down; no container is stopped")
            return 1
        if not goes_down:
            log.info("the host is not going down; containers keep running")
            return 0
    for _attempt in range(2):  # a restarted daemon is asked, too
        answer = _ask_daemon(places)
        if answer is not None:
            return answer
        _end_daemon(places.lock)
    return asyncio.run(_stop_all(places, engine, is_forced=is_forced))


async def _is_going_down() -> bool | None:
    for _ in range(_QUESTIONS):
        answer = await is_going_down()
        if answer is not None:
            return answer
        await asyncio.sleep(1)
    return None


def _ask_daemon(places: DaemonPlaces) -> int | None:
    """Have the daemon stop everything; None when there is none that does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(str(places.socket))
        with osctl.client.Client(connection) as daemon:
            daemon.call("ping")
            connection.settimeout(places.timeout_seconds + LONGEST_KILLING)
            daemon.call("self_shutdown", force=True, on_progress=log.info)
    except osctl.client.RequestFailed as failure:
        if failure.code == ABORTED:
            log.info("%s", failure.message)
            return 0
        log.error("%s", failure.message)
        return None if failure.code in _CODES_OF_IGNORANCE else 1
    except OSError as error:
        log.warning("osctld does not answer (%s)", error)
        return None
    finally:
        connection.close()
    return 0


def _end_daemon(lock: Path) -> None:
    """Kill a daemon that does not answer: two must not stop the same containers, and what it held it lets go."""
    with contextlib.suppress(OSError, ValueError), lock.open("rb") as file:
        pid = int(file.read(32))
        pidfd = pidfds.open_pidfd(pid)
        if pidfd is None:
            return
        try:
            # The process that wrote its id here holds the lock for its lifetime: no other process can have its id now.
            if _is_held(file.fileno()):
                log.warning("killing osctld, process %d", pid)
                pidfds.send_signal(pidfd, signal.SIGKILL)
                asyncio.run(pidfds.wait_ended(pidfd, timeout_seconds=PATIENCE))
        finally:
            os.close(pidfd)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


async def _stop_all(places: DaemonPlaces, engine: Engine[L], *, is_forced: bool) -> int:
    """Stop everything without a daemon. A start that was under way when the daemon died is waited for."""
    noted = NotedShutdown(places.state_dir)
    mark = ShutdownMark(boot_identity(), time.time(), "command" if is_forced else "host")
    try:
        noted.write(mark)
    except OsctlError as error:
        log.error("%s; the shutdown continues", error.message)
    failed = 0

    async def stop(name: str, seconds: float) -> None:
        nonlocal failed
        try:
            life = await engine.find(name)
            if life is not None:
                log.info("Stopping container %s", name)
                begun = time.monotonic()
                await engine.shut_down(life, timeout_seconds=seconds, method=StopMethod.SHUTDOWN_OR_KILL)
                log.info("%s: stopped after %.1f s", name, time.monotonic() - begun)
        except OsctlError as error:
            log.error("%s: not stopped: %s", name, error.message)
            failed += 1

    async def is_aborted() -> bool:
        return not is_forced and await is_going_down() is False

    groups = _groups(places.state_dir / "osctl.sqlite", engine.names())
    await stop_in_order(groups, stop, timeout_seconds=places.timeout_seconds, is_aborted=is_aborted)
    return 1 if failed else 0


def _groups(store: Path, found: Sequence[str]) -> list[list[str]]:
    """All that the engine knows, in the order of the configuration as far as that can be read."""
    containers = list(_containers(store))
    known = {each.name for each in containers}
    groups = [[name for name in group if name in found] for group in stop_groups(containers)]
    return [group for group in ([name for name in found if name not in known], *groups) if group]


def _containers(store: Path) -> Iterator[Container]:
    try:
        documents = documents_in(store)
    except OsctlError as error:
        log.warning("%s; all containers are stopped at once", error.message)
        return
    for document in documents:
        with contextlib.suppress(OsctlError, msgspec.DecodeError):
            yield config.decode_container(document)
