"""What the host's own life means for containers: what starts when it comes up, and all that stops when it goes down.

A shutdown leaves a mark, on disk and bound to the boot. While it stands nothing is started, and no end of a container
changes whether it is wanted: the next boot brings everything back. When the host does not go down after all, the mark
is lifted, and what it stopped is started again by the same code as after a boot.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias

from osctld.core.config.autostart import is_autostart_off, share_of_time, start_order, stop_groups
from osctld.core.config.host import POOL
from osctld.core.config.life import StopMethod
from osctld.core.errors import ApplyFailed, OsctlError, Refused, Unavailable
from osctld.daemon.event_log import EventLog
from osctld.daemon.records import Records
from osctld.daemon.tasks import log_failure
from osctld.daemon.turns import Turns
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import Lives
from osctld.lifecycle.supervisor import LONGEST_START, Supervisor
from osctld.shell import host_boot

log = logging.getLogger("osctld")

#: Seconds between two looks whether a host that was about to go down still is.
WATCHED_EVERY = 2.0

#: Seconds that it may take until those have ended that did not power off in time (`shell/lxc/life.py`), generously.
LONGEST_KILLING = 180.0

#: The code of the answer to a client that waits for a shutdown which is aborted. Nothing failed: the log says who
#: aborted it.
ABORTED = "shutdown-aborted"

Progress: TypeAlias = Callable[[str], None]


class Boot:
    def __init__(
        self,
        phase: HostPhase,
        *,
        lives: Lives,
        supervisor: Supervisor,
        records: Records,
        events: EventLog,
        turns: Turns,
    ) -> None:
        self._phase = phase
        self._lives = lives
        self._supervisor = supervisor
        self._records = records
        self._events = events
        self._turns = turns
        self._told: list[Progress] = []
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    # --- coming up ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start what is wanted after a boot; or continue the shutdown that an earlier daemon began."""
        if self._phase.is_shutting_down:
            self._watch_host()
            timeout_seconds = self._records.host.settings.shutdown.timeout
            self._stopping = _shutdown_task(self._resume(timeout_seconds))
        elif self._phase.is_new:
            self._begin_to_start()

    async def _resume(self, timeout_seconds: float) -> None:
        if self._phase.cause == "host" and await host_boot.is_going_down() is False:
            await self.abort()
            return
        await self._stop_everything(timeout_seconds)

    def _begin_to_start(self) -> None:
        before = self._starting
        self._starting = _task(self._start_wanted(after=before), name="starter")

    async def _start_wanted(self, *, after: asyncio.Task[None] | None) -> None:
        """Start what ran when the host went down, and what starts with it; then remember that this was done."""
        if after is not None:
            await asyncio.wait({after})
        if is_autostart_off(host_boot.kernel_command_line()):
            names = [each.name for each in start_order(self._records.host.containers.values())]
            log.warning(
                "osctl.autostart=off on the kernel command line: nothing is started; wanted: %s",
                ", ".join(names) or "nothing",
            )
            return
        if not self._phase.has_started:
            for each in list(self._records.host.containers.values()):
                if each.autostart is not None:
                    want = functools.partial(self._records.want, each.name, None, is_wanted=True)
                    await self._turns.take(want)
        waiting = deque(each.name for each in start_order(self._records.host.containers.values()))
        places = self._records.host.settings.boot.at_once
        await asyncio.gather(*(self._start_in_turn(waiting) for _ in range(min(places, len(waiting)))))
        if self._phase.is_shutting_down or self._starting is not asyncio.current_task():
            return
        await self._records.keep_boot(self._phase.boot)
        await self._phase.started()

    async def _start_in_turn(self, waiting: deque[str]) -> None:
        """One of the places at which containers are started."""
        while waiting and not self._phase.is_shutting_down:
            name = waiting.popleft()
            container = self._records.host.containers.get(name)
            if container is None or not container.is_wanted:
                continue  # somebody thought otherwise while it waited for its turn
            self._supervisor.retries.pending.note(name)
            try:
                await self._supervisor.start(name, wait_seconds=LONGEST_START)
                log.info("%s: started with the host", name)
            except OsctlError as error:
                self._supervisor.retries.note(name, error)
            if container.autostart is not None and waiting:
                await self._phase.pause(container.autostart.delay)

    # --- going down -----------------------------------------------------------------------------------------------

    async def shut_down(self, *, timeout_seconds: float, progress: Progress) -> None:
        """Stop all containers until the next boot; concurrent requests wait for the same shutdown.

        Raises Unavailable when it is aborted meanwhile, ApplyFailed when something does not stop.
        """
        while self._stopping is not None and not self._stopping.done() and not self._phase.is_shutting_down:
            await asyncio.wait({self._stopping})  # one that was aborted
        if self._stopping is None or self._stopping.done():
            self._told = []
            self._stopping = _shutdown_task(self._shut_down(timeout_seconds))
        self._told.append(progress)
        await asyncio.shield(self._stopping)

    def check_forced(self, *, is_forced: bool) -> None:
        """Raise Refused if containers are running and their stop is not forced."""
        running = len(list(self._lives))
        if running and not is_forced:
            raise Refused(
                f"{running} container{'s are' if running > 1 else ' is'} running; --force stops all of them",
                code="running",
            )

    def stop_order(self) -> list[str]:
        """All running containers, in the order in which they are stopped."""
        return [name for group in self._groups() for name in group]

    def to_be_started(self) -> list[str]:
        """What is started when a shutdown is aborted now, in that order."""
        if not self._phase.is_shutting_down or is_autostart_off(host_boot.kernel_command_line()):
            return []
        wanted = start_order(self._records.host.containers.values())
        return [each.name for each in wanted if self._lives.state(each.name) == "stopped"]

    def _groups(self) -> list[list[str]]:
        groups = stop_groups(self._records.host.containers.values())
        known = {name for group in groups for name in group}
        alive = list(self._lives)
        living = [
            [name for name in alive if name not in known],
            *([n for n in group if n in alive] for group in groups),
        ]
        return [group for group in living if group]

    async def _shut_down(self, timeout_seconds: float) -> None:
        await self._phase.go_down()
        self._events.emit("osctld_shutdown", {"pool": POOL, "state": "run"})
        log.info("shutdown: all containers are stopped, and stay wanted")
        self._watch_host()
        await self._stop_everything(timeout_seconds)

    async def _stop_everything(self, timeout_seconds: float) -> None:
        failed: list[str] = []

        async def stop(name: str, seconds: float) -> None:
            for each in self._told:
                each(f"Stopping container {name}")
            with self._phase.stopping(name):
                begun = _now()
                try:
                    await self._supervisor.stop(name, timeout_seconds=seconds, method=StopMethod.SHUTDOWN_OR_KILL)
                    log.info("%s: stopped after %.1f s", name, _now() - begun)
                except OsctlError as error:
                    log.error("%s: not stopped: %s", name, error.message)
                    failed.append(f"{name}: {error.message}")

        async def is_aborted() -> bool:
            return not self._phase.is_shutting_down

        await stop_in_order(self._groups(), stop, timeout_seconds=timeout_seconds, is_aborted=is_aborted)
        if not self._phase.is_shutting_down:
            raise Unavailable("the shutdown was aborted; containers are started again", code=ABORTED)
        if failed:
            raise ApplyFailed(f"not stopped: {'; '.join(failed)}", code="not-stopped")
        self._events.emit("osctld_shutdown", {"pool": POOL, "state": "done"})
        log.info("shutdown: all containers have stopped")

    async def abort(self) -> bool:
        """Lift the mark of a shutdown, and start what it has stopped; whether there was one. Raises ApplyFailed."""
        if not await self._phase.lift():
            return False
        log.info("shutdown: aborted, wanted containers are started again")
        self._events.emit("osctld_shutdown", {"pool": POOL, "state": "aborted"})
        self._begin_to_start()
        return True

    def _watch_host(self) -> None:
        if self._phase.cause == "host" and (self._watching is None or self._watching.done()):
            self._watching = _task(self._abort_with_host(), name="watch shutdown")

    async def _abort_with_host(self) -> None:
        """Lift a mark that the host's shutdown caused when the host does not go down after all."""
        while self._phase.is_shutting_down:
            await asyncio.sleep(WATCHED_EVERY)
            if self._phase.cause == "host" and await host_boot.is_going_down() is False:
                log.warning("the host's shutdown was cancelled")
                await self.abort()

    # --- the end of the daemon ------------------------------------------------------------------------------------

    async def end(self, *, take_time: Callable[[float], object]) -> None:
        """Stop everything if the host is going down with the daemon and this has not been done yet; then stop own work.

        `take_time` is called with the number of seconds that this may take.
        """
        if await host_boot.is_going_down() is True:
            timeout_seconds = self._records.host.settings.shutdown.timeout
            take_time(timeout_seconds + LONGEST_KILLING)
            try:
                await self.shut_down(timeout_seconds=timeout_seconds, progress=lambda _: None)
            except OsctlError as error:
                if error.code != ABORTED:
                    log.error("shutdown: %s", error.message)
        self._supervisor.retries.cancel()
        for task in (self._starting, self._stopping, self._watching):
            if task is not None:
                task.cancel()


async def stop_in_order(
    groups: Sequence[Iterable[str]],
    stop: Callable[[str, float], Awaitable[None]],
    *,
    timeout_seconds: float,
    is_aborted: Callable[[], Awaitable[bool]],
) -> None:
    """Stop one group after another, all of a group at once, and return when all have ended.

    `stop` is given a name and the seconds that are left for all of them. A group that does not end has its share of the
    time for itself; then the next ones are asked, too. Once it is aborted, no more are asked.
    """
    end = _now() + timeout_seconds
    asked: set[asyncio.Task[None]] = set()
    for number, group in enumerate(groups):
        if await is_aborted():
            break
        left = end - _now()
        tasks = {_task(_awaited(stop(name, max(left, 0.0))), name=f"stop {name}") for name in group}
        asked |= tasks
        if tasks:
            await asyncio.wait(tasks, timeout=share_of_time(left, groups=len(groups) - number))
    await asyncio.gather(*asked)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(log_failure)
    return task


def _shutdown_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name="shutdown")
    task.add_done_callback(_log_failed_shutdown)
    return task


def _log_failed_shutdown(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if not isinstance(error, OsctlError) or error.code != ABORTED:
        log_failure(task)


def _now() -> float:
    return asyncio.get_running_loop().time()
