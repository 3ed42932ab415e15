"""What the host uses of the address space for itself, outside of our own links."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum

import msgspec

from osctld.core.address.addresses import BITS, Address, Network
from osctld.core.authority.overlaps import Overlaps
from osctld.core.plan.kernel_state import LINK_PREFIX


class Use(StrEnum):
    """For what the host uses a network, or a single address."""

    #: An address of the host itself.
    ADDRESS = "address"
    #: The network address or the broadcast address of an IPv4 network that a link of the host is in.
    EDGE = "edge"
    #: The router that a route of the host leads to.
    NEXT_HOP = "next-hop"
    #: A network that a link of the host is in.
    CONNECTED = "connected"
    #: A network to which somebody wrote down a unicast route, or was given one by DHCP or a router's advertisement.
    STATIC = "static"
    #: A network to which a routing daemon learned the way.
    LEARNED = "learned"


class HostNetwork(msgspec.Struct, frozen=True, order=True):
    """A network that the host uses, on `link`; single addresses are networks too.

    `more` is how ip-address(8) spells an address, unless that is the network; the network that an edge belongs to; the
    destination of the route that a next hop belongs to; or the protocol of a route, each as it is printed.
    """

    network: Network
    link: str
    use: Use = Use.CONNECTED
    more: str = ""

    @property
    def is_address(self) -> bool:
        return self.use is Use.ADDRESS

    @property
    def subject(self) -> str:
        """The address alone where it is one, else the network."""
        return str(self.network.address) if self.network.length == BITS[self.network.version] else str(self.network)

    @property
    def is_what(self) -> str:
        """What is said of it, where it is known of what."""
        match self.use:
            case Use.ADDRESS:
                what = "an address of the host"
            case Use.EDGE:
                edge = "network" if self.more.startswith(f"{self.network.address}/") else "broadcast"
                what = f"the {edge} address of {self.more}"
            case Use.NEXT_HOP:
                route = "default route" if self.more == DEFAULT else f"route to {self.more}"
                what = f"the next hop of the host's {route}"
            case Use.CONNECTED:
                what = "in use on the host"
            case Use.STATIC:
                what = f"a route of the host (proto {self.more})" if self.more else "a route of the host"
            case Use.LEARNED:
                what = f"a route of the host learned by {self.more}"
        return f"{what}, on {self.link}" if self.link else what

    def __str__(self) -> str:
        return f"{self.subject} is {self.is_what}"


#: How the default route is named as the route of a next hop.
DEFAULT = "default"


class HostSpace(Overlaps[HostNetwork]):
    """All that the host uses, as of one moment. Immutable.

    It is read from the beginning to the end, and asked what overlaps something.
    """

    def __init__(self, networks: Iterable[HostNetwork] = ()) -> None:
        self._networks = tuple(dict.fromkeys(networks))
        super().__init__((each.network.packed, each) for each in self._networks)

    def __iter__(self) -> Iterator[HostNetwork]:
        return iter(self._networks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostSpace) and self._networks == other._networks

    def __hash__(self) -> int:
        return hash(self._networks)

    def __repr__(self) -> str:
        return f"HostSpace({list(self._networks)!r})"

    def overlapping(self, network: Network) -> Iterator[HostNetwork]:
        """What equals, contains or lies inside the network; the widest first."""
        return self.values_over(network)

    def __contains__(self, network: object) -> bool:
        return network in self._known

    @functools.cached_property
    def _known(self) -> Collection[HostNetwork]:
        return frozenset(self._networks)

    @functools.cached_property
    def may_have_ours(self) -> bool:
        """Whether something is on a link that has a name as we give them."""
        return any(each.link.startswith(LINK_PREFIX) for each in self._networks)

    @functools.cached_property
    def links(self) -> Collection[str]:
        """The links on which the host is in a network, or has an address."""
        uses = (Use.CONNECTED, Use.ADDRESS)
        return frozenset(each.link for each in self._networks if each.use in uses)


def edges_of(connected: HostNetwork) -> Iterator[HostNetwork]:
    """The network and the broadcast address of a connected network that has them: IPv4, and wider than /31."""
    network = connected.network
    if network.version == 4 and network.length < BITS[4] - 1:
        for address in (network.address, network.last):
            yield HostNetwork(address.as_network(), connected.link, Use.EDGE, str(network))


def next_hop(address: Address, link: str, *, destination: Network) -> HostNetwork:
    """A router, of a route to the destination."""
    return HostNetwork(
        address.as_network(), link, Use.NEXT_HOP, DEFAULT if destination.is_default else str(destination)
    )


def is_anybody_s(network: HostNetwork) -> bool:
    """Whether a network counts against somebody who wants one: not link-local, not loopback, not everything.

    Every IPv6 link has fe80::/64, and a default route says nothing about who uses what.
    """
    return network.network.length > 0 and not any(each.includes(network.network) for each in _OF_EVERY_HOST)


def networks_of_others(found: HostSpace, our_links: Iterable[str]) -> HostSpace:
    """What is not on links of ours. `our_links` is gone through only when something is on a link that may be ours by
    its name."""
    if not found.may_have_ours:
        return found
    ours = frozenset(our_links)
    return HostSpace(each for each in found if each.link not in ours)


LINK_LOCAL = Network(6, 0xFE80 << (BITS[6] - 16), 10)
_OF_EVERY_HOST = (LINK_LOCAL, Network.parse("127.0.0.0/8"), Network.parse("::1"))
