"""The daemon on one page: edit, plan, apply, save, answer. Read this first.

    perform(command)
        edit   command.edit(host)            what shall be wanted          pure
        claim  claims.check(...)             nobody else holds it          pure
        plan   plan_changes(want, have)      what the kernel lacks         pure; --dry-run ends here
        apply  kernel.apply(plan)            one send per namespace; undone when a step fails
        save   store.save(change)            durable; undone when it fails
        answer

A crash between apply and save leaves objects that carry our mark, or in a guest that were noted before, and are not
wanted: the next reconcile sweeps them, and nobody was told that it was done. What was answered is on disk. One
writer at a time: edits and reconciles take turns; reads use the frozen `host` and wait for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, assert_never

import msgspec

from osctld import config
from osctld.core import command as commands
from osctld.core.changes import subject_of
from osctld.core.claims import Claims
from osctld.core.command import ActCommand, Command, EditCommand, Edited, GlobalOptions, Observed, Reply, ViewCommand
from osctld.core.errors import ApplyFailed, Conflict, OsctlError, Refused, Unavailable, UsageError
from osctld.core.host import Container, Host
from osctld.core.host_level import default_mtu, desired_host_level, forwarding_warnings
from osctld.core.host_networks import HostNetwork, networks_of_others
from osctld.core.kernel_state import (
    HOST,
    FilterElement,
    HostFacts,
    KernelState,
    LinkScope,
    Namespace,
    Outcome,
    PrivateNetwork,
    SiblingLinks,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.life import StopMethod
from osctld.core.ownership import is_abandoned_link, split
from osctld.core.plan import Plan, plan_changes
from osctld.core.plan_text import describe
from osctld.core.settings import Settings
from osctld.lives import Lives
from osctld.shell.pending import PendingChanges
from osctld.shell.store import HistoryLine, Saved, Store, added_and_removed

log = logging.getLogger("osctld")

T = TypeVar("T")

#: Plans with more changes than this are sent from a thread, so that others are answered meanwhile.
LARGE_PLAN = 64
#: So many containers are looked at in one turn of a reconcile; each takes less than a millisecond.
RECONCILED_AT_ONCE = 16


class Kernel(Protocol):
    """The port to the kernels' network state. Namespaces are given as open descriptors, for the call alone."""

    def host_facts(self, *, link_group: int, uplinks: Sequence[str] | None) -> HostFacts:
        """Look at the host's uplinks and forwarding."""

    def host_networks(self) -> Sequence[HostNetwork]:
        """All addresses and networks that the host's links have, ours included."""

    def observe(
        self,
        scopes: Sequence[LinkScope],
        namespaces: Mapping[Namespace, int],
        *,
        sysctls: Iterable[str] = (),
        elements: Iterable[FilterElement] = (),
        host_side: Any = None,
    ) -> KernelState:
        """All objects of these links; with what `observe_host_side` found, its host's side is not looked at again."""

    def observe_host_side(self, names: Collection[str]) -> Any:
        """These links on the host at once, and what is on them: for `observe` alone."""

    def observe_links(self, *, link_group: int) -> KernelState:
        """The host's links of the group, and all elements of the packet filter, those of gone links included."""

    def observe_host_level(self, sysctls: Iterable[str]) -> KernelState:
        """The packet filter and these settings."""

    def apply(self, plan: Plan, namespaces: Mapping[Namespace, int]) -> tuple[Outcome, ...]:
        """Perform a plan: one outcome for each change. A refusal of the kernel is an outcome, not an error."""


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
        self.kernel = kernel
        self.store = store
        self.pending = pending
        #: Containers in which a change that was not saved may have left something, as that change wanted them.
        self._unsettled: dict[str, Container] = {}
        for document in pending.load():
            with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError, Refused):
                unsettled = config.decode_container(document)
                self._unsettled[unsettled.name] = unsettled
        self.lives = lives
        self.about = about
        self.facts = HostFacts(uplinks=(), has_ipv6_forwarding=False)
        self.last_reconcile = "none yet"
        self._turns: asyncio.Queue[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = asyncio.Queue()
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
            self._look_at_host()
        edited = command.edit(self.host)
        before, after = self.host.container(edited.container), edited.host.container(edited.container)
        self._check_claims(before, after, edited)
        plan = await self._plan(before, after) if self.lives.is_configured(edited.container) else None
        if options.dry_run:
            return commands.Text(_lines(plan))
        if after != before:
            if plan:
                self.pending.note(after.name, config.encode_container(after))
                self._unsettled[after.name] = after
            await self._apply(plan, name=after.name)
            await self._save_or_undo(edited.host, before, after, plan, caller)
            self._settle(after.name)
        return commands.Text(edited.messages)

    def _look_at_host(self) -> None:
        """Ask the kernel what the host uses for itself."""
        ours = (interface.link for one in self.host.containers.values() for interface in one.interfaces)
        networks = tuple(networks_of_others(self.kernel.host_networks(), ours))
        self.host = msgspec.structs.replace(self.host, networks=networks)

    def _check_claims(self, before: Container, after: Container, edited: Edited) -> None:
        old, new = before.claims(), after.claims()
        added = set(new) - set(old)
        try:
            self.claims.check(
                removed=set(old) - set(new),
                added=[claim for claim in new if claim in added],
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

    async def _plan(self, before: Container, after: Container) -> Plan:
        """Plan from what the kernel holds for `before` to what it shall hold for `after`, of one running container."""
        saved, want = self._desired(before), self._desired(after)
        if after.name in self._unsettled:
            saved = self._desired(self._unsettled[after.name]).with_objects(saved.objects)
        observed = await self._observe(after.name, [saved, want])
        have, foreign = split(observed, saved=saved, settings=self.settings)
        return plan_changes(want, have, foreign)

    def _settle(self, name: str) -> None:
        """Nothing is left of changes of this container that were not saved."""
        if self._unsettled.pop(name, None) is not None:
            self.pending.forget(name)

    async def _apply(self, plan: Plan | None, *, name: str) -> None:
        """Apply a plan, all of it or nothing. Raises ApplyFailed with the kernel's own words."""
        if not plan:
            return
        outcomes = await self._send(plan, name=name)
        for change, outcome in zip(plan.changes, outcomes, strict=True):
            if outcome.error is not None:
                await self._undo(plan, outcomes, name=name)
                subject = describe(subject_of(change))
                raise ApplyFailed(f"{subject}: {outcome.error}", code="kernel-refused", subject=subject)

    async def _undo(self, plan: Plan, outcomes: Sequence[Outcome] | None = None, *, name: str) -> None:
        back, is_complete = plan.undo(outcomes), True
        for change, outcome in zip(back.changes, await self._send(back, name=name), strict=True):
            if outcome.error is not None:
                # Nothing more can be done at once; the reconciler goes on with it.
                log.error("undo: %s: %s", describe(subject_of(change)), outcome.error)
                is_complete = False
        if is_complete:
            self._settle(name)

    async def _send(self, plan: Plan, *, name: str | None) -> tuple[Outcome, ...]:
        namespaces = self.lives.namespaces([name] if name is not None else [])
        if len(plan.changes) > LARGE_PLAN:
            return await asyncio.shield(asyncio.to_thread(self.kernel.apply, plan, namespaces))
        return self.kernel.apply(plan, namespaces)

    async def _save_or_undo(
        self, host: Host, before: Container, after: Container, plan: Plan | None, caller: Caller
    ) -> None:
        try:
            await self._save(host, before, after, caller)
        except OsctlError:
            if plan:
                await self._undo(plan, name=before.name)
            raise

    async def _save(self, host: Host, before: Container | None, after: Container | None, caller: Caller) -> None:
        """Keep the change of one container, then make it the present configuration."""
        old = before.claims() if before else []
        new = after.claims() if after else []
        added, removed = added_and_removed(config.holding_rows(old), config.holding_rows(new))
        changed = after or before
        assert changed is not None
        change = Saved(
            container=changed.name,
            document=config.encode_container(after) if after else None,
            host_serial=host.serial,
            holdings_removed=removed,
            holdings_added=added,
            history=HistoryLine(time.time(), caller.command_line),
        )
        # Shielded: a client that goes away must not leave it open whether the change was kept.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self.lives.disk, self.store.save, change))
        self.host = host
        self.claims.update(removed=old, added=new)

    # --- act ------------------------------------------------------------------------------------------------------

    async def _act(self, command: ActCommand, caller: Caller) -> Reply:
        action = command.act(self.host)
        match action:
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

    async def _start(self, name: str, wait_seconds: int, caller: Caller) -> None:
        caller.progress("Starting container")
        await self.lives.start(name, wait_seconds=wait_seconds)
        for warning in forwarding_warnings(self.settings, self.facts):
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
        await self._save(edited.host, None, edited.host.container(edited.container), caller)

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
            await self._save(self.host.without_container(name), container, None, caller)
        except BaseException:
            await self.lives.roots.put_back(name)
            raise

    # --- what a container's life asks for, and the reconciler -----------------------------------------------------

    def wanted(self, name: str) -> Container:
        """The container as it is wanted now. Raises Refused when it was deleted."""
        return self.host.container(name)

    async def check_host(self) -> None:
        """See to it that the host forwards and filters. Raises ApplyFailed when it cannot be made to."""
        # In a thread: a start goes on meanwhile.
        await asyncio.shield(asyncio.to_thread(self._refresh_host_level))

    async def configure(self, name: str) -> None:
        """Give a container whose namespaces exist all that is wanted for it. Raises ApplyFailed, and undoes."""
        container = self.host.container(name)
        desired = self._desired(container)
        observed = await self._observe(name, [desired])
        have, foreign = split(observed, saved=desired, settings=self.settings)
        await self._apply(plan_changes(desired, have, foreign), name=name)

    async def take_down(self, name: str) -> None:
        """Remove what is left of a container on the host after its life. Presses on; failures are logged."""
        self._settle(name)  # what was left was in the guest
        container = self.host.containers.get(name)
        if container is None:
            return
        desired = self._desired(container)
        # Twice: the kernel takes the links of a dead namespace away at a time of its own, between our look and our
        # changes too, and then leaves pairs of siblings behind that nobody can name any more.
        for _attempt in range(2):
            have, _ = split(await self._observe(name, [desired]), saved=desired, settings=self.settings)
            on_host = KernelState(each for each in have.objects if each.namespace == HOST)
            if not on_host:
                break
            await self._press_on(plan_changes(KernelState(), on_host), name=name)

    async def reconcile(self) -> None:
        """Bring the kernel to what is wanted: host level, each configured container, what nobody wants any more."""
        found: list[str] = []
        await self.in_turn(lambda: self._reconcile_host(found))
        # What is as it is wanted, and that is most, is found so by one look at the whole host; the rest is looked at
        # again, each container by itself. Some at a time, so that nobody waits for all.
        host_side = await self.in_turn(self._observe_host_side)
        names = list(self.host.containers)
        for start in range(0, len(names), RECONCILED_AT_ONCE):
            some = names[start : start + RECONCILED_AT_ONCE]
            await self.in_turn(lambda some=some: self._reconcile_containers(some, host_side, found))  # type: ignore[misc]
        for line in found:
            log.warning("reconcile: %s", line)
        self.last_reconcile = "; ".join(found) if found else "nothing to mend"

    async def _reconcile_host(self, found: list[str]) -> None:
        self._refresh_host_level(found)
        settings = self.settings
        have = self.kernel.observe_links(link_group=settings.host.link_group)
        recorded = {each.link: name for name, one in self.host.containers.items() for each in one.interfaces}
        alive = {link for link, name in recorded.items() if self.lives.state(name) != "stopped"}
        leftovers = [
            each
            for each in have.objects
            if is_abandoned_link(each, settings=settings, recorded=alive)
            or (isinstance(each, SiblingLinks) and not {each.link, each.sibling} <= alive)
            or (isinstance(each, PrivateNetwork) and each.link not in alive)
        ]
        await self._press_on(plan_changes(KernelState(), KernelState(leftovers)), found, name=None)

    async def _observe_host_side(self) -> Any:
        names = {each.link for one in self.host.containers.values() for each in one.interfaces}
        return await asyncio.shield(asyncio.to_thread(self.kernel.observe_host_side, names))

    async def _reconcile_containers(self, names: Iterable[str], host_side: Any, found: list[str]) -> None:
        for name in names:
            await self._reconcile_container(name, host_side, found)

    async def _reconcile_container(self, name: str, host_side: Any, found: list[str]) -> None:
        container = self.host.containers.get(name)
        if container is None or not self.lives.is_configured(name):
            self._settle(name)
            return
        try:
            if name not in self._unsettled and await self._is_as_wanted(container, host_side):
                return
            if await self._press_on(await self._plan(container, container), found, name=name):
                self._settle(name)
        except OsctlError as error:
            found.append(f"{name}: {error.message}")

    async def _is_as_wanted(self, container: Container, host_side: Any) -> bool:
        """Whether nothing need be changed for a container. `host_side` may be old: No is no reason to change things."""
        desired = self._desired(container)
        observed = await self._observe(container.name, [desired], host_side)
        have, _ = split(observed, saved=desired, settings=self.settings)
        return have == desired

    def _refresh_host_level(self, found: list[str] | None = None) -> None:
        host = self.settings.host
        self.facts = self.kernel.host_facts(link_group=host.link_group, uplinks=host.uplinks)
        want = desired_host_level(self.settings, self.facts)
        sysctls = [each.path for each in want.objects if isinstance(each, Sysctl)]
        plan = plan_changes(want, self.kernel.observe_host_level(sysctls))
        for change, outcome in zip(plan.changes, self.kernel.apply(plan, {}), strict=True):
            if outcome.error is not None:
                raise ApplyFailed(f"{describe(subject_of(change))}: {outcome.error}", code="kernel-refused")
            (found if found is not None else []).append(f"set {describe(subject_of(change))}")

    async def _press_on(self, plan: Plan, found: list[str] | None = None, *, name: str | None) -> bool:
        """Apply as much of a plan as the kernel takes, and tell whether that was all of it.

        The rest is logged, and tried again at the next reconcile.
        """
        is_all = True
        while plan:
            outcomes = await self._send(plan, name=name)
            rest = []
            for change, outcome in zip(plan.changes, outcomes, strict=True):
                if outcome.error is not None:
                    log.error("%s: %s", describe(subject_of(change)), outcome.error)
                    is_all = False
                elif not outcome.was_tried:
                    rest.append(change)
                elif found is not None:
                    found.append(f"mended {describe(subject_of(change))}")
            plan = msgspec.structs.replace(plan, changes=tuple(rest))
        return is_all

    # --- looking --------------------------------------------------------------------------------------------------

    def _desired(self, container: Container) -> KernelState:
        return container.desired(
            self.settings, default_mtu=default_mtu(self.facts), has_ipv6=self.facts.has_ipv6
        )

    async def _observe(self, name: str, wanted: Sequence[KernelState], host_side: Any = None) -> KernelState:
        """Look at all links of one container, on both sides."""
        inside = guest(name)
        namespaces = self.lives.namespaces([name])
        links: dict[LinkScope, None] = {}
        sysctls: dict[str, None] = {}
        elements: dict[FilterElement, None] = {}
        for state in wanted:
            for each in state.objects:
                if isinstance(each, Veth):
                    links[LinkScope(HOST, each.name)] = None
                    links[LinkScope(inside, each.peer_name)] = None
                elif isinstance(each, Sysctl):
                    sysctls[each.path] = None
                elif isinstance(each, SiblingLinks | PrivateNetwork):
                    elements[each] = None
        return self.kernel.observe(
            list(links), namespaces, sysctls=list(sysctls), elements=list(elements), host_side=host_side
        )

    def _observed(self) -> Observed:
        about = {
            **self.about,
            "uptime": time.monotonic_ns() - self._started,
            "last_reconcile": self.last_reconcile,
        }
        return Observed(lives=self.lives.facts(), daemon=about)

    # --- turns ----------------------------------------------------------------------------------------------------

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run work when all that was asked for before it is done. A caller that goes away while waiting drops it."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._turns.put_nowait((work, done))
        return await done

    async def run_turns(self) -> None:
        """The one writer; runs until cancelled."""
        while True:
            work, done = await self._turns.get()
            if done.cancelled():
                continue
            try:
                result = await work()
            except Exception as error:
                if not done.cancelled():
                    done.set_exception(error)
                else:
                    log.exception("nobody waits any more for what failed")
            else:
                if not done.cancelled():
                    done.set_result(result)


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that goes on when the client that asked for it goes away: half done is no state to leave."""
    return await asyncio.shield(asyncio.create_task(work))


def _lines(plan: Plan | None) -> tuple[str, ...]:
    if plan is None:
        return ("# stopped: configuration only",)
    return tuple(plan.text().splitlines()) or ("# nothing to change",)
