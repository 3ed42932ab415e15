"""Starting, running and stopping containers, and what follows a stop: joins lives with what kernels hold for them.

The engine makes the namespaces, the kernel is brought to what is wanted in them, the engine starts the guest; all but
the engine's part in turn with edits. A container has at most one transition in progress; a request for another one
waits for the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from osctld.core.config.host import POOL
from osctld.core.config.life import ContainerSpec, End, StopMethod
from osctld.core.errors import OsctlError, Unavailable
from osctld.daemon.event_log import EventLog
from osctld.daemon.guest_files import GuestFiles
from osctld.daemon.records import Records
from osctld.daemon.tasks import log_failure
from osctld.daemon.turns import Turns
from osctld.lifecycle.engine import Prepared, RunningLife, Runtime
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import LifeOf, Lives, Roots
from osctld.lifecycle.retries import PendingStarts, Retries
from osctld.sync.containers import ContainerSync
from osctld.sync.host import HostSync

log = logging.getLogger("osctld")

#: Seconds that a start may take before the next container has its turn, if nobody waits for it.
LONGEST_START = 300.0
#: Linux: HOST_NAME_MAX.
LONGEST_HOSTNAME = 64


class Supervisor:
    def __init__(
        self,
        *,
        runtime: Runtime,
        roots: Roots,
        pending_starts: PendingStarts,
        lives: Lives,
        containers: ContainerSync,
        host: HostSync,
        records: Records,
        phase: HostPhase,
        events: EventLog,
        turns: Turns,
        guest_files: GuestFiles,
        withdraw: Callable[[], Awaitable[None]],
    ) -> None:
        """`withdraw` returns when nothing of containers that are not running is announced."""
        self.runtime = runtime
        self.roots = roots
        self._lives = lives
        self._containers = containers
        self._host = host
        self._records = records
        self._phase = phase
        self._events = events
        self._turns = turns
        self._guest_files = guest_files
        self._withdraw = withdraw
        self._starting: dict[str, asyncio.Task[None]] = {}
        again = functools.partial(self.start, wait_seconds=LONGEST_START)
        self.retries = Retries(again, pending=pending_starts, records=records, lives=lives, phase=phase)
        #: Those that are held for a command, without their init.
        self._held: set[str] = set()
        #: Those that somebody restarts: their end is none.
        self._restarting: set[str] = set()

    # --- start ----------------------------------------------------------------------------------------------------

    async def start(self, name: str, *, wait_seconds: float) -> None:
        """Start a container, or do nothing when it runs.

        Raises what went wrong, and then nothing is left of it; Unavailable when it takes longer than `wait_seconds`,
        and then it continues. With 0 seconds, only what makes it impossible is reported.
        """
        while (current := self._lives.get(name)) is not None and current.state == "stopping":
            await self._ended(current)
        self._check_not_held(name)
        if current is not None and current.state == "running":
            return
        task = self._begin(name)
        if wait_seconds == 0:
            task.add_done_callback(log_failure)
            return
        done, _ = await asyncio.wait({task}, timeout=wait_seconds)
        if not done:
            task.add_done_callback(log_failure)
            raise Unavailable(f"{name!r}: not running after {wait_seconds} s; the start continues", code="slow-start")
        task.result()

    def _begin(self, name: str) -> asyncio.Task[None]:
        """The start that is in progress, or another one. Raises Unavailable when no container may be started now."""
        task = self._starting.get(name)
        if task is None:
            self._phase.check_startable(name)
            task = self._starting[name] = asyncio.create_task(self._start(name), name=f"start {name}")
            task.add_done_callback(lambda _: self._starting.pop(name, None))
        return task

    def begin_unattended(self, name: str) -> None:
        """Start a container that has stopped, for nobody who waits: what fails is tried again.

        Raises Unavailable when no container may be started now.
        """

        def note(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, OsctlError):
                self.retries.note(name, error)
            else:
                log_failure(task)

        task = self._begin(name)
        self.retries.pending.note(name)
        task.add_done_callback(note)

    def is_held(self, name: str) -> bool:
        """Whether a command runs in the container without its init."""
        return name in self._held

    def _check_not_held(self, name: str) -> None:
        if name in self._held:
            raise Unavailable(
                f"{name!r}: a command of ct exec --run-container is running in it; try again when it has ended",
                code="busy",
                subject=name,
            )

    @contextlib.asynccontextmanager
    async def held(self, name: str, *, has_network: bool) -> AsyncIterator[RunningLife]:
        """A life of a stopped container for a command, without the guest's init; with its interfaces if `has_network`.

        It ends when the block is left. Raises what makes a start impossible, Unavailable when somebody was faster.
        """
        while (current := self._lives.get(name)) is not None and current.state == "stopping":
            await self._ended(current)
        self._check_not_held(name)
        if current is not None or name in self._starting:
            raise Unavailable(f"{name!r}: is already starting; try again", code="busy", subject=name)
        self._phase.check_startable(name)
        self._held.add(name)
        start = self._starting[name] = asyncio.create_task(
            self._start(name, runs_init=False, has_network=has_network), name=f"start {name} for a command"
        )
        start.add_done_callback(lambda _: self._starting.pop(name, None))
        try:
            await asyncio.shield(start)
            yield self._lives.running(name)
        finally:
            # The client may be gone: it still stops.
            await asyncio.shield(asyncio.create_task(self._release(name, start), name=f"release {name}"))

    async def _release(self, name: str, start: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait({start})
            if not start.cancelled() and start.exception() is None:
                await self.stop(name, timeout_seconds=0, method=StopMethod.KILL)
        finally:
            self._held.discard(name)

    async def _start(self, name: str, *, runs_init: bool = True, has_network: bool = True) -> None:
        wanted = self._records.host.container(name)
        spec = ContainerSpec(
            container=name,
            root_directory=self.roots.path(name),
            id_map=wanted.id_map,
            hostname=name.replace("_", "-")[:LONGEST_HOSTNAME],
            has_nesting=wanted.has_nesting,
            runs_init=runs_init,
        )
        current = self._lives.begin(name)
        current.is_held = not runs_init
        current.is_taken_down = not has_network  # nothing is there
        current.enter("starting")
        # While the engine waits for its programs there is time to see to forwarding and the packet filter.
        checked = asyncio.create_task(self._turns.take(self._prepare_host if has_network else _nothing))
        try:
            try:
                namespaces = await self.runtime.prepare(spec)
            finally:
                await asyncio.wait({checked})
            try:
                checked.result()
                if has_network:
                    await self._turns.take(functools.partial(self._configure, current, namespaces))
                if has_network and runs_init:
                    await self._guest_files.before_start(name)
                life = await namespaces.launch()
            except BaseException:
                # Before the namespaces are given up: an edit that comes now must not reach for them.
                current.is_configured = False
                await namespaces.abandon()
                raise
        except BaseException:
            await self._turns.take(functools.partial(self._forget_life, current))
            raise
        # In turn, because a change that is under way uses the descriptor that is closed here.
        await self._turns.take(functools.partial(self._run, current, life, is_configured=has_network))

    async def _prepare_host(self) -> None:
        await self._host.prepare_for_start(self._records.host)

    async def _configure(self, current: LifeOf, namespaces: Prepared) -> None:
        # The namespace itself and not the process that holds it: the engine lets that one go while it launches.
        current.open_namespace(namespaces.pid)
        container = self._records.host.container(current.name)
        await self._containers.configure(container)
        self._containers.note_yielded(container)
        for each in container.interfaces:
            opts = {"action": "up", "pool": POOL, "id": container.name, "name": each.name, "veth": each.link}
            self._events.emit("ct_netif", opts)
        current.is_configured = True

    async def _run(self, current: LifeOf, life: RunningLife, *, is_configured: bool = True) -> None:
        current.life = life
        current.close_namespace()
        current.is_configured = is_configured
        self.retries.pending.forget(current.name)
        current.enter("running")
        current.ended = asyncio.create_task(self._watch(current, life), name=f"watch {current.name}")
        current.ended.add_done_callback(log_failure)

    # --- end ------------------------------------------------------------------------------------------------------

    async def stop(self, name: str, *, timeout_seconds: float, method: StopMethod) -> None:
        """Stop a container and wait until nothing is left of its life; do nothing when it is stopped.

        Raises Unavailable or ApplyFailed when it does not stop, and then it runs on.
        """
        starting = self._starting.get(name)
        if starting is not None:
            await asyncio.wait({starting})
        current = self._lives.get(name)
        if current is None:
            return
        if current.life is None:
            await self._ended(current)
            return
        # Whoever else stops it: they may have more patience, or give up. One that is about to reboot stays down.
        current.stops += 1
        current.enter("stopping")
        await self._withdraw()
        if current.is_held:
            method = StopMethod.KILL  # there is no process to ask
        try:
            await current.life.shut_down(timeout_seconds=timeout_seconds, method=method)
        except OsctlError:
            current.stops -= 1
            if not current.stops and not (current.ended and current.ended.done()):
                current.enter("running")
            raise
        await self._ended(current)

    async def stop_to_restart(self, name: str, *, timeout_seconds: float, method: StopMethod) -> None:
        """Stop a container whose end says nothing about what is wanted: it is started again at once."""
        self._restarting.add(name)
        try:
            await self.stop(name, timeout_seconds=timeout_seconds, method=method)
        finally:
            self._restarting.discard(name)

    async def _ended(self, current: LifeOf) -> None:
        if current.ended is not None:
            await asyncio.shield(current.ended)

    async def _watch(self, current: LifeOf, life: RunningLife) -> None:
        """Wait until a container stops and remove what is left; start it again if the guest rebooted."""
        end = await life.wait_ended()
        if end is End.REBOOT:
            self.retries.pending.note(current.name)  # from now on nothing else says that it is to come back
        current.enter("stopping")
        is_rebooting = await self._turns.take(functools.partial(self._leave, current, end))
        life.close()
        if not (is_rebooting or current.is_held):
            await self.ended(current.name)

    async def _leave(self, current: LifeOf, end: End) -> bool:
        """Clear away what is left of a life; begin another, and say so, when the guest rebooted and nobody stops it."""
        name = current.name
        await self._forget_life(current)
        if end is not End.REBOOT or current.is_held or current.stops or self._phase.refusal_to_start(name) is not None:
            return False
        log.info("%s: rebooting", name)
        self._check_not_held(name)
        self.begin_unattended(name)  # in the same turn: no command can find it stopped in between
        return True

    async def take_down_if_ended(self, name: str) -> bool:
        """Take down what is left on the host of a container that is configured and has just ended; whether it has.

        In turn: later changes are made to a stopped container, while its end is still being handled.
        """
        current = self._lives.get(name)
        if current is None or not current.is_configured or not current.has_ended:
            return False
        await self._take_down(current)
        return True

    async def _take_down(self, current: LifeOf) -> None:
        current.is_configured = False
        if current.is_taken_down:
            return
        current.is_taken_down = True
        await self._withdraw()
        container = self._records.host.containers.get(current.name)
        await self._containers.take_down(current.name, container)
        for each in container.interfaces if container is not None else ():
            self._events.emit("ct_netif", {"action": "down", "pool": POOL, "id": current.name, "name": each.name})

    async def _forget_life(self, current: LifeOf) -> None:
        try:
            await self._take_down(current)
        finally:
            self._lives.end(current)

    async def forget(self, name: str) -> None:
        """A container was deleted: remove what the engine keeps of it, and its root directory that was set aside."""
        self.retries.pending.forget(name)
        await self.runtime.forget(name)
        await self.roots.remove(name)

    # --- whether it should run -------------------------------------------------------------------------------------

    async def ended(self, name: str) -> None:
        """A container stopped, whatever the reason: the next boot of the host must not start it."""
        if name in self._restarting or self._phase.keeps_wanted(name):
            return
        try:
            await self._turns.take(functools.partial(self._records.want, name, None, is_wanted=False))
        except OsctlError as error:
            log.error("%s: still noted as wanted: %s", name, error.message)

    async def adopted(self, name: str) -> None:
        """A container was found running: the daemon may have died before it could keep that this is wanted."""
        try:
            await self._turns.take(functools.partial(self._records.want_while_it_lives, name, None, is_told=False))
        except OsctlError as error:
            log.error("%s: not noted as wanted: %s", name, error.message)

    # --- after a restart of the daemon ----------------------------------------------------------------------------

    async def adopt(self, name: str) -> bool:
        """Adopt a running container; return whether it requested a reboot while there was no daemon."""
        life = await self.runtime.find(name)
        if life is not None:
            await self._run(self._lives.begin(name), life)
            return False
        await self.runtime.collect(name)
        is_rebooting = self.runtime.reboot_was_asked(name)
        if is_rebooting:
            self.retries.pending.note(name)
        return is_rebooting


async def _nothing() -> None:
    """Where nothing has to be prepared."""
