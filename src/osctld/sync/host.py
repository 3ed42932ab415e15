"""The host's own level of its kernel: forwarding, the packet filter, links that were left behind or renamed.

Who looks at the uplinks keeps what was seen of them, until the next look.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import routes_of
from osctld.core.authority.host_networks import HostNetwork, HostSpace, networks_of_others
from osctld.core.authority.null_routes import NullRoute
from osctld.core.config.edition import LATEST
from osctld.core.config.guest_side import GuestInterface
from osctld.core.config.host import POOL, Container, Host
from osctld.core.config.settings import Settings
from osctld.core.errors import ApplyFailed
from osctld.core.plan.changes import Change, Changes, RenameLink, Replace, subject_of
from osctld.core.plan.kernel_state import (
    HOST,
    FilterElement,
    HostFacts,
    HostLink,
    KernelObject,
    KernelState,
    Key,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    Route,
    RouteKind,
    SiblingLinks,
    Sysctl,
    Veth,
)
from osctld.core.plan.planner import Plan, plan_changes
from osctld.core.plan.text import describe
from osctld.core.reconcile.host_level import (
    IPV6_FORWARDING,
    default_mtu,
    desired_forwarding,
    desired_host_level,
    links_to_ask_on,
    without_decided,
)
from osctld.core.reconcile.ownership import is_abandoned_link, strayed_links
from osctld.sync.host_look import look_at_host
from osctld.sync.mending import Mending
from osctld.sync.plan_sender import PlanSender
from osctld.sync.ports import HostSettings, Kernel, Presence
from osctld.sync.routers import Routers
from osctld.sync.stopped import Stopped
from osctld.sync.ways import Ways

log = logging.getLogger("osctld")

#: How often the host level is observed again because a link was gone when something was to be set on it.
LINKS_THAT_GO = 10
#: What the kernel says then.
_LINK_IS_GONE = (errno.ENOENT, errno.ENODEV)


class HostSync:
    def __init__(
        self,
        *,
        settings: Settings,
        kernel: Kernel,
        lives: Presence,
        sender: PlanSender,
        host_settings: HostSettings,
        routers: Routers,
        stopped: Stopped,
        ways: Ways,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`tell` takes an event, its type and opts."""
        self._settings = settings
        self._kernel = kernel
        self._lives = lives
        self._sender = sender
        self._host_settings = host_settings
        self._routers = routers
        self._stopped = stopped
        self._tell = tell
        self._ways = ways
        #: Keys of what the host's level was once seen to hold, or was given: what it lacks of that, somebody took. None
        #: stands for everything: an earlier daemon has seen to it on this boot.
        self._once_right: frozenset[Any] | None = None
        self._facts = HostFacts(uplinks=(), has_ipv6_forwarding=False)
        #: Links on which nobody has asked for router advertisements since they may be taken there.
        self._to_ask_on: dict[str, None] = {}

    # --- what is seen ---------------------------------------------------------------------------------------------

    @property
    def facts(self) -> HostFacts:
        """What the last look said of the uplinks."""
        return self._facts

    @property
    def links_to_learn_of(self) -> tuple[str, ...]:
        """The links that are no uplinks, and will be when a routing daemon brings the first route by them."""
        is_decided = self._settings.host.uplinks is not None
        return () if is_decided else tuple(each.name for each in self._facts.others)

    def look(self) -> HostFacts:
        """Look at the uplinks and at forwarding as they are now."""
        return look_at_host(self._kernel, self._settings)

    def networks_in_use(self, host: Host) -> HostSpace:
        """What the host uses of the address space for itself now. It costs nothing while nothing changes there."""
        ours = (interface.link for one in host.containers.values() for interface in one.interfaces)
        found = self._kernel.host_networks(link_groups=self._settings.host.link_groups)
        return networks_of_others(found, ours)

    def learned_routes(self, networks: Iterable[Network]) -> Sequence[HostNetwork]:
        """Routes of routing daemons that lead to these networks now."""
        routes = self._settings.routes
        return self._kernel.learned_routes(networks, ours=(routes.announce_protocol, routes.present_protocol))

    def hear(self) -> None:
        """Read the notifications about the host's own networks, since the daemon is awake anyway."""
        self._kernel.hear_of_host_networks()

    def host_link(self, name: str) -> HostLink | None:
        """A link of the host as it is now; None when there is none of that name."""
        return self._kernel.host_link(name)

    def bridges_of(self, container: Container) -> dict[str, HostLink]:
        """The links with the names of the bridges that a container is attached to; those that are there."""
        found = (self._kernel.host_link(each) for each in sorted(container.bridges))
        return {each.name: each for each in found if each is not None}

    def desired(
        self,
        container: Container,
        facts: HostFacts | None = None,
        *,
        edition: int = LATEST,
        links: Mapping[str, HostLink] | None = None,
    ) -> KernelState:
        """What the kernel should hold for a container on this host, as last observed unless given.

        `links` are its bridges; without them nothing that depends on these is as it should be.
        """
        facts = facts or self._facts
        desired = container.desired(
            self._settings, default_mtu=default_mtu(facts), has_ipv6=facts.has_ipv6, edition=edition, links=links
        )
        hidden = self._ways.hidden_sources(container)
        return desired.with_objects(hidden) if hidden else desired

    def inside(self, container: Container) -> tuple[GuestInterface, ...]:
        """Those of its interfaces that the host configures, as the guest's own network tool has to know them."""
        facts = self._facts
        found = container.inside(
            self._settings,
            default_mtu=default_mtu(facts),
            has_ipv6=facts.has_ipv6,
            links=self.bridges_of(container),
        )
        return tuple(each for each in found if not each.dhcp)

    # --- what is seen to ------------------------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Nobody has taken anything yet: the host has just come up."""
        self._once_right = frozenset()

    async def prepare_for_start(self, host: Host) -> None:
        """See to it that the host forwards and filters. Raises ApplyFailed when it cannot be made to."""
        mending = Mending()
        try:
            # In a thread: a start continues meanwhile.
            is_new = await asyncio.shield(asyncio.to_thread(self._see_to_all, host, mending))
        finally:
            self.tell_of(mending)
            for line in mending.mended:
                log.info("before a start: %s", line)
        if is_new:
            await self._refill(host)

    async def mend(self, host: Host, mending: Mending) -> None:
        """Forwarding, the packet filter, leftovers, and names. Raises ApplyFailed."""
        if self._see_to_all(host, mending):
            await self._refill(host)
        self._stopped.check()
        sweep = self.plan_sweep(host)
        remains = [each for each in sweep.changes if _is_of_gone_link(each)]
        rest = [each for each in sweep.changes if not _is_of_gone_link(each)]
        # What a guest that has just ended leaves for a moment is nobody's mistake: it is not told.
        await self._sender.press_on(msgspec.structs.replace(sweep, changes=Changes.of(remains)), name=None)
        await self._sender.press_on(msgspec.structs.replace(sweep, changes=Changes.of(rest)), mending, name=None)
        self.tell_of(mending)

    def mend_forwarding(self, host: Host, mending: Mending) -> None:
        """Make the host forward and still accept router advertisements; the packet filter is not checked.

        Raises ApplyFailed when it cannot be made to.
        """
        self._see_to(self._plan_forwarding, host, mending)

    def tell_of(self, mending: Mending) -> None:
        """Tell what was done to the host's level, and ask routers where that made the host hear them again."""
        if mending.mended:
            self._tell("mended", {"pool": POOL, "id": None, "what": list(mending.mended)})
        links, self._to_ask_on = tuple(self._to_ask_on), {}
        self._routers.ask_on(links)

    def ask_routers(self, links: Iterable[str]) -> None:
        """Ask for advertisements on these links, whatever was asked before."""
        self._routers.ask_on(links)

    def _see_to_all(self, host: Host, mending: Mending) -> bool:
        """Whether the packet filter was made, and may lack elements."""
        made = self._see_to(self.plan, host, mending)
        return any(isinstance(each, PacketFilter) for each in made)

    async def _refill(self, host: Host) -> None:
        await self._fill_filter(host)
        self._stopped.look_again()

    def _see_to(self, plan_for: Callable[[Host, HostFacts], Plan], host: Host, mending: Mending) -> list[KernelObject]:
        """Plan for the host's level and apply that; what was changed."""
        made: list[KernelObject] = []
        known = self._once_right
        for attempt in range(LINKS_THAT_GO):
            self._facts = facts = self.look()
            plan = plan_for(host, facts)
            self._once_right = (self._once_right or frozenset()) | {each.key for each in plan.want.objects}
            if not plan:
                break
            self._note_settings(plan)
            makes_filter = any(isinstance(subject_of(each), PacketFilter) for each in plan.changes)
            filling = self._filter_elements(host) if makes_filter else ()
            outcomes = self._kernel.apply(plan, {}, filling=filling)
            done = [subject_of(each) for each, outcome in zip(plan.changes, outcomes, strict=True) if outcome.succeeded]
            self._to_ask_on |= dict.fromkeys(links_to_ask_on(facts, KernelState(done)))
            renewed = {subject_of(each) for each in plan.changes if _has_other_rules_now(each)}
            for each in done:
                was_right = (known is None or each.key in known) and each not in renewed
                (mending.mended if was_right else mending.set_up).append(f"set {describe(each)}")
            made += done
            failures = zip(plan.changes, outcomes, strict=True)
            change, failed = next((each for each in failures if each[1].error is not None), (None, None))
            if change is None or failed is None:
                break
            subject = subject_of(change)
            # The link was removed or renamed since the observation, which is repeated.
            is_gone = isinstance(subject, Sysctl) and bool(subject.link) and failed.errno in _LINK_IS_GONE
            if not is_gone or attempt == LINKS_THAT_GO - 1:
                raise ApplyFailed(f"{describe(subject)}: {failed.error}", code="kernel-refused")
        return made

    def _note_settings(self, plan: Plan) -> None:
        """Keep what settings of the host are before a plan changes them."""
        present = (each.old for each in plan.changes if isinstance(each, Replace))
        self._host_settings.note({each.path: each.value for each in present if isinstance(each, Sysctl)})

    async def _fill_filter(self, host: Host) -> None:
        """Give a packet filter that was just made what it lacks of all that runs: without that nobody may send."""
        elements = self._filter_elements(host)
        have = self._kernel.observe([], {}, elements=elements)
        await self._sender.press_on(plan_changes(KernelState(elements), have), name=None)

    def _filter_elements(self, host: Host) -> list[FilterElement]:
        """What the packet filter holds for all that runs."""
        return [
            each
            for container in host.containers.values()
            if self._lives.is_configured(container.name)
            for each in self.desired(container).objects
            if isinstance(each, FilterElement)
        ]

    # --- plans ----------------------------------------------------------------------------------------------------

    def plan(self, host: Host, facts: HostFacts) -> Plan:
        """What the host's namespace, as a look saw it, lacks: packet filter and forwarding."""
        desired = functools.partial(desired_host_level, was_changed=bool(self._host_settings.before))
        want = self._wanted(desired, host, facts)
        return _planned(want, self._kernel.observe_host_level(_paths(want)))

    def _plan_forwarding(self, host: Host, facts: HostFacts) -> Plan:
        """What the host lacks to forward."""
        want = self._wanted(desired_forwarding, host, facts)
        return _planned(want, self._kernel.observe([], {}, sysctls=_paths(want)))

    def _wanted(self, desired: Callable[..., KernelState], host: Host, facts: HostFacts) -> KernelState:
        is_ours = IPV6_FORWARDING in self._host_settings.before
        return desired(self._settings, facts, has_containers=bool(host.containers), is_ours=is_ours)

    def observed_blocks(self) -> KernelState:
        """Our null routes that block networks, as they are now. It costs nothing while nothing changes."""
        routes = self._settings.routes
        there = self._kernel.own_null_routes(own_protocols=(routes.announce_protocol, routes.present_protocol))
        return KernelState(
            Route(HOST, each.network, "", None, each.protocol, each.metric, kind=RouteKind.BLACKHOLE)
            for each in there
            if each.kind == "blackhole" and each.protocol == routes.present_protocol
        )

    def wanted_blocks(self, host: Host) -> KernelState:
        routes = self._settings.routes
        return KernelState(routes_of(host.blocks, protocol=routes.present_protocol, ipv6_metric=routes.ipv6_metric))

    def routes_of_others_under(self, routes: Iterable[Route]) -> Mapping[Key, Route | NullRoute]:
        """What others have where these routes would be."""
        own = (self._settings.routes.announce_protocol, self._settings.routes.present_protocol)
        there = self._kernel.routes_under(list(routes))
        return {key: each for key, each in there.items() if each.protocol not in own}

    async def mend_blocks(self, host: Host, mending: Mending, *, removes_only: bool = False) -> None:
        """See to it that what is blocked is, and nothing else; or take away only what is blocked no more."""
        have, want = self.observed_blocks(), self.wanted_blocks(host)
        if removes_only:
            want = KernelState(each for each in want.objects if each.key in have)
        await self._sender.press_on(plan_changes(want, have), mending, name=None)

    def plan_sweep(self, host: Host, facts: HostFacts | None = None) -> Plan:
        """Give links their names back, and remove leftovers from the host."""
        settings = self._settings
        have = self._kernel.observe_links(link_groups=settings.host.link_groups)
        renamed = self._strayed_links(host, have, facts or self._facts)
        strayed = {each.old.name for each in renamed if isinstance(each, RenameLink)}
        recorded = {each.link: name for name, one in host.containers.items() for each in one.interfaces}
        alive = {link for link, name in recorded.items() if self._lives.state(name) != "stopped"}
        permitted = {
            source
            for one in host.containers.values()
            for each in one.interfaces
            if each.link in alive
            for source in each.permissions()
        }
        for one in host.containers.values():
            if any(each.link in alive for each in one.interfaces):
                permitted.update(self._ways.hidden_sources(one))
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

    def _strayed_links(self, host: Host, have: KernelState, facts: HostFacts) -> tuple[Change, ...]:
        """What gives links their names back."""
        recorded = {each.link for one in host.containers.values() for each in one.interfaces}
        if not any(isinstance(each, Veth) and each.name not in recorded for each in have.objects):
            return ()
        running = (each for each in host.containers.values() if self._lives.is_configured(each.name))
        wanted = (each for one in running for each in self.desired(one, facts).objects if isinstance(each, Veth))
        changes: list[Change] = []
        for each in strayed_links(have, wanted):
            down = msgspec.structs.replace(each.old, is_up=False)
            if each.old.is_up and not facts.renames_while_up:
                # With its container it comes up again, and gets back what it lost.
                changes.append(Replace(each.old, down))
            changes.append(each)
        return tuple(changes)


def _is_of_gone_link(change: Change) -> bool:
    subject = subject_of(change)
    return isinstance(subject, SiblingLinks) and subject.is_of_gone_link


def _paths(want: KernelState) -> list[str]:
    return [each.path for each in want.objects if isinstance(each, Sysctl)]


def _planned(want: KernelState, have: KernelState) -> Plan:
    return plan_changes(without_decided(want, have), have)


def _has_other_rules_now(change: Change) -> bool:
    """Whether a change gives the packet filter rules that others have not changed: of this version in place of an older
    one's, or against transit, which are wanted from the first container on."""
    return (
        isinstance(change, Replace)
        and isinstance(change.old, PacketFilter)
        and isinstance(change.new, PacketFilter)
        and (change.old.version, change.old.no_transit) != (change.new.version, change.new.no_transit)
    )
