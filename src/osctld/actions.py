"""What is done rather than wanted: containers are made, started, stopped, deleted, entered; kernels are mended.

An action is a value that a command gives; here it is performed, or for a dry run told what it would do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine
from typing import Any, Protocol, TypeVar, assert_never

from osctld.core import command as commands
from osctld.core import health
from osctld.core.changes import RenameLink
from osctld.core.command import ActCommand, Reply
from osctld.core.errors import ApplyFailed, OsctlError, Refused, Unavailable, UsageError
from osctld.core.events import Event, EventFilter
from osctld.core.host import POOL
from osctld.core.host_level import forwarding_warnings
from osctld.core.life import StopMethod
from osctld.event_log import EventLog
from osctld.lives import Lives
from osctld.network import Network
from osctld.reconciler import Reconciler
from osctld.records import Kept, Records
from osctld.shell.health import gather_facts
from osctld.turns import Turns

T = TypeVar("T")

#: What a dry run says of a command that would change nothing.
NOTHING = ("# nothing to change",)


class Caller(Protocol):
    """Who asked, and what only they can give. Descriptors are closed when the request ends."""

    @property
    def command_line(self) -> str: ...
    @property
    def terminal_type(self) -> str: ...
    def progress(self, text: str) -> None: ...
    def watching(self) -> None: ...
    async def event(self, event: Event) -> None: ...
    async def open_file(self, path: str) -> int: ...
    async def descriptors(self) -> tuple[int, int, int]: ...
    async def next_signal(self) -> int: ...
    def may_stop(self) -> None: ...


class Actions:
    def __init__(
        self,
        *,
        records: Records,
        network: Network,
        lives: Lives,
        reconciler: Reconciler,
        turns: Turns,
        events: EventLog,
    ) -> None:
        self._records = records
        self._network = network
        self._lives = lives
        self._reconciler = reconciler
        self._turns = turns
        self._events = events
        self._building: set[str] = set()
        self._restarting: set[str] = set()

    def is_restarting(self, name: str) -> bool:
        """Whether somebody restarts the container: its end is none then."""
        return name in self._restarting

    async def perform(self, command: ActCommand, caller: Caller) -> Reply:
        """Do what a command asks for. Raises an OsctlError."""
        action = command.act(self._records.host)
        match action:
            case commands.CheckHealth():
                return await self._check_health()
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
            case commands.Reconcile(only):
                found = await self._reconciler.reconcile(only, mends_guests=True)
                if found.failed:
                    for line in found.mended:
                        caller.progress(line)
                    raise ApplyFailed(f"not mended: {'; '.join(found.failed)}", code="not-mended", subject=only or "")
                return commands.Text(tuple(found.mended) or ("nothing to mend",), changed=bool(found.mended))
            case commands.Execute(name, words):
                life = self._lives.running(name)
                stdin, stdout, stderr = await caller.descriptors()
                status = await self._lives.engine.execute(
                    life, words, stdin=stdin, stdout=stdout, stderr=stderr,
                    terminal_type=caller.terminal_type, signals=caller,
                )  # fmt: skip
                return commands.ExitStatus(status)
            case commands.Watch(wanted):
                async with contextlib.aclosing(self._events.follow(wanted)) as events:
                    caller.watching()
                    async for event in events:
                        await caller.event(event)
                raise AssertionError("events do not end")
            case commands.WaitForState(name, states):
                await self._wait(name, states)
                return commands.Text()
            case commands.ShowHistory(columns, shown):
                return commands.Listing(columns=columns, shown=shown, rows=await self._history())
            case _:
                assert_never(action)

    async def _check_health(self) -> Reply:
        facts = await asyncio.to_thread(lambda: gather_facts(self._network.facts_of_host(), self._records.host))
        return health.listing(health.findings(facts))

    async def rehearse(self, command: ActCommand) -> Reply:
        """Say what an action would do to the kernel, and do nothing. Refuses what the action itself would."""
        action = command.act(self._records.host)
        lines: list[str] = []
        match action:
            case commands.CreateContainer(edited):
                lines.append(f"# create container {edited.container}, stopped and without interfaces")
            case commands.DeleteContainer(name, is_forced):
                self._check_deletable(name, is_forced=is_forced)
                lines += [*await self._lines_of_end(name), f"# delete container {name} with everything in it"]
            case commands.StartContainer(name):
                lines += await self._lines_of_start(name) if self._lives.state(name) == "stopped" else []
            case commands.StopContainer(name):
                lines += await self._lines_of_end(name)
            case commands.RestartContainer(name):
                lines += [*await self._lines_of_end(name), *await self._lines_of_start(name)]
            case commands.Reconcile(only):
                lines += await self._lines_of_reconcile(only)
            case _:
                raise UsageError("--dry-run goes with commands that change something")
        return commands.Text(tuple(lines) or NOTHING)

    async def _lines_of_start(self, name: str) -> list[str]:
        is_running = self._lives.state(name) != "stopped"
        host_level, plan = await self._network.plan_start(self._records.host.container(name), is_running=is_running)
        made = f"# start container {name}: its namespaces, then this, then its first process"
        return [*host_level.text().splitlines(), made, *plan.text().splitlines()]

    async def _lines_of_end(self, name: str) -> list[str]:
        if self._lives.state(name) == "stopped":
            return []
        plan = await self._network.plan_end(self._records.host.container(name))
        return [f"# stop container {name}: its interfaces end with it", *plan.text().splitlines()]

    async def _lines_of_reconcile(self, only: str | None) -> list[str]:
        chosen = [self._records.host.container(only)] if only is not None else self._records.host.sorted_containers
        sweep = self._network.plan_sweep(self._records.host)
        lines = [*self._network.plan_host_level().text().splitlines(), *sweep.text().splitlines()]
        renamed = {each.new.name for each in sweep.changes if isinstance(each, RenameLink)}
        for each in chosen:
            if not self._lives.is_configured(each.name):
                continue
            if not renamed.isdisjoint(interface.link for interface in each.interfaces):
                # What it has is called otherwise until then.
                lines.append(f"# then what differs in container {each.name} and on its side of the host")
                continue
            try:
                lines += (await self._network.plan(each, each, mends_guest=True)).plan.text().splitlines()
            except OsctlError as error:
                lines.append(f"# not mended: {each.name}: {error.message}")
        return lines

    async def _start(self, name: str, wait_seconds: int, caller: Caller) -> bool:
        caller.progress("Starting container")
        was_running = self._lives.state(name) == "running"
        try:
            await self._lives.start(name, wait_seconds=wait_seconds)
        except OsctlError as error:
            if error.code == "slow-start":  # it goes on
                await self._keep_started(name, caller, is_told=not was_running)
            raise
        # Not before: a start that is refused leaves nothing.
        try:
            await self._keep_started(name, caller, is_told=not was_running)
        except OsctlError:
            if not was_running:
                await self._lives.stop(name, timeout_seconds=0, method=StopMethod.KILL)
            raise
        for warning in forwarding_warnings(self._records.host.settings, self._network.facts):
            caller.progress(warning)
        return not was_running

    async def _keep_started(self, name: str, caller: Caller, *, is_told: bool) -> None:
        await self._turns.take(lambda: self._records.want_while_it_lives(name, caller.command_line, is_told=is_told))

    async def _stop(self, action: commands.StopContainer, caller: Caller) -> bool:
        caller.progress("Stopping container")
        name = action.container
        was_running = self._lives.state(name) != "stopped"
        await self._lives.stop(name, timeout_seconds=action.timeout_seconds, method=action.method)
        await self._turns.take(
            lambda: self._records.want(name, caller.command_line, is_wanted=False, is_told=was_running)
        )
        return was_running

    async def _restart(self, action: commands.RestartContainer, caller: Caller) -> None:
        caller.progress("Stopping container")
        name = action.container
        self._restarting.add(name)
        try:
            await _to_the_end(self._lives.stop(name, timeout_seconds=action.timeout_seconds, method=action.method))
        finally:
            self._restarting.discard(name)
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

    async def _history(self) -> tuple[commands.Row, ...]:
        lines = await self._records.history()
        return tuple(
            {
                "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time)),
                "time_iso": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(line.time)),
                "epoch": line.time,
                "pool": POOL,
                "command": line.command,
            }
            for line in lines
        )

    async def _create(self, command: ActCommand, action: commands.CreateContainer, caller: Caller) -> None:
        name = action.edited.container
        if name in self._building:
            raise Unavailable(f"{name!r} is being created already", code="busy", subject=name)
        self._building.add(name)
        try:
            archive = await caller.open_file(action.archive) if action.archive is not None else None
            caller.progress("Creating root directory")
            await self._lives.roots.build(name, archive=archive)
            await _to_the_end(self._register_built(command, name, caller))
        finally:
            self._building.discard(name)

    async def _register_built(self, command: ActCommand, name: str, caller: Caller) -> None:
        try:
            await self._turns.take(lambda: self._register(command, caller))
        except BaseException:
            await self._lives.roots.discard(name)
            raise

    async def _register(self, command: ActCommand, caller: Caller) -> None:
        # Asked again: others may have changed the configuration while the root directory was built.
        action = command.act(self._records.host)
        assert isinstance(action, commands.CreateContainer)
        edited = action.edited
        made = edited.host.container(edited.container)
        await self._records.save(edited.host, made.name, Kept.of(None, made), caller.command_line)

    async def _delete(self, name: str, caller: Caller, *, is_forced: bool) -> None:
        self._check_deletable(name, is_forced=is_forced)
        is_deleted = False
        while not is_deleted:
            if is_forced and self._lives.state(name) != "stopped":
                caller.progress("Stopping container")
                await self._lives.stop(name, timeout_seconds=0, method=StopMethod.KILL)
            caller.progress("Deleting container")
            is_deleted = await self._turns.take(lambda: self._unregister(name, caller))
            if not is_deleted:  # somebody started it in between
                self._check_deletable(name, is_forced=is_forced)
        await self._lives.forget(name)

    def _check_deletable(self, name: str, *, is_forced: bool) -> None:
        if self._lives.state(name) != "stopped" and not is_forced:
            raise Refused(f"{name!r}: the container is running; stop it, or use --force", code="running", subject=name)

    async def _unregister(self, name: str, caller: Caller) -> bool:
        """Forget a container and set its root directory aside, unless it runs; whether that was done."""
        container = self._records.host.container(name)
        if self._lives.state(name) != "stopped":
            return False
        await self._lives.roots.set_aside(name)
        try:
            without = self._records.host.without_container(name)
            await self._records.save(without, container.name, Kept.of(container, None), caller.command_line)
        except BaseException:
            await self._lives.roots.put_back(name)
            raise
        return True


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that goes on when the client that asked for it goes away: half done is no state to leave."""
    return await asyncio.shield(asyncio.create_task(work))
