"""The daemon on one page: edit, plan, apply, save, answer. Read this first.

    perform(command)
        edit   command.edit(host)            what shall be wanted          pure
        claim  claims.check(...)             nobody else holds it          pure
        plan   network.plan(before, after)   what the kernel lacks         pure; --dry-run ends here
        apply  network.apply(plan)           one send per namespace; undone when a step fails
        save   records.write(change)         written meanwhile, then committed: durable; undone when it fails
        answer

A crash between apply and save leaves objects that carry our mark, or in a guest that were noted before, and are not
wanted: the next reconcile sweeps them, and nobody was told that it was done. What was answered is on disk. One
writer at a time: edits and reconciles take turns (`turns`); reads use the frozen `host` and wait for nobody.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from osctld.actions import NOTHING, Actions, Caller
from osctld.core import command as commands
from osctld.core.claims import ClaimsChange
from osctld.core.command import ActCommand, Command, EditCommand, Edited, GlobalOptions, Observed, Reply, ViewCommand
from osctld.core.errors import Conflict, OsctlError, Refused
from osctld.core.events import plain_fields
from osctld.core.host import POOL, Container, Host
from osctld.core.plan import Plan
from osctld.core.settings import Settings
from osctld.event_log import EventLog
from osctld.lives import Lives
from osctld.network import Kernel, Network
from osctld.reconciler import Reconciler
from osctld.records import Kept, Records
from osctld.shell.memory import give_memory_back
from osctld.shell.store import Store
from osctld.turns import Turns

log = logging.getLogger("osctld")

T = TypeVar("T")

#: From so many changes of the kernel on, the store writes at the same time; below, threads would wait for each other.
WRITTEN_MEANWHILE = 2000
#: So many containers are started at a time after a boot of the host.
STARTED_AT_ONCE = 8
#: Seconds that such a start may take before the next container has its turn.
LONGEST_START = 300.0


class Daemon:
    """Performs commands. What is wanted changes in `records` alone."""

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
        self.lives = lives
        self.about = about
        self.turns = Turns()
        self.network = Network(settings=host.settings, kernel=kernel, lives=lives, pending=store, begun=begun)
        self.events = EventLog(run=run)
        self.records = Records(host, store=store, lives=lives, events=self.events)
        self.reconciler = Reconciler(
            host=lambda: self.host, network=self.network, lives=lives, turns=self.turns, tell=self.events.emit,
            tidy=give_memory_back,
        )  # fmt: skip
        self.actions = Actions(
            records=self.records, network=self.network, lives=lives,
            reconciler=self.reconciler, turns=self.turns, events=self.events,
        )  # fmt: skip
        self._commands = itertools.count(1)
        self._started = time.monotonic_ns()

    @property
    def host(self) -> Host:
        """What is wanted now: a value that stays as it is."""
        return self.records.host

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
                # Told in its turn: one whose client leaves before is dropped, later it is done all the same.
                return await self.in_turn(
                    lambda: self._tell(command, options, self._edit(command, options, caller))
                )
            case ViewCommand():
                return command.view(self.host, self._observed())
            case ActCommand():
                if options.dry_run:
                    return await self.in_turn(lambda: self.actions.rehearse(command))
                return await self._tell(command, options, self.actions.perform(command, caller))
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
        except (asyncio.CancelledError, ConnectionError):
            state = "left"
            raise
        finally:
            self.events.emit("management", {"id": number, "state": state, **told})

    async def _edit(self, command: EditCommand, options: GlobalOptions, caller: Caller) -> Reply:
        if command.looks_at_host:
            self.records.see_networks(self.network.networks_of_host(self.host))
        edited = command.edit(self.host)
        await self.lives.take_down_if_ended(edited.container)
        try:
            return await self._perform_edit(edited, options, caller)
        except OsctlError:
            if not await self.lives.take_down_if_ended(edited.container):
                raise
            return await self._perform_edit(edited, options, caller)  # as of one that is stopped

    async def _perform_edit(self, edited: Edited, options: GlobalOptions, caller: Caller) -> Reply:
        before, after = self.host.container(edited.container), edited.host.container(edited.container)
        kept = Kept.of(before, after)
        self._check_claims(kept.claims, edited)
        planned = await self.network.plan(before, after) if self.lives.is_configured(edited.container) else None
        plan = planned.plan if planned is not None else None
        if options.dry_run:
            return commands.Text(_lines(plan) if after != before else NOTHING)
        if after != before:
            await self.network.note(after, plan, lambda: kept.document)
            await self._apply_and_save(edited.host, after.name, kept, plan, caller)
            self.network.settled(after.name)
            if planned is not None and not (planned.drift and self.lives.is_ending(after.name)):
                self.reconciler.note_drift(after.name, planned.drift)
        return commands.Text(edited.messages, changed=after != before)

    def _check_claims(self, claims: ClaimsChange, edited: Edited) -> None:
        try:
            self.records.claims.check(
                removed=claims.removed,
                added=claims.to_be_checked(),
                is_delegation_allowed=edited.is_delegation_allowed,
            )
        except Conflict as conflict:
            for network, suggestion in edited.suggestions.items():
                if str(network) == conflict.subject:
                    raise conflict.suggesting(suggestion) from None
            raise

    async def _apply_and_save(self, host: Host, name: str, kept: Kept, plan: Plan | None, caller: Caller) -> None:
        """Apply a plan and save the change. A long one is written while the kernel works, and committed after that."""
        is_made: Future[bool] = Future()
        write = functools.partial(self.records.write, host, name, kept, caller.command_line, is_made=is_made.result)
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
        self.records.take_over(host, name, kept)

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
        if self.actions.is_restarting(name):
            return
        try:
            await self.in_turn(lambda: self.records.want(name, None, is_wanted=False))
        except OsctlError as error:
            log.error("%s is still noted as wanted: %s", name, error.message)

    async def adopted(self, name: str) -> None:
        """A container was found running: the daemon may have died before it could keep that this is wanted."""
        try:
            await self.in_turn(lambda: self.records.want_while_it_lives(name, None, is_told=False))
        except OsctlError as error:
            log.error("%s is not noted as wanted: %s", name, error.message)

    async def start_wanted(self, boot: str) -> None:
        """Start what ran when the host went down; then remember that this was done on this boot."""
        places = asyncio.Semaphore(STARTED_AT_ONCE)

        async def start(name: str) -> None:
            async with places:
                container = self.host.containers.get(name)
                if container is None or not container.is_wanted:
                    return  # somebody thought otherwise while it waited for its turn
                try:
                    await self.lives.start(name, wait_seconds=LONGEST_START)
                    log.info("%s: started, as it ran before the host went down", name)
                except OsctlError as error:
                    log.error("%s: not started: %s", name, error.message)

        wanted = [each.name for each in self.host.containers.values() if each.is_wanted]
        await asyncio.gather(*map(start, wanted))
        await self.records.keep_boot(boot)

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


def _lines(plan: Plan | None) -> tuple[str, ...]:
    if plan is None:
        return ("# stopped: configuration only",)
    return tuple(plan.text().splitlines()) or ("# configuration only",)
