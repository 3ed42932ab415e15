"""Actions, as opposed to edits: containers are created, started, stopped, deleted, entered; kernels are repaired.

An action is a value that a command returns; here it is performed or, for a dry run, described.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Collection, Coroutine
from typing import Any, Protocol, TypeVar, assert_never

import msgspec

from osctld.core import command as commands
from osctld.core.address.addresses import Network
from osctld.core.authority.host_networks import HostSpace
from osctld.core.command import ActCommand, Reply
from osctld.core.config import restoring
from osctld.core.config.host import POOL
from osctld.core.config.life import StopMethod
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import ApplyFailed, OsctlError, Refused, Unavailable, UsageError
from osctld.core.events import Event, EventFilter
from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import listing
from osctld.core.health.findings import findings
from osctld.core.person import Asked
from osctld.core.plan.changes import RenameLink
from osctld.core.reconcile.host_level import forwarding_warnings
from osctld.daemon.blocking import Blocking
from osctld.daemon.condition import Condition
from osctld.daemon.event_log import EventLog
from osctld.daemon.failures import Failures
from osctld.daemon.guest_files import GuestFiles
from osctld.daemon.net_actions import NetActions
from osctld.daemon.records import CopiedHost, Kept, Records
from osctld.daemon.router import Router
from osctld.daemon.static_routes import StaticRouting
from osctld.daemon.turns import Turns
from osctld.lifecycle.boot import Boot
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import Lives
from osctld.lifecycle.supervisor import Supervisor
from osctld.shell.health.facts import gather_facts
from osctld.sync.announcements import Announcements
from osctld.sync.containers import ContainerSync
from osctld.sync.host import HostSync
from osctld.sync.obstacles import Obstacles
from osctld.sync.reconciler import Reconciler
from osctld.sync.stopped import Stopped

T = TypeVar("T")

#: So many checks of the host are made at a time.
CHECKS_AT_ONCE = 2
#: About this many networks are looked up when the host is checked: whether packets for them go out through our links.
ASKED_ABOUT = 1000
#: What a dry run says of a command that would change nothing.
NOTHING = ("# nothing to change",)


class Caller(Protocol):
    """Who asked, and what only they can give. Descriptors are closed when the request ends."""

    @property
    def asked(self) -> Asked: ...
    @property
    def terminal_type(self) -> str: ...
    def progress(self, text: str) -> None: ...
    def watching(self) -> None: ...
    async def event(self, event: Event) -> None: ...
    async def open_file(self, path: str) -> int: ...
    async def read_file(self, path: str) -> str: ...
    async def new_file(self, path: str) -> int: ...
    async def descriptors(self) -> tuple[int, int, int]: ...
    async def next_signal(self) -> int: ...
    def may_stop(self) -> None: ...


class Actions:
    def __init__(
        self,
        *,
        records: Records,
        host: HostSync,
        containers: ContainerSync,
        obstacles: Obstacles,
        lives: Lives,
        supervisor: Supervisor,
        phase: HostPhase,
        boot: Boot,
        reconciler: Reconciler,
        turns: Turns,
        events: EventLog,
        condition: Condition,
        blocking: Blocking,
        stopped: Stopped,
        failures: Failures,
        guest_files: GuestFiles,
        announcements: Announcements,
        router: Router,
    ) -> None:
        self._records = records
        self._host = host
        self._containers = containers
        self._obstacles = obstacles
        self._lives = lives
        self._supervisor = supervisor
        self._phase = phase
        self._boot = boot
        self._reconciler = reconciler
        self._turns = turns
        self._events = events
        self._condition = condition
        self._blocking = blocking
        self._stopped = stopped
        self._failures = failures
        self._guest_files = guest_files
        self._announcements = announcements
        self._router = router
        #: Whether the original's client has listed containers.
        self.serves_original = False
        self._net = NetActions(records=records, host=host, turns=turns)
        self._static = StaticRouting(records=records)
        self._building: set[str] = set()
        # A client that asks repeatedly uses at most this much of the disk thread, and of the threads that starts need.
        self._one_history = asyncio.Lock()
        self._few_checks = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def perform(self, command: ActCommand, caller: Caller) -> Reply:
        """Do what a command asks for. Raises an OsctlError."""
        action = command.act(self._records.host)
        match action:
            case commands.CheckHealth():
                return await self._check_health()
            case commands.ShowCondition():
                return await self._condition.show()
            case commands.ShowMetrics(has_head):
                return await self._condition.metrics(has_head=has_head)
            case commands.CreateContainer():
                await self._create(command, action, caller)
                return commands.Text(changed=True)
            case commands.DeleteContainer(name, is_forced):
                await _to_the_end(self._delete(name, caller, is_forced=is_forced))
                return commands.Text(changed=True)
            case commands.StartContainer(name, wait_seconds):
                return commands.Text(changed=await _to_the_end(self._start(name, wait_seconds, caller)))
            case commands.StopContainer():
                return commands.Text(changed=await _to_the_end(self._stop(action, caller)))
            case commands.RestartContainer():
                await self._restart(action, caller)
                return commands.Text(changed=True)
            case commands.ShutDown(timeout_seconds, is_forced):
                was_down = self._phase.is_shutting_down
                self._boot.check_forced(is_forced=is_forced)
                caller.progress(f"Disabling pool {POOL}")
                await self._boot.shut_down(timeout_seconds=timeout_seconds, progress=caller.progress)
                return commands.Text(changed=not was_down)
            case commands.AbortShutdown():
                is_lifted = await self._boot.abort()
                return commands.Text(() if is_lifted else ("nothing has been shut down",), changed=is_lifted)
            case commands.Reconcile(only):
                found = await self._reconciler.reconcile(only, mends_guests=True)
                if found.failed:
                    for line in found.mended:
                        caller.progress(line)
                    raise ApplyFailed(f"not repaired: {'; '.join(found.failed)}", code="not-mended", subject=only or "")
                done = (*found.set_up, *found.mended)
                return commands.Text((*done, *found.left) or ("nothing to repair",), changed=bool(done))
            case commands.Execute():
                return await self._execute(action, caller)
            case commands.BackUp(file):
                return await self._back_up(file, caller)
            case commands.RestoreCopy():
                return await self._restore(action, caller, is_rehearsal=False)
            case commands.Watch(wanted):
                async with contextlib.aclosing(self._events.follow(wanted)) as events:
                    caller.watching()
                    async for event in events:
                        await caller.event(event)
                raise AssertionError("the stream of events does not end")
            case commands.WaitForState(name, states):
                await self._wait(name, states)
                return commands.Text()
            case commands.ShowGuestFiles() | commands.ApplyGuestFiles() | commands.RestoreGuestFiles():
                return await _to_the_end(self._guest_files.perform(action))
            case commands.BlockNetworks() | commands.UnblockNetworks():
                return await _to_the_end(self._blocking.perform(action, caller.asked))
            case commands.EnableRouter() | commands.DisableRouter() | commands.ShowRouter():
                return await _to_the_end(self._router.perform(action, caller.asked))
            case commands.ListBlocks():
                return self._blocking.listing()
            case commands.PrintStaticRoutes():
                return await self._static.perform(action, caller)
            case commands.ShowHistory(columns, shown, has_failures):
                rows = await self._history(has_failures=has_failures)
                return commands.Listing(columns=columns, shown=shown, rows=rows)
            case (
                commands.ShowHolders()
                | commands.ListHoldings()
                | commands.ListUplinks()
                | commands.ListPools()
                | commands.DeclareUplink()
            ):
                return await _to_the_end(self._net.perform(action, caller.asked))
            case _:
                assert_never(action)

    async def _execute(self, action: commands.Execute, caller: Caller) -> Reply:
        name = action.container
        async with contextlib.AsyncExitStack() as held:
            if action.starts and (self._lives.state(name) in ("stopped", "stopping") or self._supervisor.is_held(name)):
                life = await held.enter_async_context(self._supervisor.held(name, has_network=action.has_network))
            else:
                life = self._lives.running(name)
            stdin, stdout, stderr = await caller.descriptors()
            status = await life.execute(
                action.command, stdin=stdin, stdout=stdout, stderr=stderr,
                terminal_type=caller.terminal_type, signals=caller,
            )  # fmt: skip
        return commands.ExitStatus(status)

    async def _check_health(self) -> Reply:
        async with self._few_checks:
            ways = self._condition.look_at_ways(most=ASKED_ABOUT)
            space = self._host.networks_in_use(self._records.host)
            facts = await asyncio.to_thread(self._facts_of_health, space)
            astray, without_main = await asyncio.to_thread(ways.take, facts.host)
        facts = msgspec.structs.replace(facts, astray=astray, without_main=without_main)
        facts = msgspec.structs.replace(
            facts, older_holdings=self._net.older_holdings(), announcing=await self._router.troubles()
        )
        return listing(findings(facts))

    def _facts_of_health(self, space: HostSpace) -> HealthFacts:
        facts = gather_facts(self._host.look(), self._records.host, space=space, yielded=self._obstacles.all_told)
        return msgspec.structs.replace(facts, serves_original=self.serves_original)

    async def rehearse(self, command: ActCommand, caller: Caller) -> Reply:
        """Say what an action would do, and do nothing. Refuses what the action itself would."""
        action = command.act(self._records.host)
        if isinstance(action, commands.RestoreCopy):
            return await self._restore(action, caller, is_rehearsal=True)
        if isinstance(action, commands.EnableRouter | commands.DisableRouter):
            return commands.Text(await self._router.rehearse(action) or NOTHING)
        return await self._turns.take(lambda: self._rehearse(command))

    async def _rehearse(self, command: ActCommand) -> Reply:
        action = command.act(self._records.host)
        lines: list[str] = []
        match action:
            case commands.CreateContainer(edited):
                lines.append(f"# create container {edited.container}, stopped and without interfaces")
            case commands.DeleteContainer(name, is_forced):
                self._check_deletable(name, is_forced=is_forced)
                lines += [*await self._lines_of_end(name), f"# delete container {name} and everything in it"]
                lines += await self._stopped.lines(self._records.host, self._records.host.without_container(name))
            case commands.StartContainer(name):
                if self._lives.state(name) == "stopped":
                    self._phase.check_startable(name)
                    lines += await self._lines_of_start(name)
            case commands.StopContainer(name):
                lines += await self._lines_of_end(name)
                if self._lives.is_configured(name):
                    lines += await self._stopped.lines(self._records.host, self._records.host, ends=name)
            case commands.RestartContainer(name):
                self._phase.check_startable(name)
                lines += [*await self._lines_of_end(name), *await self._lines_of_start(name)]
            case commands.ShutDown(is_forced=is_forced):
                self._boot.check_forced(is_forced=is_forced)
                for each in self._boot.stop_order():
                    lines += await self._lines_of_end(each)
            case commands.AbortShutdown():
                for each in self._boot.to_be_started():
                    lines += await self._lines_of_start(each)
            case commands.Reconcile(only):
                lines += await self._lines_of_reconcile(only)
            case commands.DeclareUplink():
                lines += self._net.rehearse(action)
            case commands.BlockNetworks() | commands.UnblockNetworks():
                lines += await self._blocking.rehearse(action)
            case commands.ApplyGuestFiles() | commands.RestoreGuestFiles():
                lines += await self._guest_files.rehearse(action)
            case _:
                raise UsageError("--dry-run requires a command that changes something")
        return commands.Text(tuple(lines) or NOTHING)

    async def _lines_of_start(self, name: str) -> list[str]:
        is_running = self._lives.state(name) != "stopped"
        host = self._records.host
        facts = self._host.look()
        host_level = self._host.plan(host, facts)
        plan = await self._containers.plan_start(host.container(name), facts, is_running=is_running)
        made = f"# start container {name}: its namespaces, then this, then its first process"
        after = [] if is_running else await self._stopped.lines(host, host, begins=name)
        files = await self._guest_files.lines_of_start(host.container(name))
        after += self._announcements.lines({}, {name: host.container(name)})
        return [*host_level.text().splitlines(), made, *plan.text().splitlines(), *files, *after]

    async def _lines_of_end(self, name: str) -> list[str]:
        if self._lives.state(name) == "stopped":
            return []
        container = self._records.host.container(name)
        plan = await self._containers.plan_end(container)
        withdrawn = self._announcements.lines({name: container}, {})
        return [*withdrawn, f"# stop container {name}: its interfaces are removed with it", *plan.text().splitlines()]

    async def _lines_of_reconcile(self, only: str | None) -> list[str]:
        chosen = [self._records.host.container(only)] if only is not None else self._records.host.sorted_containers
        facts = self._host.look()
        sweep = self._host.plan_sweep(self._records.host, facts)
        lines = [*self._host.plan(self._records.host, facts).text().splitlines(), *sweep.text().splitlines()]
        renamed = {each.new.name for each in sweep.changes if isinstance(each, RenameLink)}
        for each in chosen:
            if not self._lives.is_configured(each.name):
                continue
            if not renamed.isdisjoint(interface.link for interface in each.interfaces):
                # What it has is called otherwise until then.
                lines.append(f"# then the differences in container {each.name} and on its host side")
                continue
            try:
                planned = await self._containers.plan(each, each, mends_guest=True, facts=facts)
                lines += planned.plan.text().splitlines()
            except OsctlError as error:
                lines.append(f"# not repaired: {each.name}: {error.message}")
        return lines

    async def _start(self, name: str, wait_seconds: int, caller: Caller) -> bool:
        if self._lives.state(name) == "stopped":
            self._phase.check_startable(name)
        caller.progress("Starting container")
        was_running = self._lives.state(name) == "running"
        try:
            await self._supervisor.start(name, wait_seconds=wait_seconds)
        except OsctlError as error:
            if error.code == "slow-start":  # it continues
                await self._keep_started(name, caller, is_told=not was_running)
            raise
        # Not before: a start that is refused leaves nothing.
        try:
            await self._keep_started(name, caller, is_told=not was_running)
        except OsctlError:
            if not was_running:
                await self._supervisor.stop(name, timeout_seconds=0, method=StopMethod.KILL)
            raise
        for warning in forwarding_warnings(self._records.host.settings, self._host.facts):
            caller.progress(warning)
        return not was_running

    async def _keep_started(self, name: str, caller: Caller, *, is_told: bool) -> None:
        # While all goes down it may be on its way already, and is to come back all the same. Asked in turn: that may
        # have begun while others had theirs.
        await self._turns.take(
            lambda: self._records.want_while_it_lives(
                name, caller.asked, is_told=is_told, is_wanted_anyhow=self._phase.keeps_wanted(name)
            )
        )

    async def _stop(self, action: commands.StopContainer, caller: Caller) -> bool:
        caller.progress("Stopping container")
        name = action.container
        was_running = self._lives.state(name) != "stopped"
        await self._supervisor.stop(name, timeout_seconds=action.timeout_seconds, method=action.method)
        await self._turns.take(lambda: self._records.want(name, caller.asked, is_wanted=False, is_told=was_running))
        return was_running

    async def _restart(self, action: commands.RestartContainer, caller: Caller) -> None:
        name = action.container
        self._phase.check_startable(name)  # rather than stop it for good
        caller.progress("Stopping container")
        await _to_the_end(
            self._supervisor.stop_to_restart(name, timeout_seconds=action.timeout_seconds, method=action.method)
        )
        await self._start(name, action.wait_seconds, caller)

    async def _wait(self, name: str, states: Collection[str]) -> None:
        if self._lives.state(name) in states:
            return
        async with contextlib.aclosing(
            self._events.follow(EventFilter(types=("state", "db"), opts={"id": name}))
        ) as events:
            async for event in events:
                if event.type == "db" and event.opts["action"] == "remove":
                    self._records.host.container(name)
                if event.opts.get("state", "") in states or self._lives.state(name) in states:
                    return

    async def _history(self, *, has_failures: bool) -> tuple[commands.Row, ...]:
        async with self._one_history:
            lines = await self._records.history()
            if has_failures:
                lines = sorted([*lines, *await self._failures.all()], key=lambda line: line.time)
        return tuple(
            {
                "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time)),
                "time_iso": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(line.time)),
                "epoch": line.time,
                "pool": POOL,
                "user": line.by.user,
                "login": line.by.login,
                "process": line.by.process,
                "result": line.result,
                "command": line.command,
            }
            for line in lines
        )

    # --- all that is configured -----------------------------------------------------------------------------------

    async def _back_up(self, file: str, caller: Caller) -> Reply:
        copy = await self._records.copy()
        host = self._records.host
        descriptor = await caller.new_file(file)
        try:
            await asyncio.to_thread(_fill, descriptor, copy)
        except OSError as error:
            raise ApplyFailed(f"{file!r}: cannot be written: {error.strerror}", code="file", subject=file) from error
        interfaces = sum(len(each.interfaces) for each in host.containers.values())
        return commands.Text(
            (
                f"containers: {len(host.containers)}, interfaces: {interfaces}, and the history",
                "not included: root directories, settings",
            )
        )

    async def _restore(self, action: commands.RestoreCopy, caller: Caller, *, is_rehearsal: bool) -> Reply:
        descriptor = await caller.open_file(action.file)
        try:
            content = await asyncio.to_thread(_all_of, descriptor)
        except OSError as error:
            reason = f"{action.file!r}: cannot be read: {error.strerror}"
            raise Refused(reason, code="file", subject=action.file) from error
        copy = await asyncio.to_thread(self._records.read_copy, content, name=action.file)
        return await _to_the_end(
            self._turns.take(lambda: self._take_back(action, copy, caller, is_rehearsal=is_rehearsal))
        )

    async def _take_back(
        self, action: commands.RestoreCopy, copy: CopiedHost, caller: Caller, *, is_rehearsal: bool
    ) -> Reply:
        here, there = self._records.host, copy.host
        surroundings = Surroundings(self._records.claims, self._host.networks_in_use(here))
        running = {name for name in here.containers if self._lives.state(name) != "stopped"}
        restoring.check_restorable(
            here, there, surroundings, running=running, replaces_host=action.replaces_host, copy=action.file
        )
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(copy.time))
        parked = {} if action.takes else await self._given_up_since(copy)
        told = restoring.told_of_restore(
            here, there, running=running, parked=parked,
            has_root=lambda name: os.path.isdir(self._supervisor.roots.path(name)), root=self._supervisor.roots.path,
        )  # fmt: skip
        if not is_rehearsal:
            await self._records.take_back(
                restoring.restored(here, there, running=running, parked=parked),
                copy=copy,
                restarts=bool(restoring.to_be_started(there, running=running)),
                asked=caller.asked,
            )
        return commands.Text((f"the copy was made {made} by osctld {copy.version}", *told), changed=not is_rehearsal)

    async def _given_up_since(self, copy: CopiedHost) -> dict[str, tuple[Network, ...]]:
        """What containers have given up since a copy was made: by what is logged here, or is beside their roots."""
        here, there = self._records.host, copy.host
        if here.uuid == there.uuid:
            return restoring.given_up(here, there, await self._records.ended_since(copy.time))
        return restoring.newer_beside(there, await self._records.documents_beside_roots(there))

    # --- containers come and go -----------------------------------------------------------------------------------

    async def _create(self, command: ActCommand, action: commands.CreateContainer, caller: Caller) -> None:
        name = action.edited.container
        if name in self._building:
            raise Unavailable(f"{name!r}: is already being created", code="busy", subject=name)
        self._building.add(name)
        try:
            archive = await caller.open_file(action.archive) if action.archive is not None else None
            caller.progress("Creating root directory")
            await self._supervisor.roots.build(name, archive=archive)
            await _to_the_end(self._register_built(command, name, caller))
        finally:
            self._building.discard(name)

    async def _register_built(self, command: ActCommand, name: str, caller: Caller) -> None:
        try:
            await self._turns.take(lambda: self._register(command, caller))
        except BaseException:
            await self._supervisor.roots.discard(name)
            raise

    async def _register(self, command: ActCommand, caller: Caller) -> None:
        # Asked again: others may have changed the configuration while the root directory was built.
        action = command.act(self._records.host)
        assert isinstance(action, commands.CreateContainer)
        edited = action.edited
        made = edited.host.container(edited.container)
        await self._records.save(edited.host, made.name, Kept.of(None, made), caller.asked)
        await self._supervisor.roots.keep(made.name)

    async def _delete(self, name: str, caller: Caller, *, is_forced: bool) -> None:
        self._check_deletable(name, is_forced=is_forced)
        is_deleted = False
        while not is_deleted:
            if is_forced and self._lives.state(name) != "stopped":
                caller.progress("Stopping container")
                await self._supervisor.stop(name, timeout_seconds=0, method=StopMethod.KILL)
            caller.progress("Deleting container")
            is_deleted = await self._turns.take(lambda: self._unregister(name, caller))
            if not is_deleted:  # somebody started it in between
                self._check_deletable(name, is_forced=is_forced)
        await self._records.settle_mirrors()
        await self._guest_files.forget(name)
        await self._supervisor.forget(name)

    def _check_deletable(self, name: str, *, is_forced: bool) -> None:
        if self._lives.state(name) != "stopped" and not is_forced:
            raise Refused(f"{name!r}: the container is running; stop it, or use --force", code="running", subject=name)

    async def _unregister(self, name: str, caller: Caller) -> bool:
        """Forget a container and set its root directory aside, unless it runs; whether that was done."""
        container = self._records.host.container(name)
        if self._lives.state(name) != "stopped":
            return False
        await self._supervisor.roots.set_aside(name)
        try:
            without = self._records.host.without_container(name)
            await self._records.save(without, container.name, Kept.of(container, None), caller.asked)
        except BaseException:
            await self._supervisor.roots.put_back(name)
            raise
        return True


def _fill(descriptor: int, content: bytes) -> None:
    """Write all of a file, and have it on disk. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fsync(descriptor)


def _all_of(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that continues if its client disconnects, because it must not stay half done."""
    return await asyncio.shield(asyncio.create_task(work))
