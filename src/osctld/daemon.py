"""The daemon on one page: edit, plan, apply, save, answer. Read this first.

    perform(command)
        edit   command.edit(host)            what shall be wanted          pure
        claim  claims.check(...)             nobody else holds it          pure
        plan   network.plan(before, after)   what the kernel lacks         pure; --dry-run ends here
        apply  network.apply(plan)           one send per namespace; undone when a step fails
        save   store.save(change)            durable; undone when it fails
        answer

A crash between apply and save leaves objects that carry our mark, or in a guest that were noted before, and are not
wanted: the next reconcile sweeps them, and nobody was told that it was done. What was answered is on disk. One
writer at a time: edits and reconciles take turns (`turns`); reads use the frozen `host` and wait for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar, assert_never

import msgspec

from osctld import config
from osctld.core import command as commands
from osctld.core import health
from osctld.core.claims import Claims, ClaimsChange
from osctld.core.command import ActCommand, Command, EditCommand, Edited, GlobalOptions, Observed, Reply, ViewCommand
from osctld.core.errors import Conflict, OsctlError, Refused, Unavailable, UsageError
from osctld.core.host import Container, Host
from osctld.core.host_level import forwarding_warnings
from osctld.core.life import StopMethod
from osctld.core.plan import Plan
from osctld.core.settings import Settings
from osctld.lives import Lives
from osctld.network import Kernel, Network
from osctld.reconciler import Reconciler
from osctld.shell.health import gather_facts
from osctld.shell.pending import PendingChanges
from osctld.shell.store import HistoryLine, Saved, Store
from osctld.turns import Turns

log = logging.getLogger("osctld")

T = TypeVar("T")


class Caller(Protocol):
    """Who asked, and what only they can give. Descriptors are closed when the request ends."""

    @property
    def command_line(self) -> str: ...
    @property
    def terminal_type(self) -> str: ...
    def progress(self, text: str) -> None: ...
    async def open_file(self, path: str) -> int: ...
    async def descriptors(self) -> tuple[int, int, int]: ...
    async def next_signal(self) -> int: ...
    def may_stop(self) -> None: ...


class _Kept(msgspec.Struct, frozen=True):
    """What goes to disk of a change of one container, each thing computed once: for long lists of routes it takes time.

    `document` is empty for a container that is deleted.
    """

    document: bytes
    claims: ClaimsChange

    @classmethod
    def of(cls, before: Container | None, after: Container | None) -> _Kept:
        return cls(
            document=config.encode_container(after) if after is not None else b"",
            claims=ClaimsChange.between(before.claims() if before else (), after.claims() if after else ()),
        )


class Daemon:
    """Holds the one `Host`; the only object of the program that changes."""

    def __init__(
        self,
        *,
        host: Host,
        kernel: Kernel,
        store: Store,
        pending: PendingChanges,
        lives: Lives,
        about: Mapping[str, Any],
    ) -> None:
        self.claims = Claims(claim for each in host.containers.values() for claim in each.claims())
        self.host = msgspec.structs.replace(host, holdings=self.claims)
        self.store = store
        self.lives = lives
        self.about = about
        self.turns = Turns()
        self.network = Network(settings=host.settings, kernel=kernel, lives=lives, pending=pending)
        self.reconciler = Reconciler(host=lambda: self.host, network=self.network, lives=lives, turns=self.turns)
        self._building: set[str] = set()
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
                return await self.in_turn(lambda: self._edit(command, options, caller))
            case ViewCommand():
                return command.view(self.host, self._observed())
            case ActCommand():
                if options.dry_run:
                    raise UsageError("--dry-run goes with commands that change the configuration")
                return await self._act(command, caller)
            case _:
                raise TypeError(command)

    async def _edit(self, command: EditCommand, options: GlobalOptions, caller: Caller) -> Reply:
        if command.looks_at_host:
            self.host = msgspec.structs.replace(self.host, networks=self.network.networks_of_host(self.host))
        edited = command.edit(self.host)
        before, after = self.host.container(edited.container), edited.host.container(edited.container)
        kept = _Kept.of(before, after)
        self._check_claims(kept.claims, edited)
        plan = await self.network.plan(before, after) if self.lives.is_configured(edited.container) else None
        if options.dry_run:
            return commands.Text(_lines(plan))
        if after != before:
            if plan:
                self.network.note(after, kept.document)
            await self.network.apply(plan, name=after.name)
            await self._save_or_undo(edited.host, after.name, kept, plan, caller)
            self.network.settle(after.name)
        return commands.Text(edited.messages)

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
                    raise Conflict(
                        f"{conflict.message}; {suggestion}",
                        code=conflict.code,
                        subject=conflict.subject,
                        holder=conflict.holder,
                    ) from None
            raise

    async def _save_or_undo(self, host: Host, name: str, kept: _Kept, plan: Plan | None, caller: Caller) -> None:
        try:
            await self._save(host, name, kept, caller)
        except OsctlError:
            if plan:
                await self.network.undo(plan, name=name)
            raise

    async def _save(self, host: Host, name: str, kept: _Kept, caller: Caller) -> None:
        """Keep the change of one container, then make it the present configuration."""
        change = Saved(
            container=name,
            document=kept.document or None,
            host_serial=host.serial,
            holdings_removed=config.holding_rows(kept.claims.removed),
            holdings_added=config.holding_rows(kept.claims.added),
            history=HistoryLine(time.time(), caller.command_line),
        )
        # Shielded: a client that goes away must not leave it open whether the change was kept.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self.lives.disk, self.store.save, change))
        self.host = host
        self.claims.update(removed=kept.claims.removed, added=kept.claims.added)

    # --- act ------------------------------------------------------------------------------------------------------

    async def _act(self, command: ActCommand, caller: Caller) -> Reply:
        action = command.act(self.host)
        match action:
            case commands.CheckHealth():
                return await self._check_health()
            case commands.CreateContainer():
                await self._create(command, action, caller)
            case commands.DeleteContainer(name, is_forced):
                await _to_the_end(self._delete(name, caller, is_forced=is_forced))
            case commands.StartContainer(name, wait_seconds):
                await self._start(name, wait_seconds, caller)
            case commands.StopContainer(name, timeout_seconds, method):
                caller.progress("Stopping container")
                await _to_the_end(self.lives.stop(name, timeout_seconds=timeout_seconds, method=method))
            case commands.RestartContainer(name, wait_seconds, timeout_seconds, method):
                caller.progress("Stopping container")
                await _to_the_end(self.lives.stop(name, timeout_seconds=timeout_seconds, method=method))
                await self._start(name, wait_seconds, caller)
            case commands.Execute(name, words):
                life = self.lives.running(name)
                stdin, stdout, stderr = await caller.descriptors()
                status = await self.lives.engine.execute(
                    life, words, stdin=stdin, stdout=stdout, stderr=stderr,
                    terminal_type=caller.terminal_type, signals=caller,
                )  # fmt: skip
                return commands.ExitStatus(status)
            case commands.Watch() | commands.WaitForState():
                raise NotImplementedError(action)
            case _:
                assert_never(action)
        return commands.Text()

    async def _check_health(self) -> Reply:
        facts = await asyncio.to_thread(lambda: gather_facts(self.network.facts_of_host(), self.host))
        return health.listing(health.findings(facts))

    async def _start(self, name: str, wait_seconds: int, caller: Caller) -> None:
        caller.progress("Starting container")
        await self.lives.start(name, wait_seconds=wait_seconds)
        for warning in forwarding_warnings(self.settings, self.network.facts):
            caller.progress(warning)

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
        await self._save(edited.host, made.name, _Kept.of(None, made), caller)

    async def _delete(self, name: str, caller: Caller, *, is_forced: bool) -> None:
        if self.lives.state(name) != "stopped":
            if not is_forced:
                raise Refused(
                    f"{name!r}: the container is running; stop it, or use --force", code="running", subject=name
                )
            caller.progress("Stopping container")
            await self.lives.stop(name, timeout_seconds=0, method=StopMethod.KILL)
        caller.progress("Deleting container")
        await self.in_turn(lambda: self._unregister(name, caller))
        await self.lives.forget(name)

    async def _unregister(self, name: str, caller: Caller) -> None:
        container = self.host.container(name)
        if self.lives.state(name) != "stopped":
            raise Refused(f"{name!r}: the container was started meanwhile", code="running", subject=name)
        await self.lives.roots.set_aside(name)
        try:
            await self._save(self.host.without_container(name), container.name, _Kept.of(container, None), caller)
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
        await asyncio.shield(asyncio.to_thread(self.network.see_to_host_level))

    async def configure(self, name: str) -> None:
        """Give a container whose namespaces exist all that is wanted for it. Raises ApplyFailed, and undoes."""
        await self.network.configure(self.host.container(name))

    async def take_down(self, name: str) -> None:
        """Remove what is left of a container on the host after its life. Presses on; failures are logged."""
        await self.network.take_down(name, self.host.containers.get(name))

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run work when all that was asked for before it is done. A caller that goes away while waiting drops it."""
        return await self.turns.take(work)

    def _observed(self) -> Observed:
        about = {
            **self.about,
            "uptime": time.monotonic_ns() - self._started,
            "last_reconcile": self.reconciler.last,
        }
        dropped = self.network.kernel.dropped_of
        return Observed(lives=self.lives.facts(), daemon=about, state=self.lives.state, dropped=dropped)

async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that goes on when the client that asked for it goes away: half done is no state to leave."""
    return await asyncio.shield(asyncio.create_task(work))


def _lines(plan: Plan | None) -> tuple[str, ...]:
    if plan is None:
        return ("# stopped: configuration only",)
    return tuple(plan.text().splitlines()) or ("# nothing to change",)
