"""From what is wanted to what the kernel holds: look, plan, apply, undo. For one container, or for the host's level.

All of it runs in turn with everything else that changes something. When to do which is known to the daemon and to the
reconciler.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from osctld import config
from osctld.core.address_order import is_in_order
from osctld.core.changes import Change, Changes, RenameLink, Replace, RouteChanges, count_of, subject_of
from osctld.core.drift import Aim, aim
from osctld.core.errors import ApplyFailed, OsctlError, Refused
from osctld.core.host import Container, Host
from osctld.core.host_level import default_mtu, desired_host_level
from osctld.core.host_networks import HostNetwork, networks_of_others
from osctld.core.kernel_state import (
    HOST,
    FilterElement,
    HostFacts,
    KernelState,
    LinkScope,
    Namespace,
    Outcome,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    SiblingLinks,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.ownership import is_abandoned_link, reclaim, split, strayed_links, without_ipv6
from osctld.core.plan import Plan, plan_changes
from osctld.core.plan_text import describe, describe_in_place, describe_routes
from osctld.core.settings import Settings
from osctld.lives import Lives

log = logging.getLogger("osctld")

T = TypeVar("T")

#: Plans with more changes than this are sent from a thread, so that others are answered meanwhile.
LARGE_PLAN = 64
#: Containers with more kernel objects than this are looked at and planned for in a thread, likewise.
LARGE_STATE = 2000
#: So many routes of one way are told one by one when they were mended; of more, their number.
NAMED_ROUTES = 100


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

    def counted_of(self, link: str) -> Mapping[str, int]:
        """Packets of a host link by the set of the packet filter that counts them."""

    def forget_counted(self, links: Iterable[str]) -> None:
        """Begin to count anew for these links."""

    def apply(
        self, plan: Plan, namespaces: Mapping[Namespace, int], *, filling: Sequence[FilterElement] = ()
    ) -> tuple[Outcome, ...]:
        """Perform a plan: one outcome for each change. A refusal of the kernel is an outcome, not an error.

        A packet filter that is made holds the elements `filling` from its first moment on.
        """


class Pending(Protocol):
    """The port to where changes that are under way are noted, so that the next daemon knows what to clear away."""

    def note_pending(self, container: str, document: bytes) -> None: ...
    def forget_pending(self, container: str) -> None: ...


class Planned(msgspec.Struct, frozen=True):
    """A plan, and what it leaves different inside the guest, in words, because somebody there made it so."""

    plan: Plan
    drift: tuple[str, ...] = ()


class Mending(msgspec.Struct):
    """What was mended, and what could not be and why, in words; both grow while somebody mends."""

    mended: list[str] = []
    failed: list[str] = []

    def __iadd__(self, other: Mending) -> Mending:
        self.mended += other.mended
        self.failed += other.failed
        return self

    @property
    def found(self) -> tuple[str, ...]:
        """All that was not as it should be, what could not be mended last."""
        return (*self.mended, *(f"not mended: {each}" for each in self.failed))


class Network:
    """The one who looks at kernels and changes them."""

    def __init__(
        self,
        *,
        settings: Settings,
        kernel: Kernel,
        lives: Lives,
        pending: Pending,
        begun: Iterable[bytes] = (),
    ) -> None:
        """`begun` are documents of changes that an earlier daemon noted and neither kept nor took back."""
        self.settings = settings
        self.kernel = kernel
        self.lives = lives
        self.pending = pending
        #: What the last look said of the uplinks.
        self.facts = HostFacts(uplinks=(), has_ipv6_forwarding=False)
        #: Containers in which a change that was not saved may have left something, as that change wanted them.
        self._unsettled: dict[str, Container] = {}
        #: What is different in guests and left so, by container.
        self.drift: dict[str, tuple[str, ...]] = {}
        for document in begun:
            with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError, Refused):
                unsettled = config.decode_container(document)
                self._unsettled[unsettled.name] = unsettled

    # --- a change of a container -----------------------------------------------------------------------------------

    async def note(self, container: Container, plan: Plan | None, document: Callable[[], bytes]) -> None:
        """Remember what a change wants before it begins, if it leaves anything in the guest that could stay behind.

        Raises ApplyFailed when the document cannot be kept.
        """
        if plan is None or Changes.of(plan.changes).namespaces <= {HOST}:
            return
        await self._on_disk(lambda: self.pending.note_pending(container.name, document()))
        self._unsettled[container.name] = container

    def is_unsettled(self, name: str) -> bool:
        """Whether a change of this container that was not saved may have left something."""
        return name in self._unsettled

    def settled(self, name: str) -> None:
        """The change was saved, and with it the note."""
        self._unsettled.pop(name, None)

    async def settle(self, name: str) -> None:
        """Nothing is left of changes of this container that were not saved."""
        if self._unsettled.pop(name, None) is not None:
            try:
                await self._on_disk(lambda: self.pending.forget_pending(name))
            except OsctlError as error:
                # It then says of things that are there no more, that they may be: the next daemon looks, and goes on.
                log.error("%s: %s", name, error.message)

    async def _on_disk(self, work: Callable[[], None]) -> None:
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self.lives.disk, work))

    async def plan(self, before: Container, after: Container, *, mends_guest: bool = False) -> Planned:
        """Plan from what the kernel holds for `before` to what it shall hold for `after`, of one running container.

        What the tenant changed inside is mended with `mends_guest`, or as the interface's policy and the change ask.
        """
        saved = self._desired(before)
        want = saved if after is before else self._desired(after)
        work = functools.partial(self._plan, saved, want, after, mends_guest=mends_guest)
        return await _considered(len(saved) + len(want), work)

    def _plan(self, saved: KernelState, want: KernelState, after: Container, *, mends_guest: bool) -> Planned:
        unsettled = self._unsettled.get(after.name)
        begun = self._desired(unsettled) if unsettled is not None else None
        ours = saved if begun is None else begun.with_objects(saved.objects)
        observed = self._observe(after.name, [ours, want] if want is not ours else [ours])
        have, foreign = split(observed, saved=ours, settings=self.settings)
        policies = {each.name: each.guest_policy for each in after.interfaces}
        aimed = (
            Aim(want)
            if mends_guest
            else aim(
                want, have, before=saved, unsettled=begun, policies=policies, without_ipv6=without_ipv6(foreign)
            )
        )
        have, foreign = reclaim(have, foreign, saved=ours, want=want, aim=aimed.want)
        plan = plan_changes(aimed.want, have, foreign, renames_while_up=self.facts.renames_while_up)
        return Planned(plan, tuple(map(describe, aimed.drift)))

    async def plan_start(self, container: Container, *, is_running: bool) -> tuple[Plan, Plan]:
        """What a start would do to the host's level, and for the container, whose namespaces are still to be made.

        Of one that `is_running` nothing is left by then, nor of what others put on its links.
        """
        host_level = self.plan_host_level()
        desired = self._desired(container)
        if is_running:
            return host_level, plan_changes(desired, KernelState())
        return host_level, await self._plan_new(container, desired)

    async def _plan_new(self, container: Container, desired: KernelState) -> Plan:
        """What a container whose namespaces are new lacks of all that is wanted."""

        def plan() -> Plan:
            observed = self._observe(container.name, [desired])
            have, foreign = split(observed, saved=desired, settings=self.settings)
            return plan_changes(desired, have, foreign, renames_while_up=self.facts.renames_while_up)

        return await _considered(len(desired), plan)

    async def plan_end(self, container: Container) -> Plan:
        """What is to be taken away on the host when the container has ended."""
        desired = self._desired(container)

        def plan() -> Plan:
            have, _ = split(self._observe(container.name, [desired]), saved=desired, settings=self.settings)
            return plan_changes(KernelState(), KernelState(each for each in have.objects if each.namespace == HOST))

        return await _considered(len(desired), plan)

    async def apply(self, plan: Plan | None, *, name: str, on_failure: Callable[[], None] = lambda: None) -> None:
        """Apply a plan, all of it or nothing. Raises ApplyFailed with the kernel's own words.

        `on_failure` is called before what got through is taken back.
        """
        if not plan:
            return
        outcomes = await self._send(plan, name=name)
        for number, outcome in enumerate(outcomes):
            if outcome.error is not None:
                on_failure()
                await self.undo(plan, outcomes, name=name)
                subject = subject_of(plan.changes[number])
                raise ApplyFailed(
                    f"{describe_in_place(subject)}: {outcome.error}", code="kernel-refused", subject=describe(subject)
                )

    async def undo(self, plan: Plan, outcomes: Sequence[Outcome] | None = None, *, name: str) -> None:
        """Take back what got through of a plan, all of it without outcomes. What cannot be is logged."""
        back, is_complete = plan.undo(outcomes), True
        for change, outcome in zip(back.changes, await self._send(back, name=name), strict=True):
            if outcome.error is not None:
                # Nothing more can be done at once; the reconciler goes on with it, or it ends with its container.
                level = logging.INFO if self.lives.is_ending(name) else logging.ERROR
                log.log(level, "undo: %s: %s", describe_in_place(subject_of(change)), outcome.error)
                is_complete = False
        if is_complete:
            await self.settle(name)

    async def press_on(self, plan: Plan, mending: Mending | None = None, *, name: str | None) -> bool:
        """Apply as much of a plan as the kernel takes, and tell whether that was all of it.

        What was done and what was not is added to `mending`; without that, failures are logged. The next reconcile
        tries again.
        """
        is_all = True
        while plan:
            outcomes = await self._send(plan, name=name)
            rest: list[Change] = []
            for part, made in _parts_with(outcomes, Changes.of(plan.changes)):
                if isinstance(part, RouteChanges) and len(part) > NAMED_ROUTES and all(each.succeeded for each in made):
                    if mending is not None:
                        mending.mended.append(f"mended {describe_routes(part.routes)}")
                    continue
                changes = part if isinstance(part, RouteChanges) else (part,)
                for change, outcome in zip(changes, made, strict=True):
                    if outcome.error is not None:
                        if mending is not None:
                            mending.failed.append(f"{describe_in_place(subject_of(change))}: {outcome.error}")
                        else:
                            log.error("not mended: %s: %s", describe_in_place(subject_of(change)), outcome.error)
                        is_all = False
                    elif not outcome.was_tried:
                        rest.append(change)
                    elif mending is not None:
                        mending.mended.append(f"mended {describe_in_place(subject_of(change))}")
            plan = msgspec.structs.replace(plan, changes=Changes.of(rest))
        return is_all

    async def _send(self, plan: Plan, *, name: str | None) -> tuple[Outcome, ...]:
        namespaces = self.lives.namespaces([name] if name is not None else [])
        if len(plan.changes) > LARGE_PLAN:
            return await asyncio.shield(asyncio.to_thread(self.kernel.apply, plan, namespaces))
        return self.kernel.apply(plan, namespaces)

    # --- a container's life ----------------------------------------------------------------------------------------

    async def configure(self, container: Container) -> None:
        """Give a container whose namespaces exist all that is wanted for it. Raises ApplyFailed, and undoes."""
        await self.apply(await self._plan_new(container, self._desired(container)), name=container.name)

    async def take_down(self, name: str, container: Container | None) -> None:
        """Remove what is left of a container on the host after its life. Presses on; failures are logged."""
        begun = self._unsettled.get(name)
        await self.settle(name)  # what is left in the guest ends with it
        self.drift.pop(name, None)
        for each in (begun, container):
            if each is not None:
                await self._take_down(each)

    async def _take_down(self, container: Container) -> None:
        # Twice: the kernel takes the links of a dead namespace away at a time of its own, between our look and our
        # changes too, and then leaves pairs of siblings behind that nobody can name any more.
        for _attempt in range(2):
            plan = await self.plan_end(container)
            if not plan:
                break
            await self.press_on(plan, name=container.name)
        self.kernel.forget_counted(each.link for each in container.interfaces)

    # --- the host ------------------------------------------------------------------------------------------------

    def networks_of_host(self, host: Host) -> tuple[HostNetwork, ...]:
        """Ask the kernel what the host uses for itself."""
        ours = (interface.link for one in host.containers.values() for interface in one.interfaces)
        return tuple(networks_of_others(self.kernel.host_networks(), ours))

    def facts_of_host(self) -> HostFacts:
        """Look at the uplinks and at forwarding as they are now."""
        host = self.settings.host
        return self.kernel.host_facts(link_group=host.link_group, uplinks=host.uplinks)

    def see_to_host_level(self, host: Host, mending: Mending | None = None) -> bool:
        """See to it that the host forwards and filters; whether the packet filter was made, and may lack elements.

        Raises ApplyFailed when it cannot be made to.
        """
        plan = self.plan_host_level()
        outcomes = self.kernel.apply(plan, {}, filling=self._filter_elements(host)) if plan else ()
        for change, outcome in zip(plan.changes, outcomes, strict=True):
            if outcome.error is not None:
                raise ApplyFailed(f"{describe(subject_of(change))}: {outcome.error}", code="kernel-refused")
            if mending is not None:
                mending.mended.append(f"set {describe(subject_of(change))}")
        return any(isinstance(subject_of(change), PacketFilter) for change in plan.changes)

    async def fill_filter(self, host: Host) -> None:
        """Give a packet filter that was just made what it lacks of all that runs: without that nobody may send."""
        elements = self._filter_elements(host)
        have = self.kernel.observe([], {}, elements=elements)
        await self.press_on(plan_changes(KernelState(elements), have), name=None)

    def _filter_elements(self, host: Host) -> list[FilterElement]:
        """What the packet filter holds for all that runs."""
        return [
            each
            for container in host.containers.values()
            if self.lives.is_configured(container.name)
            for each in self._desired(container).objects
            if isinstance(each, FilterElement)
        ]

    def plan_host_level(self) -> Plan:
        host = self.settings.host
        self.facts = self.kernel.host_facts(link_group=host.link_group, uplinks=host.uplinks)
        want = desired_host_level(self.settings, self.facts)
        sysctls = [each.path for each in want.objects if isinstance(each, Sysctl)]
        return plan_changes(want, self.kernel.observe_host_level(sysctls))

    def plan_sweep(self, host: Host) -> Plan:
        """Give links their names back, and remove from the host what no container has any more."""
        settings = self.settings
        have = self.kernel.observe_links(link_group=settings.host.link_group)
        renamed = self._strayed_links(host, have)
        strayed = {each.old.name for each in renamed if isinstance(each, RenameLink)}
        recorded = {each.link: name for name, one in host.containers.items() for each in one.interfaces}
        alive = {link for link, name in recorded.items() if self.lives.state(name) != "stopped"}
        permitted = {
            source
            for one in host.containers.values()
            for each in one.interfaces
            if each.link in alive
            for source in each.permissions()
        }
        leftovers = [
            each
            for each in have.objects
            if is_abandoned_link(each, settings=settings, recorded=alive | strayed)
            or (isinstance(each, SiblingLinks) and not {each.link, each.sibling} <= alive | strayed)
            or (isinstance(each, PrivateNetwork) and each.link not in alive)
            or (isinstance(each, PermittedSource) and each not in permitted)
        ]
        removed = plan_changes(KernelState(), KernelState(leftovers)).changes
        return Plan(have, have, (*renamed, *removed))

    def _strayed_links(self, host: Host, have: KernelState) -> tuple[Change, ...]:
        """What gives links their names back."""
        recorded = {each.link for one in host.containers.values() for each in one.interfaces}
        if not any(isinstance(each, Veth) and each.name not in recorded for each in have.objects):
            return ()
        running = (each for each in host.containers.values() if self.lives.is_configured(each.name))
        wanted = (each for one in running for each in self._desired(one).objects if isinstance(each, Veth))
        changes: list[Change] = []
        for each in strayed_links(have, wanted):
            down = msgspec.structs.replace(each.old, is_up=False)
            if each.old.is_up and not self.facts.renames_while_up:
                # With its container it comes up again, and gets back what it lost.
                changes.append(Replace(each.old, down))
            changes.append(each)
        return tuple(changes)

    async def observe_host_side(self, host: Host) -> Any:
        """One look at the links of all containers on the host: for `is_as_wanted` alone."""
        names = {each.link for one in host.containers.values() for each in one.interfaces}
        return await asyncio.shield(asyncio.to_thread(self.kernel.observe_host_side, names))

    async def is_as_wanted(self, container: Container, host_side: Any) -> bool:
        """Whether nothing need be changed for a container. `host_side` may be old: No is no reason to change things.

        Without it the host is looked at now.
        """
        desired = self._desired(container)

        def look() -> bool:
            have = self._observe(container.name, [desired], host_side)
            if have != desired:  # else all of it is ours, and nobody need ask
                have, _ = split(have, saved=desired, settings=self.settings)
            return have == desired and is_in_order(have, desired)

        return await _considered(len(desired), look)

    # --- looking -------------------------------------------------------------------------------------------------

    def _desired(self, container: Container) -> KernelState:
        return container.desired(
            self.settings, default_mtu=default_mtu(self.facts), has_ipv6=self.facts.has_ipv6
        )

    def _observe(self, name: str, wanted: Sequence[KernelState], host_side: Any = None) -> KernelState:
        """Look at all links of one container, on both sides."""
        inside = guest(name)
        namespaces = self.lives.namespaces([name])
        links: dict[LinkScope, None] = {}
        sysctls: dict[str, None] = {}
        elements: dict[FilterElement, None] = {}
        for state in wanted:
            for each in state.others.values():
                if isinstance(each, Veth):
                    links[LinkScope(HOST, each.name)] = None
                    links[LinkScope(inside, each.peer_name)] = None
                elif isinstance(each, Sysctl):
                    sysctls[each.path] = None
                elif isinstance(each, FilterElement):
                    elements[each] = None
        return self.kernel.observe(
            list(links), namespaces, sysctls=list(sysctls), elements=list(elements), host_side=host_side
        )


def _parts_with(
    outcomes: Sequence[Outcome], changes: Changes
) -> Iterator[tuple[Change | RouteChanges, Sequence[Outcome]]]:
    """The parts of a plan's changes, each with its outcomes."""
    at = 0
    for part in changes.parts:
        yield part, outcomes[at : at + count_of(part)]
        at += count_of(part)


async def _considered(size: int, work: Callable[[], T]) -> T:
    """Do work that changes nothing, in a thread when it is about so many objects that others would wait for long."""
    return await asyncio.shield(asyncio.to_thread(work)) if size > LARGE_STATE else work()
