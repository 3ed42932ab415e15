"""The daemon on one page: edit, claim, plan, apply, save, answer. Read this first.

    perform(command)
        edit   command.edit(host, surroundings)  the new configuration               pure
        claim  authority.check(...)              nobody else holds it                pure
        plan   containers.plan(before, after)    what the kernel lacks: effects      pure; --dry-run ends here
        apply  done.apply(effects)               undone when one of them, or the save, fails
        save   saving.commit()                   durable
        answer

A crash between apply and save leaves objects that carry our mark, or in a guest that were noted before, and are not
wanted: the next reconcile removes them, and no client was told that the change was made. What was answered is on disk.
One writer at a time: edits and reconciles take turns (`turns`); reads use the frozen `host` and wait for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from osctld.aside import considered
from osctld.core import command as commands
from osctld.core.authority import authority
from osctld.core.authority.authority import Asking, Authority, Need, needs_held, needs_of
from osctld.core.authority.claims import ClaimsChange
from osctld.core.command import ActCommand, Command, EditCommand, Edited, GlobalOptions, Observed, Reply, ViewCommand
from osctld.core.config.host import Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Conflict, OsctlError, Refused, UsageError
from osctld.core.events import plain_fields
from osctld.core.person import Asked
from osctld.daemon.actions import NOTHING, Actions, Caller
from osctld.daemon.blocking import Blocking
from osctld.daemon.condition import Condition
from osctld.daemon.effects import Ports, Rank, Undoing, lines_of, of_rank, press_on
from osctld.daemon.event_log import EventLog
from osctld.daemon.failures import LEFT, Failures
from osctld.daemon.guest_files import GuestFiles
from osctld.daemon.kernel_effects import kernel_effects
from osctld.daemon.parking import Parking
from osctld.daemon.records import Kept, Records
from osctld.daemon.reservations import NeedsMore, Reservations
from osctld.daemon.router import Router
from osctld.daemon.turns import Turns
from osctld.lifecycle.boot import Boot
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import Lives
from osctld.lifecycle.supervisor import Supervisor
from osctld.sync.announcements import Announcements
from osctld.sync.containers import ContainerSync
from osctld.sync.drift import Drift
from osctld.sync.host import HostSync
from osctld.sync.obstacles import Obstacles
from osctld.sync.plan_sender import IN_THE_WAY
from osctld.sync.ports import Kernel
from osctld.sync.reconciler import Reconciler
from osctld.sync.stopped import Stopped
from osctld.sync.tracked import Tracked

log = logging.getLogger("osctld")


class Daemon:
    """Performs commands. All that it does that with was joined together by `assembly`."""

    def __init__(
        self,
        *,
        about: Mapping[str, Any],
        records: Records,
        lives: Lives,
        kernel: Kernel,
        host_sync: HostSync,
        containers: ContainerSync,
        drift: Drift,
        obstacles: Obstacles,
        ports: Ports,
        phase: HostPhase,
        supervisor: Supervisor,
        boot: Boot,
        reconciler: Reconciler,
        actions: Actions,
        events: EventLog,
        turns: Turns,
        condition: Condition,
        blocking: Blocking,
        stopped: Stopped,
        tracked: Tracked,
        failures: Failures,
        guest_files: GuestFiles,
        announcements: Announcements,
        router: Router,
        above: Authority | None = None,
    ) -> None:
        """`above` is an authority on addresses above this host."""
        self.records = records
        self.lives = lives
        self.host_sync = host_sync
        self.phase = phase
        self.supervisor = supervisor
        self.boot = boot
        self.reconciler = reconciler
        self.turns = turns
        self.stopped = stopped
        self.tracked = tracked
        self.failures = failures
        self.guest_files = guest_files
        self.announcements = announcements
        self.router = router
        self.condition = condition
        self.blocking = blocking
        self._about = about
        self._kernel = kernel
        self._containers = containers
        self._drift = drift
        self._obstacles = obstacles
        self._ports = ports
        self._actions = actions
        self._events = events
        self.parking = Parking(
            records=records, turns=turns, events=events,
            change=lambda edited: self._change(edited, GlobalOptions(), None),
        )  # fmt: skip
        self.reservations: Reservations | None = None
        if above is not None:
            self.reservations = Reservations(above, held=self.parking.held, park=self.parking.park)
            records.on_released = self.reservations.released
            records.on_replaced = self.reservations.settle_again
        self._commands = itertools.count(1)
        self._started = time.monotonic_ns()

    @property
    def host(self) -> Host:
        """What is wanted now: a value that stays as it is."""
        return self.records.host

    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        """Perform a command and answer it. Raises an OsctlError, and then nothing has changed."""
        try:
            return await self._perform(command, options, caller)
        except OsctlError as error:
            # Here and not in the turn: an authority above this host refuses before that.
            if not options.dry_run:
                self._keep_failure(command, caller, error.message)
            raise

    async def _perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        if options.pool not in (None, "default"):
            raise Refused(f"pool {options.pool!r} not found", code="pool-not-found", subject=options.pool or "")
        if options.if_generation is not None and not isinstance(command, EditCommand):
            raise UsageError("--if-generation requires a command that changes the configuration of a container")
        match command:
            case EditCommand():
                async with self._tools_told(command, options):
                    if self.reservations is not None:
                        return await self._edit_reserved(self.reservations, command, options, caller)
                    return await self.turns.take(functools.partial(self._edit, command, options, caller))
            case ViewCommand():
                # It is `ct ls` in our words.
                self._actions.serves_original |= command.words == ("ct", "list")
                host, observed = self.host, self._observed()
                return await considered(self.records.claims.network_count, lambda: command.view(host, observed))
            case ActCommand() if options.dry_run:
                return await self._actions.rehearse(command, caller)
            case ActCommand():
                with self._telling(command, caller):
                    return await self._actions.perform(command, caller)
            case _:
                raise TypeError(command)

    @contextlib.asynccontextmanager
    async def _tools_told(self, command: EditCommand, options: GlobalOptions) -> AsyncIterator[None]:
        """Let the tools inside a container know of an interface before it is there. Out of turn: guests may be slow."""
        edited = None
        if command.adds_interface and not options.dry_run:
            with contextlib.suppress(OsctlError):  # it is refused in its turn
                edited = command.edit(self.host, self._surroundings)
                self._claim(self._claims_of(edited), edited)
                await self.guest_files.before_new_interface(edited.host.container(edited.container))
        try:
            yield
        except BaseException:
            if edited is not None:
                self.guest_files.look_again(edited.container)
            raise

    async def _edit_reserved(
        self, reservations: Reservations, command: EditCommand, options: GlobalOptions, caller: Caller
    ) -> Reply:
        """An edit for which an authority above this host is asked, outside of the turn."""

        def needs() -> frozenset[Need]:
            edited = command.edit(self.host, self._surroundings)
            self._claim(self._claims_of(edited), edited)  # what is refused here need not be asked for there
            return self._needs_of(edited)

        if options.dry_run:
            await reservations.rehearse(needs())
            return await self.turns.take(functools.partial(self._edit, command, options, caller))
        return await reservations.perform(
            needs, self.turns.take, lambda *reserved: self._edit(command, options, caller, reserved=reserved)
        )

    @property
    def _surroundings(self) -> Surroundings:
        """What an edit must know of the world."""
        networks = self.host_sync.networks_in_use(self.host)
        return Surroundings(
            self.records.claims, networks, released=self.records.released(), host_link=self.host_sync.host_link
        )

    async def _edit(
        self,
        command: EditCommand,
        options: GlobalOptions,
        caller: Caller,
        *,
        reserved: tuple[frozenset[Need], int] | None = None,
    ) -> Reply:
        """With `reserved`, which has an epoch, raises NeedsMore for what is not among that."""
        # Told in its turn: one whose client leaves before is dropped, later it is done all the same.
        with contextlib.nullcontext() if options.dry_run else self._telling(command, caller):
            host, surroundings = self.host, self._surroundings
            edited = await considered(
                _weight(command, host), lambda: self._numbered(command.edit(host, surroundings), options)
            )
            needs, epoch = reserved or (None, 0)
            if needs is not None and not self._needs_of(edited) <= needs:
                raise NeedsMore
            await self._take_down_ended(edited.containers)
            try:
                return await self._change(edited, options, caller.asked, epoch)
            except OsctlError as error:
                has_ended = await self._take_down_ended(edited.containers)
                if not has_ended and error.code != IN_THE_WAY:
                    raise
                # As for stopped containers, or with the conflicts that were found.
                return await self._change(edited, options, caller.asked, epoch)

    def _numbered(self, edited: Edited, options: GlobalOptions) -> Edited:
        """The edit, whose containers have the next generation if they change. Raises Conflict if the first has another
        already than the one that was asked for."""
        present = self.host.container(edited.container)
        if options.if_generation not in (None, present.generation):
            raise Conflict(
                f"{edited.container!r}: the configuration has generation {present.generation}, not "
                f"{options.if_generation}; it was changed meanwhile",
                code="generation",
                subject=edited.container,
            )
        host = edited.host
        for name in edited.containers:
            before, after = self.host.container(name), host.container(name)
            if after != before:
                host = host.with_container(msgspec.structs.replace(after, generation=before.generation + 1))
        return msgspec.structs.replace(edited, host=host) if host is not edited.host else edited

    async def _take_down_ended(self, names: Iterable[str]) -> bool:
        """Take down what is left of containers that have just ended; whether there was one."""
        return any([await self.supervisor.take_down_if_ended(each) for each in names])

    async def _change(self, edited: Edited, options: GlobalOptions, asked: Asked | None, epoch: int = 0) -> Reply:
        """From what an edit wants to the effects of that, and from these to the answer. `epoch`: see `saving`."""
        edited = edited.without_stale_states()
        pairs = {name: (self.host.container(name), edited.host.container(name)) for name in edited.containers}
        weight = sum(container.network_count for pair in pairs.values() for container in pair)
        kept, mentioned = await considered(weight, lambda: self._kept(pairs, edited))
        running = [name for name in pairs if self.lives.is_configured(name)]
        planned = await self._containers.plan_together([pairs[name] for name in running]) if running else None
        effects = kernel_effects([kept[name] for name in running], planned.plan) if planned is not None else ()
        is_changed = any(before != after for before, after in pairs.values())
        if options.dry_run:
            only_kept = "# configuration only" if planned is not None else "# stopped: configuration only"
            lines = await considered(weight, lambda: lines_of(effects))
            for each in pairs.values():
                lines += await self.guest_files.lines(*each, is_running=each[1].name in running)
            announced = self.announcements.lines(*({name: pairs[name][at] for name in running} for at in (0, 1)))
            lines = (*announced, *lines, *await self.stopped.lines(self.host, edited.host)) or (only_kept,)
            return commands.Text(lines if is_changed else NOTHING)
        if not is_changed:
            return commands.Text(edited.messages)
        befores, afters = ([pairs[name][at] for name in running] for at in (0, 1))
        async with self.announcements.leaving(befores, afters), Undoing(self._ports) as done:
            await done.apply(of_rank(Rank.NOTE, effects))
            async with self.records.saving(edited.host, kept, asked, epoch=epoch) as saving:
                await done.apply(of_rank(Rank.BEFORE_SAVE, effects))
                await saving.commit()
            done.keep()
        for name, pair in pairs.items():
            self._ports.notes.saved(name)
            self.guest_files.note(*pair)
        for name in running:
            self._containers.is_renewed(name)
        for error in await press_on(of_rank(Rank.AFTER_SAVE, effects), self._ports):
            log.error("%s: %s", edited.container, error.message)
        for name, drift in planned.drift.items() if planned is not None else ():
            if not (drift and self.lives.is_ending(name)):
                self._drift.note(name, drift)
                self._containers.note_yielded(pairs[name][1])
        return commands.Text((*edited.messages, *mentioned), changed=True)

    def _kept(
        self, pairs: Mapping[str, tuple[Container, Container]], edited: Edited
    ) -> tuple[Mapping[str, Kept], tuple[str, ...]]:
        """What a change saves, and what is worth mentioning. Raises Conflict."""
        kept = {name: Kept.of(*pair) for name, pair in pairs.items()}
        return kept, self._claim(ClaimsChange.together(each.claims for each in kept.values()), edited)

    def _claim(self, claims: ClaimsChange, edited: Edited) -> tuple[str, ...]:
        """Ask the authority for what a change newly claims; return what is worth mentioning. Raises Conflict."""
        asking = Asking(
            claims, declared=edited.host.uplinks,
            delegates=edited.is_delegation_allowed, overlaps_host=edited.is_overlap_allowed,
        )  # fmt: skip
        try:
            authority.check(asking, holdings=self.records.claims, space=self.host_sync.networks_in_use(self.host))
        except Conflict as conflict:
            for network, suggestion in edited.suggestions.items():
                if str(network) == conflict.subject:
                    raise conflict.suggesting(suggestion) from None
            raise
        wanted = authority.to_be_mentioned(asking)
        return authority.mentions(wanted, self.host_sync.learned_routes(wanted)) if wanted else ()

    def _claims_of(self, edited: Edited) -> ClaimsChange:
        pairs = ((self.host.container(name), edited.host.container(name)) for name in edited.containers)
        return ClaimsChange.together(ClaimsChange.between(before.claims(), after.claims()) for before, after in pairs)

    def _needs_of(self, edited: Edited) -> frozenset[Need]:
        """What an edit has to be granted by an authority above this host."""
        claims = edited.host.container(edited.container).claims() if edited.taken else ()
        again = needs_held(claim for claimed in claims for claim in claimed if claim.network in edited.taken)
        return needs_of(self._claims_of(edited)) | again

    @contextlib.contextmanager
    def _telling(self, command: Command, caller: Caller) -> Iterator[None]:
        """Tell who listens when a command begins and how it ended."""
        opts = plain_fields(command, secret=commands.secret_fields(type(command)))
        told = {"cmd": "_".join(command.words), "opts": {**opts, "cli": caller.asked.command_line}}
        number = next(self._commands)
        self._events.emit("management", {"id": number, "state": "run", **told})
        state = "failed"
        try:
            yield
            state = "done"
        except (asyncio.CancelledError, ConnectionError):
            state = "left"
            self._keep_failure(command, caller, LEFT)
            raise
        finally:
            self._events.emit("management", {"id": number, "state": state, **told})

    def _keep_failure(self, command: Command, caller: Caller, why: str) -> None:
        if command.keeps_failures and not command.looks:
            self.failures.note(caller.asked, why)

    def _observed(self) -> Observed:
        about = {
            **self._about,
            "uptime": time.monotonic_ns() - self._started,
            "last_reconcile": self.reconciler.last,
            "shutdown": self.phase.describe() or None,
            "drift": self._drift.lines(),
        }
        counted = self._kernel.counted_of
        return Observed(
            lives=self.lives.facts(), daemon=about, state=self.lives.state, counted=counted,
            yielded=self._obstacles.told, links=lambda: self.host_sync.networks_in_use(self.host).links,
        )  # fmt: skip


def _weight(command: EditCommand, host: Host) -> int:
    """About how many networks an edit is: those that were typed, and those of the containers that it names."""
    said = msgspec.structs.astuple(command)
    containers = [host.containers[each] for each in said if isinstance(each, str) and each in host.containers]
    return sum(len(each) for each in said if isinstance(each, tuple)) + sum(each.network_count for each in containers)
