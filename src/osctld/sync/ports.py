"""The ports to what lies outside of the daemon, as those who change kernels see it; `osctld.shell` has what is real."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.host_networks import HostNetwork, HostSpace
from osctld.core.authority.null_routes import NullRoute
from osctld.core.authority.routing_rules import Rule
from osctld.core.authority.uplinks import HostSight
from osctld.core.authority.ways import Answer, Ask
from osctld.core.plan.arrivals import Arrival
from osctld.core.plan.kernel_state import (
    FilterElement,
    HostLink,
    KernelState,
    Key,
    LinkScope,
    Namespace,
    Outcome,
    Route,
    Routes,
    SoughtRoutes,
)
from osctld.core.plan.planner import Plan


class SeenTable(Protocol):
    """What a table holds: our routes, the first of somebody else's as text, and the VRF that it belongs to, if any."""

    @property
    def routes(self) -> tuple[Routes, ...]: ...
    @property
    def foreign(self) -> str: ...
    @property
    def vrf(self) -> str: ...


class AnnouncementTable(Protocol):
    """The port to the table that a routing daemon reads."""

    def look(self) -> SeenTable: ...
    async def changed(self) -> None:
        """Return when somebody else may have changed it."""


class Kernel(Protocol):
    """The port to the kernels' network state. Namespaces are given as open descriptors, for the call alone."""

    def see_host(self, *, link_group: int, bridge_link_group: int, own_protocols: Collection[int]) -> HostSight:
        """Look at the links other than loopback and ours, at forwarding, and at who takes router advertisements.

        Of our two groups, links of the second one are to be ports. Routes of `own_protocols` are ours.
        """

    def links_with_global_address(self) -> Collection[str]:
        """The names of the links that have an address of more than their own link."""

    def solicit_routers(self, link: str) -> None:
        """Ask for router advertisements on a link."""

    def tell_neighbours(self, namespace: int, arrived: Arrival) -> None:
        """Tell the neighbours on a container's link who is there. Raises Unavailable."""

    def host_link(self, name: str) -> HostLink | None:
        """A link of the host by its own name, with its addresses; None when there is none."""

    def host_networks(self, *, link_groups: Collection[int]) -> HostSpace:
        """All that links of the host other than ours use of the address space."""

    def learned_routes(self, networks: Iterable[Network], *, ours: Collection[int]) -> Sequence[HostNetwork]:
        """Routes of routing daemons that packets to the first address of each network follow now."""

    def null_routes(self, *, own_protocols: Iterable[int]) -> Sequence[NullRoute]:
        """Routes of others in the host's main table that drop what goes to a network."""

    def own_null_routes(self, *, own_protocols: Iterable[int]) -> Sequence[NullRoute]:
        """Those of these protocols."""

    def rules(self) -> Sequence[Rule]:
        """The host's routing rules; the same value while that is so."""

    def ways(self, asks: Iterable[Ask]) -> Sequence[Answer | None]:
        """The route that each packet follows now; None where it follows none."""

    def networks_in_table(self, table: int) -> Sequence[Network]:
        """Destinations of the first routes of a table."""

    def networks_beyond(self, link: str, version: int) -> Sequence[Network]:
        """Destinations of the first routes by a link, in whatever table."""

    def routes_under(self, routes: Collection[Route]) -> Mapping[Key, Route | NullRoute]:
        """What the host's main table holds under the keys of these routes, by key; where nothing is, none."""

    def announcement_table(self, table: int, *, protocol: int) -> AnnouncementTable:
        """A table that is read by a routing daemon alone, with routes of this protocol."""

    def hear_of_host_networks(self) -> None:
        """Read notifications of them."""

    def observe(
        self,
        scopes: Sequence[LinkScope],
        namespaces: Mapping[Namespace, int],
        *,
        sysctls: Iterable[str] = (),
        inside: Collection[Key] = (),
        elements: Iterable[FilterElement] = (),
        host_side: Any = None,
        sought: SoughtRoutes | None = None,
    ) -> KernelState:
        """All objects of these links, and settings: of the host by their paths, `inside` by their keys.

        With what `observe_host_side` found, its host's side is not looked at again; with `sought`, of routes on the
        host these; others on the same links may be left out.
        """

    def observe_host_side(self, names: Collection[str]) -> Any:
        """These links on the host at once, and what is on them: for `observe` alone."""

    def observe_links(self, *, link_groups: Collection[int]) -> KernelState:
        """The host's links of these groups, and all elements of the packet filter, those of gone links included."""

    def observe_host_level(self, sysctls: Iterable[str]) -> KernelState:
        """The packet filter and these settings."""

    def stopped(self, *, protocol: int) -> tuple[frozenset[PackedNetwork], frozenset[PackedNetwork]]:
        """The networks in the packet filter's set of stopped containers, and those to which there are routes to nowhere
        of the protocol, with the last metric."""

    def change_stopped(self, *, removed: Sequence[PackedNetwork], added: Sequence[PackedNetwork]) -> None:
        """Change that set, in one transaction. Raises ApplyFailed."""

    def forget_tracked(self, networks: Iterable[PackedNetwork], /) -> int:
        """Forget tracked connections of which one end is in these networks. Raises Unavailable."""

    def counted_of(self, link: str) -> Mapping[str, int]:
        """Packets of a host link by the set of the packet filter that counts them."""

    def counted(self) -> Mapping[str, Mapping[str, int]]:
        """Packets by the set of the packet filter that counts them and by host link, of all links."""

    def forget_counted(self, links: Iterable[str]) -> None:
        """Reset the counters of these links."""

    def apply(
        self, plan: Plan, namespaces: Mapping[Namespace, int], *, filling: Sequence[FilterElement] = ()
    ) -> tuple[Outcome, ...]:
        """Perform a plan: one outcome for each change. A refusal of the kernel is an outcome, not an error.

        A packet filter that is made holds the elements `filling` from its first moment on.
        """


class HostSettings(Protocol):
    """The port to where it is kept what settings of the host were before they were changed, by path."""

    @property
    def before(self) -> Mapping[str, str]: ...
    def note(self, values: Mapping[str, str]) -> None: ...


class PendingNotes(Protocol):
    """The port to where changes that are under way are noted, so that the next daemon knows what to clear away."""

    def note_pending(self, container: str, document: bytes) -> None: ...
    def forget_pending(self, container: str) -> None: ...


class Editions(Protocol):
    """The port to notes of how each living container was configured, see `core.config.edition`."""

    def of(self, name: str) -> int: ...
    def links_of(self, name: str) -> Mapping[str, HostLink]:
        """The bridges that it is attached to, as they were when it was configured."""

    def note(self, name: str, links: Mapping[str, HostLink]) -> None:
        """It is configured as the latest edition has it, beside these bridges."""

    def forget(self, name: str) -> None:
        """The life has ended."""


class Presence(Protocol):
    """The port to which containers are there to be changed, and how to get inside."""

    def state(self, name: str, /) -> str:
        """stopped, starting, running or stopping."""

    def is_configured(self, name: str, /) -> bool:
        """Whether the container has namespaces that hold what is wanted, so that changes go to them too."""

    def is_ending(self, name: str, /) -> bool:
        """Whether the container is on its way down, so that the kernel takes away what it had."""

    def namespaces(self, names: Iterable[str], /) -> dict[Namespace, int]:
        """Descriptors through which to enter the network namespaces of those that live, good until the turn ends."""
