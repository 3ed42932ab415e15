"""What kernels hold for single containers: look, plan, give it to them, take it down, on the host and inside.

All of it runs in turn with everything else that changes something. When to do which is known to the daemon, to the
supervisor and to the reconciler.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from osctld.aside import considered
from osctld.core.authority.null_routes import Yielded
from osctld.core.config.edition import LATEST
from osctld.core.config.host import POOL, Container, Host, why_no_bridge
from osctld.core.config.settings import Settings
from osctld.core.errors import ApplyFailed
from osctld.core.plan.address_order import is_in_order
from osctld.core.plan.changes import subject_of
from osctld.core.plan.kernel_state import (
    HOST,
    FilterElement,
    HostFacts,
    HostLink,
    KernelState,
    Key,
    LinkScope,
    SoughtRoutes,
    Sysctl,
    Veth,
    guest,
    sought_routes,
    union,
)
from osctld.core.plan.planner import Plan, plan_changes
from osctld.core.plan.text import describe
from osctld.core.reconcile.drift import aim, aim_at_all, beside_others, refuse_ipv6_in_vain, too_small_for_ipv6
from osctld.core.reconcile.ownership import reclaim, split, without_ipv6
from osctld.daemon.change_notes import ChangeNotes
from osctld.sync.drift import Drift
from osctld.sync.host import HostSync
from osctld.sync.obstacles import Obstacles
from osctld.sync.plan_sender import IN_THE_WAY, PlanSender
from osctld.sync.ports import Editions, Kernel, Presence

log = logging.getLogger("osctld")

#: How often a container is planned again because foreign routes were found with keys of ours.
FOUND_IN_THE_WAY = 5


class Planned(msgspec.Struct, frozen=True):
    """A plan, and the differences inside the guest that it leaves because the tenant made them, as text."""

    plan: Plan
    drift: tuple[str, ...] = ()
    #: Since the life was configured, what is wanted of it has changed without an edit, and becomes as it is wanted now:
    #: for what reason; empty where nothing has.
    renewal: str = ""


class PlannedTogether(msgspec.Struct, frozen=True):
    """The same for several containers, what is left different in each."""

    plan: Plan
    drift: Mapping[str, tuple[str, ...]]


class Aimed(msgspec.Struct, frozen=True):
    """The target of a plan for one container, the existing objects of ours and of others, the links inside without
    IPv6, and the remaining differences, as text."""

    want: KernelState
    have: KernelState
    foreign: KernelState
    without_ipv6: frozenset[str]
    drift: tuple[str, ...]


class Before(msgspec.Struct, frozen=True):
    """What was wanted of a container until now: in the edition in which its life was configured, beside its bridges as
    they were then; and all that may be ours, for that may have been left half way."""

    saved: KernelState
    ours: KernelState
    #: What a change wanted that was neither kept nor undone.
    begun: KernelState | None
    #: Why something else is wanted now; empty where it is not.
    renewal: str = ""

    @property
    def is_old(self) -> bool:
        return bool(self.renewal)


class ContainerSync:
    def __init__(
        self,
        *,
        settings: Settings,
        kernel: Kernel,
        lives: Presence,
        editions: Editions,
        host: HostSync,
        sender: PlanSender,
        notes: ChangeNotes,
        drift: Drift,
        obstacles: Obstacles,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`tell` takes an event, its type and opts."""
        self._settings = settings
        self._kernel = kernel
        self._lives = lives
        self._editions = editions
        self._host = host
        self._sender = sender
        self._notes = notes
        self._drift = drift
        self._obstacles = obstacles
        self._tell = tell
        #: The bridges of a container as the last look for it saw them.
        self._bridges: dict[str, Mapping[str, HostLink]] = {}

    def desired(self, container: Container) -> KernelState:
        """What kernels should hold for a running container now, without what yields to others."""
        return self._desired(container)

    # --- plans ----------------------------------------------------------------------------------------------------

    async def plan(
        self, before: Container, after: Container, *, mends_guest: bool = False, facts: HostFacts | None = None
    ) -> Planned:
        """Plan from what the kernel holds for `before` to what it should hold for `after`, of one running container.

        The tenant's changes inside are repaired with `mends_guest`, or as the interface's policy and the change
        require. With `facts` the host is taken to be as a look of just now saw it.
        """
        links = self._look_at_bridges(before, after)
        until_now = self._before(before, facts, links=links)
        want, yielded = self._wanted(before, after, until_now, facts, links=links)
        if yielded:
            self._obstacles.refuse_asked(yielded, self._host.desired(before, facts), container=after)
        work = functools.partial(
            self._plan, until_now, want, after, mends_guest=mends_guest, is_change=after is not before
        )
        return await considered(len(until_now.saved) + len(want), work)

    async def plan_together(self, changes: Sequence[tuple[Container, Container]]) -> PlannedTogether:
        """One plan for the changes of several running containers, each from the old to the new configuration.

        What passes from one to another on the host is replaced there, and missing at no moment.
        """
        if len(changes) == 1:
            planned = await self.plan(*changes[0])
            return PlannedTogether(planned.plan, {changes[0][1].name: planned.drift})
        links = [self._look_at_bridges(before, after) for before, after in changes]
        reduced = [self._reduced(after, links=those) for (_, after), those in zip(changes, links, strict=True)]
        # What yields may be passed on: that asks for nothing new.
        before = union(self._host.desired(before) for before, _ in changes)
        for (_, yielded), (_, after) in zip(reduced, changes, strict=True):
            self._obstacles.refuse_asked(yielded, before, container=after)
        states = [
            (self._before(before, links=those), want, after)
            for (before, after), (want, _), those in zip(changes, reduced, links, strict=True)
        ]
        size = sum(len(until_now.saved) + len(want) for until_now, want, _ in states)
        return await considered(size, lambda: self._plan_union(states))

    async def plan_beside(self, containers: Sequence[Container], *, have: KernelState, want: KernelState) -> Plan:
        """One plan that brings some of the host's own objects from what they are to what is wanted, and with them those
        running containers to what is wanted of them then: what passes from one to the other is replaced."""
        states = [
            (until_now, self._wanted(each, each, until_now, None, links=links)[0], each)
            for each in containers
            for links in [self._look_at_bridges(each, each)]
            for until_now in [self._before(each, links=links)]
        ]

        def plan() -> Plan:
            aims = [
                self._aim(until_now, desired, each, mends_guest=False, is_change=False)
                for until_now, desired, each in states
            ]
            return plan_changes(
                union([*(each.want for each in aims), want]),
                union([*(each.have for each in aims), have]),
                union(each.foreign for each in aims),
                renames_while_up=self._host.facts.renames_while_up,
            )

        return await considered(sum(len(desired) for _, desired, _ in states), plan)

    def _plan_union(self, states: Sequence[tuple[Before, KernelState, Container]]) -> PlannedTogether:
        aims = [
            self._aim(until_now, want, after, mends_guest=False, is_change=True) for until_now, want, after in states
        ]
        plan = plan_changes(
            union(each.want for each in aims),
            union(each.have for each in aims),
            union(each.foreign for each in aims),
            renames_while_up=self._host.facts.renames_while_up,
        )
        for (_, _, after), aimed in zip(states, aims, strict=True):
            of_guest = [each for each in plan.changes if subject_of(each).namespace == guest(after.name)]
            refuse_ipv6_in_vain(of_guest, aimed.want, without_ipv6=aimed.without_ipv6)
        names = [after.name for _, _, after in states]
        return PlannedTogether(plan, dict(zip(names, (each.drift for each in aims), strict=True)))

    def _plan(
        self, until_now: Before, want: KernelState, after: Container, *, mends_guest: bool, is_change: bool
    ) -> Planned:
        aimed = self._aim(until_now, want, after, mends_guest=mends_guest, is_change=is_change)
        plan = plan_changes(aimed.want, aimed.have, aimed.foreign, renames_while_up=self._host.facts.renames_while_up)
        if is_change:
            refuse_ipv6_in_vain(plan.changes, aimed.want, without_ipv6=aimed.without_ipv6)
        return Planned(plan, aimed.drift, renewal=until_now.renewal)

    def _before(
        self, before: Container, facts: HostFacts | None = None, *, links: Mapping[str, HostLink]
    ) -> Before:
        """`links` are its bridges as they are now."""
        edition = self._editions.of(before.name)
        then = {**links, **self._editions.links_of(before.name)}
        is_of_bridge = self._are_other_bridges(before, links)
        renewal = "for this version" if edition != LATEST else "for its bridge" if is_of_bridge else ""
        saved = self._desired(before, facts, edition=edition, links=then)
        unsettled = self._notes.begun(before.name)
        begun = self._desired(unsettled, edition=edition) if unsettled is not None else None
        ours = saved if begun is None else begun.with_objects(saved.objects)
        if renewal:
            # Among them the wanted ones, which take the place of others that they would be unlike otherwise.
            renewed = [self._desired(unsettled, facts)] if unsettled is not None else []
            ours = union([*renewed, self._desired(before, facts, links=links), ours])
        return Before(saved, ours, begun, renewal)

    def _wanted(
        self,
        before: Container,
        after: Container,
        until_now: Before,
        facts: HostFacts | None,
        *,
        links: Mapping[str, HostLink],
    ) -> tuple[KernelState, tuple[Yielded, ...]]:
        if after is before and not until_now.is_old:
            return until_now.saved, ()
        want, yielded = self._reduced(after, facts, links=links)
        return want, yielded if after is not before else ()

    def _aim(
        self, until_now: Before, want: KernelState, after: Container, *, mends_guest: bool, is_change: bool
    ) -> Aimed:
        """Observe one container; return which objects are ours, which are foreign, and the target of a plan."""
        saved, ours = until_now.saved, until_now.ours
        # An edit reads the objects that it knows of; a repair also has to see unwanted ones.
        sought = sought_routes(ours, want) if is_change and not mends_guest else None
        observed = self._observe(after.name, [ours, want] if want is not ours else [ours], sought=sought)
        have, foreign = split(observed, saved=ours, settings=self._settings)
        want = beside_others(want, foreign)
        policies = {each.name: each.guest_policy for each in after.interfaces}
        without = without_ipv6(foreign)
        if until_now.is_old:
            without |= too_small_for_ipv6(have)
        known = ours if until_now.is_old else saved
        aimed = (
            aim_at_all(want, have, before=known, without_ipv6=without)
            if mends_guest
            else aim(
                want,
                have,
                before=saved,
                known=known,
                unsettled=until_now.begun,
                policies=policies,
                without_ipv6=without,
            )
        )
        have, foreign = reclaim(have, foreign, saved=ours, want=want, aim=aimed.want)
        return Aimed(aimed.want, have, foreign, without, tuple(map(describe, aimed.drift)))

    async def plan_start(self, container: Container, facts: HostFacts, *, is_running: bool) -> Plan:
        """What a start would do for the container, whose namespaces are still to be made.

        Of one that `is_running` nothing is left by then, nor of what others put on its links.
        """
        self.check_bridges(container)
        desired = self._desired(container, facts)
        return plan_changes(desired, KernelState()) if is_running else await self._plan_new(container, desired)

    async def _plan_new(self, container: Container, desired: KernelState) -> Plan:
        """What a container whose namespaces are new lacks of all that is wanted."""

        def plan() -> Plan:
            observed = self._observe(container.name, [desired])
            have, foreign = split(observed, saved=desired, settings=self._settings)
            return plan_changes(desired, have, foreign, renames_while_up=self._host.facts.renames_while_up)

        return await considered(len(desired), plan)

    async def plan_end(self, container: Container) -> Plan:
        """What is to be taken away on the host when the container has ended."""
        desired = self._desired(container)

        def plan() -> Plan:
            have, _ = split(self._observe(container.name, [desired]), saved=desired, settings=self._settings)
            return plan_changes(KernelState(), KernelState(each for each in have.objects if each.namespace == HOST))

        return await considered(len(desired), plan)

    # --- a life ---------------------------------------------------------------------------------------------------

    async def configure(self, container: Container) -> None:
        """Give a container whose namespaces exist all that is wanted for it. Raises ApplyFailed, and undoes."""
        self.check_bridges(container)
        self._obstacles.try_again(container.name)
        links = self._links(container)
        self._editions.note(container.name, links)
        for attempt in range(FOUND_IN_THE_WAY):
            try:
                plan = await self._plan_new(container, self._desired(container, links=links))
                await self._sender.apply(plan, names=[container.name])
                return
            except ApplyFailed as error:
                if error.code != IN_THE_WAY or attempt == FOUND_IN_THE_WAY - 1:
                    raise

    async def take_down(self, name: str, container: Container | None) -> None:
        """Remove what is left of a container on the host after its life. Presses on; failures are logged."""
        begun = self._notes.begun(name)
        await self._notes.settle(name)  # what is left in the guest ends with it
        self._drift.forget(name)
        self._obstacles.forget(name)
        self._editions.forget(name)
        self._bridges.pop(name, None)
        for each in (begun, container):
            if each is not None:
                await self._take_down(each)

    async def _take_down(self, container: Container) -> None:
        # Twice: the kernel takes the links of a dead namespace away at a time of its own, between our look and our
        # changes too, and then leaves pairs of siblings that can no longer be named.
        for _attempt in range(2):
            plan = await self.plan_end(container)
            if not plan:
                break
            await self._sender.press_on(plan, name=container.name)
        self._kernel.forget_counted(each.link for each in container.interfaces)

    def is_renewed(self, name: str) -> None:
        """Everything of a container is as it is wanted now: as the last look at it has found its bridges."""
        self._editions.note(name, self._bridges.get(name, {}))

    def check_bridges(self, container: Container) -> None:
        """Raise ApplyFailed if the container is attached to a bridge that is not there, or is none."""
        found = self._host.bridges_of(container)
        for each in container.interfaces:
            why = why_no_bridge(found.get(each.bridge)) if each.bridge is not None else None
            if why is not None:
                raise ApplyFailed(
                    f"{each.bridge!r}: {why}, and {each.name} of {container.name} is to be a port of it",
                    code="no-bridge",
                    subject=each.bridge or "",
                )

    # --- looking --------------------------------------------------------------------------------------------------

    async def observe_host_side(self, host: Host) -> Any:
        """One look at the links of all containers on the host: for `is_as_wanted` alone."""
        names = {each.link for one in host.containers.values() for each in one.interfaces}
        return await asyncio.shield(asyncio.to_thread(self._kernel.observe_host_side, names))

    async def is_as_wanted(self, container: Container, host_side: Any) -> bool:
        """Whether nothing need be changed for a container. `host_side` may be old: False is not a reason to change
        things.

        Without it the host is looked at now.
        """
        links = self._look_at_bridges(container, container)
        if self._are_other_bridges(container, links):
            return False  # what was wanted inside because of them, and is not any more, would be taken for the tenant's
        desired = self._desired(container, links=links)

        def look() -> bool:
            have = self._observe(container.name, [desired], host_side)
            if have != desired:  # else all of it is ours, and nobody need ask
                have, _ = split(have, saved=desired, settings=self._settings)
            return have == desired and is_in_order(have, desired)

        return await considered(len(desired), look)

    def _desired(
        self,
        container: Container,
        facts: HostFacts | None = None,
        *,
        edition: int = LATEST,
        links: Mapping[str, HostLink] | None = None,
    ) -> KernelState:
        """What the kernel should hold for the container now: without what yields to others. `links` are its bridges,
        as they are now unless given."""
        return self._reduced(container, facts, edition=edition, links=links)[0]

    def _reduced(
        self,
        container: Container,
        facts: HostFacts | None = None,
        *,
        edition: int = LATEST,
        links: Mapping[str, HostLink] | None = None,
    ) -> tuple[KernelState, tuple[Yielded, ...]]:
        links = self._links(container) if links is None else links
        desired = self._host.desired(container, facts, edition=edition, links=links)
        return self._obstacles.reduce(container.name, desired)

    def _are_other_bridges(self, container: Container, links: Mapping[str, HostLink]) -> bool:
        """Whether the bridges of a container are unlike those that are noted of its life."""
        then = {**links, **self._editions.links_of(container.name)}
        return any(then.get(each) != links.get(each) for each in container.bridges)

    def _look_at_bridges(self, before: Container, after: Container) -> Mapping[str, HostLink]:
        """The bridges that a container is attached to, and those that it is to be: what is noted of its life when it is
        as it is wanted."""
        links = {**self._links(before), **(self._links(after) if after is not before else {})}
        self._bridges[after.name] = {name: link for name, link in links.items() if name in after.bridges}
        return links

    def _links(self, container: Container) -> Mapping[str, HostLink]:
        """The bridges that a container is attached to. One that is gone, or none any more, is as it was last seen for
        this container, and so are its addresses of an IP version of which it has none: what depends on them does not
        change for lack of them. A bridge that is made again has no address at first."""
        if not container.bridges:
            return {}
        found, then = self._host.bridges_of(container), self._editions.links_of(container.name)
        links = {name: each for name, each in found.items() if each.is_bridge}
        for name, before in then.items():
            if name in links:
                links[name] = _with_addresses_of(links[name], before)
            elif name in container.bridges:
                links[name] = msgspec.structs.replace(before, is_there=False)
        return links

    def note_yielded(self, container: Container) -> None:
        """Tell which routes of a container are not made because of others on the host, once for each difference."""
        name = container.name
        yielded = self._reduced(container)[1] if self._obstacles.may_be_for(name) else ()
        if not self._obstacles.tell(name, yielded):
            return
        self._tell("blocked", {"pool": POOL, "id": name, "what": [str(each) for each in yielded]})
        for each in yielded:
            log.warning("%s: %s", name, each)
        if not yielded:
            log.info("%s: no foreign route hinders its routes any longer", name)

    def _observe(
        self, name: str, wanted: Sequence[KernelState], host_side: Any = None, *, sought: SoughtRoutes | None = None
    ) -> KernelState:
        """Look at all links of one container, on both sides."""
        inside = guest(name)
        namespaces = self._lives.namespaces([name])
        links: dict[LinkScope, None] = {}
        sysctls: dict[str, None] = {}
        settings: dict[Key, None] = {}
        elements: dict[FilterElement, None] = {}
        for state in wanted:
            for each in state.others.values():
                if isinstance(each, Veth):
                    links[LinkScope(HOST, each.name)] = None
                    links[LinkScope(inside, each.peer_name)] = None
                elif isinstance(each, Sysctl) and each.namespace == HOST:
                    sysctls[each.path] = None
                elif isinstance(each, Sysctl):
                    settings[each.key] = None
                elif isinstance(each, FilterElement):
                    elements[each] = None
        return self._kernel.observe(
            list(links), namespaces, sysctls=list(sysctls), inside=settings.keys(), elements=list(elements),
            host_side=host_side, sought=sought,
        )  # fmt: skip


def _with_addresses_of(now: HostLink, before: HostLink) -> HostLink:
    """A link with those addresses that it had of IP versions of which it has none now."""
    versions = {each.version for each in now.addresses}
    lost = tuple(each for each in before.addresses if each.version not in versions)
    return msgspec.structs.replace(now, addresses=(*now.addresses, *lost)) if lost else now
