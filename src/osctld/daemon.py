"""The daemon on one page: edit, plan, apply, save, answer. Read this first.

    perform(command)
        edit   command.edit(host)            what shall be wanted          pure
        claim  claims.check(...)             nobody else holds it          pure
        plan   network.plan(before, after)   what the kernel lacks         pure; --dry-run ends here
        apply  network.apply(plan)           one send per namespace; undone when a step fails
        save   store.save(change)            written meanwhile, then committed: durable; undone when it fails
        answer

A crash between apply and save leaves objects that carry our mark, or in a guest that were noted before, and are not
wanted: the next reconcile sweeps them, and nobody was told that it was done. What was answered is on disk. One
writer at a time: edits and reconciles take turns (`turns`); reads use the frozen `host` and wait for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar, assert_never

import msgspec

from osctld import config
from osctld.core import command as commands
from osctld.core import health
from osctld.core.claims import Claims, ClaimsChange
from osctld.core.command import ActCommand, Command, EditCommand, Edited, GlobalOptions, Observed, Reply, ViewCommand
from osctld.core.configuration_events import events_between
from osctld.core.errors import Conflict, OsctlError, Refused, Unavailable, UsageError
from osctld.core.events import Event, EventFilter, plain_fields
from osctld.core.host import POOL, Container, Host
from osctld.core.host_level import forwarding_warnings
from osctld.core.life import StopMethod
from osctld.core.plan import Plan
from osctld.core.settings import Settings
from osctld.event_log import EventLog
from osctld.lives import Lives
from osctld.network import Kernel, Network
from osctld.reconciler import Reconciler
from osctld.shell.health import gather_facts
from osctld.shell.store import HistoryLine, Saved, Store
from osctld.turns import Turns

log = logging.getLogger("osctld")

T = TypeVar("T")

#: From so many changes of the kernel on, the store writes at the same time; below, threads would wait for each other.
WRITTEN_MEANWHILE = 2000
#: So many containers are started at a time after a boot of the host.
STARTED_AT_ONCE = 8
#: Seconds that such a start may take before the next container has its turn.
LONGEST_START = 300.0


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


class _Kept(msgspec.Struct, frozen=True, dict=True):
    """What goes to disk of a change of one container, each thing computed once: for long lists of routes it takes time.

    `after` is None for a container that is deleted.
    """

    after: Container | None
    claims: ClaimsChange

    @classmethod
    def of(cls, before: Container | None, after: Container | None) -> _Kept:
        claims = ClaimsChange.between(before.claims() if before else (), after.claims() if after else ())
        return cls(after, claims)

    @functools.cached_property
    def document(self) -> bytes:
        return config.encode_container(self.after) if self.after is not None else b""


class Daemon:
    """Holds the one `Host`; the only object of the program that changes."""

    def __init__(
        self,
        *,
        host: Host,
        kernel: Kernel,
        store: Store,
        begun: Iterable[bytes],
        lives: Lives,
        about: Mapping[str, Any],
        run: int = 1,
    ) -> None:
        """`run` counts the runs of the daemon on this store; `begun` are documents of changes that one before noted and
        neither kept nor took back."""
        self.claims = Claims(claim for each in host.containers.values() for claim in each.claims())
        self.host = msgspec.structs.replace(host, holdings=self.claims)
        self.store = store
        self.lives = lives
        self.about = about
        self.turns = Turns()
        self.network = Network(settings=host.settings, kernel=kernel, lives=lives, pending=store, begun=begun)
        self.events = EventLog(run=run)
        self.reconciler = Reconciler(
            host=lambda: self.host, network=self.network, lives=lives, turns=self.turns, tell=self.events.emit
        )
        self._commands = itertools.count(1)
        self._building: set[str] = set()
        self._restarting: set[str] = set()
        self._started = time.monotonic_ns()

    @property
    def settings(self) -> Settings:
        return self.host.settings

    # --- perform --------------------------------------------------------------------------------------------------

    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        """Perform a command and answer it. Raises an OsctlError, and then nothing has changed."""
        if options.pool not in (None, "default"):
            raise Refused(f"pool {options.pool!r} not found", code="pool-not-found", subject=options.pool or "")
        match command:
            case EditCommand():
                return await self._tell(command, options, self.in_turn(lambda: self._edit(command, options, caller)))
            case ViewCommand():
                return command.view(self.host, self._observed())
            case ActCommand():
                if options.dry_run:
                    return await self.in_turn(lambda: self._rehearse(command))
                return await self._tell(command, options, self._act(command, caller))
            case _:
                raise TypeError(command)

    async def _tell(self, command: Command, options: GlobalOptions, work: Awaitable[Reply]) -> Reply:
        """Do the work of a command, and tell who listens when it begins and how it ended."""
        if options.dry_run:
            return await work
        told = {"cmd": "_".join(command.words), "opts": plain_fields(command)}
        number = next(self._commands)
        self.events.emit("management", {"id": number, "state": "run", **told})
        state = "failed"
        try:
            reply = await work
            state = "done"
            return reply
        finally:
            self.events.emit("management", {"id": number, "state": state, **told})

    async def _edit(self, command: EditCommand, options: GlobalOptions, caller: Caller) -> Reply:
        if command.looks_at_host:
            self.host = msgspec.structs.replace(self.host, networks=self.network.networks_of_host(self.host))
        edited = command.edit(self.host)
        before, after = self.host.container(edited.container), edited.host.container(edited.container)
        kept = _Kept.of(before, after)
        self._check_claims(kept.claims, edited)
        planned = await self.network.plan(before, after) if self.lives.is_configured(edited.container) else None
        plan = planned.plan if planned is not None else None
        if options.dry_run:
            return commands.Text(_lines(plan) if after != before else _NOTHING)
        if after != before:
            await self.network.note(after, plan, lambda: kept.document)
            await self._apply_and_save(edited.host, after.name, kept, plan, caller)
            self.network.settled(after.name)
            if planned is not None:
                self.reconciler.note_drift(after.name, planned.drift)
        return commands.Text(edited.messages, changed=after != before)

    def _check_claims(self, claims: ClaimsChange, edited: Edited) -> None:
        try:
            self.claims.check(
                removed=claims.removed,
                added=claims.to_be_checked(),
                is_delegation_allowed=edited.is_delegation_allowed,
            )
        except Conflict as conflict:
            for network, suggestion in edited.suggestions.items():
                if str(network) == conflict.subject:
                    raise conflict.suggesting(suggestion) from None
            raise

    async def _apply_and_save(self, host: Host, name: str, kept: _Kept, plan: Plan | None, caller: Caller) -> None:
        """Apply a plan and save the change. A long one is written while the kernel works, and committed after that."""
        is_made: Future[bool] = Future()
        write = functools.partial(self._write, host, name, kept, caller.command_line, is_made=is_made.result)
        writing = write() if plan is not None and len(plan.changes) >= WRITTEN_MEANWHILE else None
        try:
            await self.network.apply(plan, name=name, on_failure=lambda: is_made.set_result(False))
        except BaseException:
            if not is_made.done():
                is_made.set_result(False)
            if writing is not None:
                writing.add_done_callback(lambda done: done.cancelled() or done.exception())  # the first one is told
            raise
        is_made.set_result(True)
        try:
            await asyncio.shield(writing or write())
        except OsctlError:
            if plan:
                await self.network.undo(plan, name=name)
            raise
        self._take_over(host, name, kept)

    async def _save(self, host: Host, name: str, kept: _Kept, command_line: str | None) -> None:
        """Keep the change of one container, then make it the present configuration and tell who listens."""
        # Shielded: a client that goes away must not leave it open whether the change was kept.
        await asyncio.shield(self._write(host, name, kept, command_line))
        self._take_over(host, name, kept)

    def _write(
        self,
        host: Host,
        name: str,
        kept: _Kept,
        command_line: str | None,
        *,
        is_made: Callable[[], bool] = lambda: True,
    ) -> asyncio.Future[None]:
        def write() -> None:
            # All of it in the disk's thread: documents and rows of long lists are made while the kernel works.
            change = Saved(
                container=name,
                document=kept.document or None,
                host_serial=host.serial,
                holdings_removed=config.holding_rows(kept.claims.removed),
                holdings_added=config.holding_rows(kept.claims.added),
                history=HistoryLine(time.time(), command_line) if command_line is not None else None,
            )
            self.store.save(change, is_made=is_made)

        return asyncio.get_running_loop().run_in_executor(self.lives.disk, write)

    def _take_over(self, host: Host, name: str, kept: _Kept) -> None:
        before, after = self.host.containers.get(name), host.containers.get(name)
        self.host = host
        self.claims.update(removed=kept.claims.removed, added=kept.claims.added)
        if self.events.is_followed:
            documents = (config.plain(before) if before else None, config.plain(after) if after else None)
            is_running = self.lives.is_configured(name)
            for kind, opts in events_between(*documents, pool=POOL, is_running=is_running):
                self.events.emit(kind, opts)

    async def _want_while_it_lives(self, name: str, command_line: str | None, *, is_told: bool) -> None:
        """Keep that a container shall run that does: it may have ended meanwhile."""
        if self.lives.state(name) in ("starting", "running"):
            await self._want(name, command_line, is_wanted=True, is_told=is_told)

    async def _want(
        self, name: str, command_line: str | None, *, is_wanted: bool, is_told: bool = False
    ) -> None:
        """Keep whether a container shall run; with `is_told` the command goes to the history in any case."""
        container = self.host.containers.get(name)
        if container is None or (container.is_wanted == is_wanted and not is_told):
            return
        changed = msgspec.structs.replace(container, is_wanted=is_wanted)
        kept = _Kept(changed, ClaimsChange.between((), ()))
        await self._save(self.host.with_container(changed), name, kept, command_line)

    # --- act ------------------------------------------------------------------------------------------------------

    async def _act(self, command: ActCommand, caller: Caller) -> Reply:
        action = command.act(self.host)
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
                mended = await self.reconciler.reconcile(only, mends_guests=True)
                return commands.Text(mended or ("nothing to mend",), changed=bool(mended))
            case commands.Execute(name, words):
                life = self.lives.running(name)
                stdin, stdout, stderr = await caller.descriptors()
                status = await self.lives.engine.execute(
                    life, words, stdin=stdin, stdout=stdout, stderr=stderr,
                    terminal_type=caller.terminal_type, signals=caller,
                )  # fmt: skip
                return commands.ExitStatus(status)
            case commands.Watch(wanted):
                async with contextlib.aclosing(self.events.follow(wanted)) as events:
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
        facts = await asyncio.to_thread(lambda: gather_facts(self.network.facts_of_host(), self.host))
        return health.listing(health.findings(facts))

    async def _rehearse(self, command: ActCommand) -> Reply:
        """Say what an action would do to the kernel, and do nothing. Refuses what the action itself would."""
        action = command.act(self.host)
        lines: list[str] = []
        match action:
            case commands.CreateContainer(edited):
                lines.append(f"# create container {edited.container}, stopped and without interfaces")
            case commands.DeleteContainer(name, is_forced):
                self._check_deletable(name, is_forced=is_forced)
                lines += [*await self._lines_of_end(name), f"# delete container {name} with everything in it"]
            case commands.StartContainer(name):
                lines += await self._lines_of_start(name) if self.lives.state(name) == "stopped" else []
            case commands.StopContainer(name):
                lines += await self._lines_of_end(name)
            case commands.RestartContainer(name):
                lines += [*await self._lines_of_end(name), *await self._lines_of_start(name)]
            case commands.Reconcile(only):
                lines += await self._lines_of_reconcile(only)
            case _:
                raise UsageError("--dry-run goes with commands that change something")
        return commands.Text(tuple(lines) or _NOTHING)

    async def _lines_of_start(self, name: str) -> list[str]:
        is_running = self.lives.state(name) != "stopped"
        host_level, plan = await self.network.plan_start(self.host.container(name), is_running=is_running)
        made = f"# start container {name}: its namespaces, then this, then its first process"
        return [*host_level.text().splitlines(), made, *plan.text().splitlines()]

    async def _lines_of_end(self, name: str) -> list[str]:
        if self.lives.state(name) == "stopped":
            return []
        plan = await self.network.plan_end(self.host.container(name))
        return [f"# stop container {name}: its interfaces end with it", *plan.text().splitlines()]

    async def _lines_of_reconcile(self, only: str | None) -> list[str]:
        chosen = [self.host.container(only)] if only is not None else self.host.sorted_containers
        lines = self.network.plan_host_level().text().splitlines()
        for each in chosen:
            if self.lives.is_configured(each.name):
                lines += (await self.network.plan(each, each, mends_guest=True)).plan.text().splitlines()
        return lines

    async def _start(self, name: str, wait_seconds: int, caller: Caller) -> bool:
        caller.progress("Starting container")
        was_running = self.lives.state(name) == "running"
        try:
            await self.lives.start(name, wait_seconds=wait_seconds)
        except OsctlError as error:
            if error.code == "slow-start":  # it goes on
                await self._keep_started(name, caller, is_told=not was_running)
            raise
        # Not before: a start that is refused leaves nothing.
        try:
            await self._keep_started(name, caller, is_told=not was_running)
        except OsctlError:
            if not was_running:
                await self.lives.stop(name, timeout_seconds=0, method=StopMethod.KILL)
            raise
        for warning in forwarding_warnings(self.settings, self.network.facts):
            caller.progress(warning)
        return not was_running

    async def _keep_started(self, name: str, caller: Caller, *, is_told: bool) -> None:
        await self.in_turn(lambda: self._want_while_it_lives(name, caller.command_line, is_told=is_told))

    async def _stop(self, action: commands.StopContainer, caller: Caller) -> bool:
        caller.progress("Stopping container")
        name = action.container
        was_running = self.lives.state(name) != "stopped"
        await self.lives.stop(name, timeout_seconds=action.timeout_seconds, method=action.method)
        await self.in_turn(lambda: self._want(name, caller.command_line, is_wanted=False, is_told=was_running))
        return was_running

    async def _restart(self, action: commands.RestartContainer, caller: Caller) -> None:
        caller.progress("Stopping container")
        name = action.container
        self._restarting.add(name)
        try:
            await _to_the_end(
                self.lives.stop(name, timeout_seconds=action.timeout_seconds, method=action.method)
            )
        finally:
            self._restarting.discard(name)
        await self._start(name, action.wait_seconds, caller)

    async def _wait(self, name: str, states: Collection[str]) -> None:
        if self.lives.state(name) in states:
            return
        async with contextlib.aclosing(
            self.events.follow(EventFilter(types=("state", "db"), opts={"id": name}))
        ) as events:
            async for event in events:
                if event.type == "db" and event.opts["action"] == "remove":
                    self.host.container(name)
                if event.opts.get("state", "") in states or self.lives.state(name) in states:
                    return

    async def _history(self) -> tuple[commands.Row, ...]:
        loop = asyncio.get_running_loop()
        lines = await loop.run_in_executor(self.lives.disk, lambda: self.store.history(limit=-1))
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
            await self.lives.roots.build(name, archive=archive)
            await _to_the_end(self._register_built(command, name, caller))
        finally:
            self._building.discard(name)

    async def _register_built(self, command: ActCommand, name: str, caller: Caller) -> None:
        try:
            await self.in_turn(lambda: self._register(command, caller))
        except BaseException:
            await self.lives.roots.discard(name)
            raise

    async def _register(self, command: ActCommand, caller: Caller) -> None:
        # Asked again: others may have changed the configuration while the root directory was built.
        action = command.act(self.host)
        assert isinstance(action, commands.CreateContainer)
        edited = action.edited
        made = edited.host.container(edited.container)
        await self._save(edited.host, made.name, _Kept.of(None, made), caller.command_line)

    async def _delete(self, name: str, caller: Caller, *, is_forced: bool) -> None:
        self._check_deletable(name, is_forced=is_forced)
        if self.lives.state(name) != "stopped":
            caller.progress("Stopping container")
            await self.lives.stop(name, timeout_seconds=0, method=StopMethod.KILL)
        caller.progress("Deleting container")
        await self.in_turn(lambda: self._unregister(name, caller))
        await self.lives.forget(name)

    def _check_deletable(self, name: str, *, is_forced: bool) -> None:
        if self.lives.state(name) != "stopped" and not is_forced:
            raise Refused(
                f"{name!r}: the container is running; stop it, or use --force", code="running", subject=name
            )

    async def _unregister(self, name: str, caller: Caller) -> None:
        container = self.host.container(name)
        if self.lives.state(name) != "stopped":
            raise Refused(f"{name!r}: the container was started meanwhile", code="running", subject=name)
        await self.lives.roots.set_aside(name)
        try:
            await self._save(
                self.host.without_container(name), container.name, _Kept.of(container, None), caller.command_line
            )
        except BaseException:
            await self.lives.roots.put_back(name)
            raise

    # --- what a container's life asks for --------------------------------------------------------------------------

    def wanted(self, name: str) -> Container:
        """The container as it is wanted now. Raises Refused when it was deleted."""
        return self.host.container(name)

    async def check_host(self) -> None:
        """See to it that the host forwards and filters. Raises ApplyFailed when it cannot be made to."""
        # In a thread: a start goes on meanwhile.
        if await asyncio.shield(asyncio.to_thread(self.network.see_to_host_level, self.host)):
            await self.network.fill_filter(self.host)

    async def configure(self, name: str) -> None:
        """Give a container whose namespaces exist all that is wanted for it. Raises ApplyFailed, and undoes."""
        container = self.host.container(name)
        await self.network.configure(container)
        for each in container.interfaces:
            opts = {"action": "up", "pool": POOL, "id": name, "name": each.name, "veth": each.link}
            self.events.emit("ct_netif", opts)

    async def take_down(self, name: str) -> None:
        """Remove what is left of a container on the host after its life. Presses on; failures are logged."""
        container = self.host.containers.get(name)
        await self.network.take_down(name, container)
        for each in container.interfaces if container is not None else ():
            self.events.emit("ct_netif", {"action": "down", "pool": POOL, "id": name, "name": each.name})

    def state_changed(self, name: str, state: str) -> None:
        """Tell who listens."""
        self.events.emit("state", {"pool": POOL, "id": name, "state": state})

    async def ended(self, name: str) -> None:
        """A container's life ended, whoever ended it: the next boot of the host shall not bring it back."""
        if name in self._restarting:
            return
        try:
            await self.in_turn(lambda: self._want(name, None, is_wanted=False))
        except OsctlError as error:
            log.error("%s is still noted as wanted: %s", name, error.message)

    async def adopted(self, name: str) -> None:
        """A container was found running: the daemon may have died before it could keep that this is wanted."""
        try:
            await self.in_turn(lambda: self._want_while_it_lives(name, None, is_told=False))
        except OsctlError as error:
            log.error("%s is not noted as wanted: %s", name, error.message)

    async def start_wanted(self, boot: str) -> None:
        """Start what ran when the host went down; then remember that this was done on this boot."""
        places = asyncio.Semaphore(STARTED_AT_ONCE)

        async def start(name: str) -> None:
            async with places:
                try:
                    await self.lives.start(name, wait_seconds=LONGEST_START)
                    log.info("%s: started, as it ran before the host went down", name)
                except OsctlError as error:
                    log.error("%s: not started: %s", name, error.message)

        wanted = [each.name for each in self.host.containers.values() if each.is_wanted]
        await asyncio.gather(*map(start, wanted))
        await asyncio.get_running_loop().run_in_executor(self.lives.disk, self.store.keep_boot, boot)

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run work when all that was asked for before it is done. A caller that goes away while waiting drops it."""
        return await self.turns.take(work)

    def _observed(self) -> Observed:
        about = {
            **self.about,
            "uptime": time.monotonic_ns() - self._started,
            "last_reconcile": self.reconciler.last,
            "drift": [f"{name}: {each}" for name, drift in self.network.drift.items() for each in drift],
        }
        counted = self.network.kernel.counted_of
        return Observed(lives=self.lives.facts(), daemon=about, state=self.lives.state, counted=counted)

async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that goes on when the client that asked for it goes away: half done is no state to leave."""
    return await asyncio.shield(asyncio.create_task(work))


#: What a dry run says of a command that would change nothing.
_NOTHING = ("# nothing to change",)


def _lines(plan: Plan | None) -> tuple[str, ...]:
    if plan is None:
        return ("# stopped: configuration only",)
    return tuple(plan.text().splitlines()) or _NOTHING
