"""What a kernel holds for us, as a set of frozen, keyed objects.

An object says which namespace it is in, what identifies it there (`key`, keyed as the kernel keys it) and its
properties. It does not know how to be added; `plan` orders changes, the shell performs them.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from enum import IntEnum
from typing import Any, NewType, TypeAlias

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress, Network, PackedNetwork
from osctld.core.address.network_table import runs

#: A network namespace: HOST, or that of a container as `guest(...)` names it.
Namespace = NewType("Namespace", str)
HOST = Namespace("host")

#: Every host link of ours starts with this, and no container or person should name one so.
LINK_PREFIX = "os"

#: Table 254 is the main table (linux/include/uapi/linux/rtnetlink.h RT_TABLE_MAIN).
MAIN_TABLE = 254

#: A link with a smaller MTU has no IPv6 and no settings of it (IPV6_MIN_MTU; addrconf_notify in
#: linux/net/ipv6/addrconf.c).
LEAST_IPV6_MTU = 1280

#: Metric that an IPv6 route gets when none is given (IP6_RT_PRIO_USER, linux/include/net/ip6_route.h).
IPV6_DEFAULT_METRIC = 1024

#: The highest metric: any other route to the same network takes precedence.
LAST_METRIC = 2**32 - 1

#: RTPROT_STATIC, the protocol of our routes inside a guest; linux/include/uapi/linux/rtnetlink.h.
PROTOCOL_STATIC = 4

Key: TypeAlias = tuple[str | int | bytes, ...]

#: Namespace, table and metric.
RoutePlace: TypeAlias = tuple[Namespace, int, int]


def guest(container: str) -> Namespace:
    """The network namespace of a container, by the container's id."""
    return Namespace(f"ct:{container}")


def container_of(namespace: Namespace) -> str | None:
    """The container whose namespace it is; None for the host's."""
    return namespace.removeprefix("ct:") if namespace.startswith("ct:") else None


class Master(msgspec.Struct, frozen=True):
    """A link that somebody made another one a port of: by name, and of a kind such as `bridge`, `bond`, `vrf`."""

    name: str
    kind: str


#: The kind of a bridge.
BRIDGE = "bridge"


class Veth(msgspec.Struct, frozen=True):
    """A veth pair: its end here, and the peer that is created with it inside `peer_namespace`.

    `mac` and `peer_mac` are lower-case text; `mtu` holds for both ends at creation. `group` is the host link's
    group, which the packet filter keys on. The peer's later state (up, mtu) is a `Link` of its own. `master` is the
    link that the host's end is a port of: a bridge, or none.
    """

    namespace: Namespace
    name: str
    mac: str
    mtu: int
    group: int
    is_up: bool
    peer_namespace: Namespace
    peer_name: str
    peer_mac: str
    master: Master | None = None

    @property
    def key(self) -> Key:
        return ("link", self.namespace, self.name)


class Link(msgspec.Struct, frozen=True):
    """A link that is not made here but has properties that we want: a guest's end of a veth pair."""

    namespace: Namespace
    name: str
    mac: str
    mtu: int
    is_up: bool

    @property
    def key(self) -> Key:
        return ("link", self.namespace, self.name)


class AssignedAddress(msgspec.Struct, frozen=True):
    """An address on a link, without duplicate address detection.

    The kernel keys IPv4 addresses by address and prefix length, IPv6 ones by the address alone.
    With `has_prefix_route` the kernel adds the route of the connected network, else it does not
    (IFA_F_NOPREFIXROUTE); one that has lost it is observed without.
    """

    namespace: Namespace
    link: str
    address: InterfaceAddress
    broadcast: Address | None = None
    has_prefix_route: bool = True
    #: Somebody else gave it a lifetime. Ours have none, and a lifetime cannot be restored.
    expires: bool = False
    #: Whether the kernel may choose it as the source of what goes beyond the link. One that it may not choose has
    #: `scope link` in IPv4, and in IPv6 a preferred lifetime of 0.
    is_source: bool = True

    @property
    def key(self) -> Key:
        length = self.address.length if self.address.version == 4 else 0
        return ("address", self.namespace, self.link, self.address.version, self.address.number, length)


class RouteKind(IntEnum):
    """What becomes of a packet: RTN_* of linux/include/uapi/linux/rtnetlink.h. UNICAST alone has link and gateway."""

    UNICAST = 1
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


class Route(msgspec.Struct, frozen=True):
    """A route: via a gateway, on-link when there is none, or to nowhere, as its kind says; then `link` is empty.

    `metric` 0 stands for no metric in IPv4; in IPv6 the kernel turns none into IPV6_DEFAULT_METRIC, so that number
    is always spelled out there. `source` is the preferred source address. With `is_onlink` the kernel takes the
    gateway for a neighbour on the link, although no address or route there says so. The kernel keys routes by prefix,
    tos, metric and table; its kind is what a route is replaced by another in, and no part of the key.
    """

    namespace: Namespace
    network: Network
    link: str
    gateway: Address | None
    protocol: int
    metric: int
    source: Address | None = None
    is_onlink: bool = False
    table: int = MAIN_TABLE
    kind: RouteKind = RouteKind.UNICAST

    @property
    def key(self) -> Key:
        return ("route", self.namespace, self.table, self.metric, self.network.packed)

    @property
    def way(self) -> Way:
        return Way(
            self.network.version, self.namespace, self.link, self.gateway, self.protocol, self.metric, self.source,
            self.is_onlink, self.table, self.kind,
        )  # fmt: skip


class Way(msgspec.Struct, frozen=True):
    """Everything of a route but its destination: what hundreds of thousands of routes have in common."""

    version: int
    namespace: Namespace
    link: str
    gateway: Address | None
    protocol: int
    metric: int
    source: Address | None = None
    is_onlink: bool = False
    table: int = MAIN_TABLE
    kind: RouteKind = RouteKind.UNICAST

    @property
    def place(self) -> RoutePlace:
        """Where the kernel keeps it: no two routes to one network are at one place."""
        return self.namespace, self.table, self.metric

    def route(self, network: Network) -> Route:
        return Route(
            self.namespace, network, self.link, self.gateway, self.protocol, self.metric, self.source, self.is_onlink,
            self.table, self.kind,
        )  # fmt: skip


class Routes(msgspec.Struct, frozen=True):
    """Routes of one way, by their networks."""

    way: Way
    networks: Sequence[PackedNetwork]

    def __len__(self) -> int:
        return len(self.networks)

    def __iter__(self) -> Iterator[Route]:
        return map(operator.itemgetter(1), self.items())

    def items(self) -> Iterator[tuple[Key, Route]]:
        """Each route with its key."""
        version, namespace, link, gateway, protocol, metric, source, is_onlink, table, kind = msgspec.structs.astuple(
            self.way
        )
        for each in self.networks:
            network = Network(version, int.from_bytes(each[:-1], "big"), each[-1])
            yield (
                ("route", namespace, table, metric, each),
                Route(namespace, network, link, gateway, protocol, metric, source, is_onlink, table, kind),
            )


class Neighbour(msgspec.Struct, frozen=True):
    """A permanent neighbour entry: address and MAC are known and never asked for."""

    namespace: Namespace
    link: str
    address: Address
    mac: str

    @property
    def key(self) -> Key:
        return ("neighbour", self.namespace, self.link, self.address.version, self.address.number)


class Sysctl(msgspec.Struct, frozen=True):
    """A kernel setting below /proc/sys/net, its path relative to there: `ipv4/conf/NAME/forwarding`.

    `link` names the link that the setting belongs to and disappears with; empty for a setting of the namespace.
    """

    namespace: Namespace
    path: str
    value: str
    link: str = ""

    @property
    def key(self) -> Key:
        return ("sysctl", self.namespace, self.path)


class SiblingLinks(msgspec.Struct, frozen=True):
    """Host links of one container: the first may carry the sources routed to the second, which may be itself.

    One element, an ordered pair, of the set `siblings` in our packet filter table, of a link with itself of the set
    `own`. These sets know links by number: an element outlives its links, and means nothing then.
    """

    namespace: Namespace
    link: str
    sibling: str

    @property
    def key(self) -> Key:
        return ("siblings", self.namespace, self.link, self.sibling)

    @property
    def is_of_gone_link(self) -> bool:
        """Whether a link of them is gone: then it shows as its bare number."""
        return self.link.isdigit() or self.sibling.isdigit()


class PrivateNetwork(msgspec.Struct, frozen=True):
    """A network whose addresses talk to the host and to local containers only.

    What comes from such an address by a link of ours and would leave by another is rejected with an ICMP error, and so
    is what comes from beyond for such an address. One element of the set `private4` or `private6` in our packet filter
    table, where no two overlap. `link` is the host link that the network is behind: it is in the element's comment,
    so that leftovers are known. No link of that name has to be there.
    """

    namespace: Namespace
    link: str
    network: Network

    @property
    def key(self) -> Key:
        network = self.network
        return ("private", self.namespace, network.version, network.number, network.length)


class PermittedSource(msgspec.Struct, frozen=True):
    """A network that a host link may carry packets from although the packet filter does not find it routed there.

    One element of the set `sources4` or `sources6` in our packet filter table, where no two of one link overlap. These
    sets know links by name: no link of that name has to be there. One that `is_routed` is, and the host's rules hide it
    from the packet filter's look-up: an element of `routed4` or `routed6`, and what comes from there is not counted.
    """

    namespace: Namespace
    link: str
    network: Network
    is_routed: bool = False

    @property
    def key(self) -> Key:
        network = self.network
        kind = "routed source" if self.is_routed else "source"
        return (kind, self.namespace, self.link, network.version, network.number, network.length)


class StoppedNetwork(msgspec.Struct, frozen=True):
    """A network of a stopped container: what comes for it by a link that is not ours and would leave by another one, or
    by the same, is rejected. One element of the set `stopped4` or `stopped6` in our packet filter table, where no two
    overlap.
    """

    namespace: Namespace
    network: Network

    @classmethod
    def of(cls, packed: PackedNetwork) -> StoppedNetwork:
        return cls(HOST, Network.from_packed(packed))

    @property
    def key(self) -> Key:
        network = self.network
        return ("stopped", self.namespace, network.version, network.number, network.length)


class PacketFilter(msgspec.Struct, frozen=True):
    """Our own nftables tables, whole: which rules they hold, and for which link groups. `packet_filter` has their text.

    `group` is that of links that the host routes to, `bridge_group` that of ports of bridges. `no_transit` are the IP
    versions of which nothing passes from one foreign link to another.
    """

    namespace: Namespace
    table: str
    version: int
    group: int
    bridge_group: int
    no_transit: tuple[int, ...] = ()

    @property
    def key(self) -> Key:
        return ("packet-filter", self.namespace, self.table)


KernelObject: TypeAlias = (
    Veth
    | Link
    | AssignedAddress
    | Route
    | Neighbour
    | Sysctl
    | SiblingLinks
    | PrivateNetwork
    | PermittedSource
    | StoppedNetwork
    | PacketFilter
)

#: So many routes are sought one by one at most; a look at all costs less from there on, whatever others have.
SOUGHT_AT_MOST = 512

#: What is an element of a set in our packet filter table.
FilterElement: TypeAlias = SiblingLinks | PrivateNetwork | PermittedSource | StoppedNetwork


#: Routes by where the kernel keeps them, there by network.
RouteTables: TypeAlias = Mapping[RoutePlace, Mapping[PackedNetwork, Way]]


class KernelState(Mapping[Key, KernelObject]):
    """A set of kernel objects, no two with one key. Immutable.

    Their order does not tell states apart; of a guest's IPv4 addresses, plans follow it: see `address_order`.

    As a mapping it has an object for each route. Where there may be very many, `routes` and `others` have the same in
    parts. Either is made when it is first asked for.
    """

    def __init__(self, objects: Iterable[KernelObject | Routes] = ()) -> None:
        self._given = tuple(objects)

    @classmethod
    def keyed(cls, objects: Mapping[Key, KernelObject]) -> KernelState:
        """Of objects by their keys, immutable from now on."""
        state = cls(objects.values())
        state.__dict__["_objects"] = objects  # where the cached property would keep it
        return state

    @functools.cached_property
    def _objects(self) -> Mapping[Key, KernelObject]:
        objects: dict[Key, KernelObject] = {}
        for each in self._given:
            if isinstance(each, Routes):
                objects.update(each.items())
            else:
                objects[each.key] = each
        return objects

    @functools.cached_property
    def _parts(self) -> tuple[Mapping[Key, KernelObject], RouteTables]:
        others: dict[Key, KernelObject] = {}
        routes: dict[RoutePlace, dict[PackedNetwork, Way]] = {}
        for each in self._given:
            if isinstance(each, Routes):
                place = each.way.place
                table = dict.fromkeys(each.networks, each.way)
                routes[place] = {**routes[place], **table} if place in routes else table
            elif isinstance(each, Route):
                routes.setdefault(each.way.place, {})[each.network.packed] = each.way
            else:
                others[each.key] = each
        return others, {place: table for place, table in routes.items() if table}

    @property
    def others(self) -> Mapping[Key, KernelObject]:
        """All objects but routes."""
        return self._parts[0]

    @property
    def routes(self) -> RouteTables:
        return self._parts[1]

    def __getitem__(self, key: Key) -> KernelObject:
        return self._objects[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self.others) + sum(map(len, self.routes.values()))

    # Those of Mapping come to the same, by way of functions and exceptions for each object; states are large.

    def __contains__(self, key: object) -> bool:
        return key in self._objects

    def get(self, key: Key, default: Any = None) -> Any:
        return self._objects.get(key, default)

    def keys(self) -> KeysView[Key]:
        return self._objects.keys()

    def values(self) -> ValuesView[KernelObject]:
        return self._objects.values()

    def items(self) -> ItemsView[Key, KernelObject]:
        return self._objects.items()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KernelState) and self.others == other.others and self.routes == other.routes

    def __hash__(self) -> int:
        return hash(frozenset(self._objects.values()))

    def __repr__(self) -> str:
        return f"KernelState({list(self._objects.values())!r})"

    @property
    def objects(self) -> Iterable[KernelObject]:
        return self._objects.values()

    @property
    def parts(self) -> Iterator[KernelObject | Routes]:
        """The same as `objects`, routes of one way together."""
        yield from self.others.values()
        for table in self.routes.values():
            yield from alike(table)

    def with_objects(self, objects: Iterable[KernelObject | Routes]) -> KernelState:
        """This state with the objects added, each replacing the one of its key."""
        return KernelState([*self.parts, *objects])

    def without_keys(self, keys: Iterable[Key]) -> KernelState:
        gone = set(keys)
        return KernelState.keyed({key: each for key, each in self._objects.items() if key not in gone})


def sought_routes(known: KernelState, new: KernelState) -> SoughtRoutes | None:
    """The routes of two states on the host, to be asked for one by one; None when they are too many."""
    if max(len(known), len(new)) > 2 * SOUGHT_AT_MOST:  # with all other objects
        return None
    of_known, of_new = (
        frozenset(
            (way.link, network)
            for (namespace, _, _), table in state.routes.items()
            if namespace == HOST
            for network, way in table.items()
        )
        for state in (known, new)
    )
    return SoughtRoutes(of_known, of_new - of_known) if len(of_known | of_new) <= SOUGHT_AT_MOST else None


def union(states: Iterable[KernelState]) -> KernelState:
    """All objects of several states; of two under one key the last."""
    return KernelState(itertools.chain.from_iterable(each.parts for each in states))


def alike(table: Mapping[PackedNetwork, Way]) -> Iterator[Routes]:
    """The routes of a table in order, those of one way that stand together at once."""
    return itertools.starmap(Routes, runs(list(table), table.values()))


class LinkScope(msgspec.Struct, frozen=True):
    """One link whose objects are to be observed: the link, its addresses, routes, neighbours and sysctls."""

    namespace: Namespace
    name: str


class HostLink(msgspec.Struct, frozen=True):
    """A link of the host that is not ours, as far as it matters to those who are attached to it.

    `kind` is `bridge`, `bond`, `veth` and so on, empty for hardware; `mtu` is in bytes. `addresses` are those of more
    than the link itself. One that is gone is kept as it was, so that nothing changes for lack of it.
    """

    name: str
    kind: str
    mtu: int
    addresses: tuple[InterfaceAddress, ...] = ()
    is_there: bool = True
    #: By which the kernel knows it: another link of the same name has another one.
    index: int = 0

    @property
    def is_bridge(self) -> bool:
        return self.is_there and self.kind == BRIDGE


class SoughtRoutes(msgspec.Struct, frozen=True):
    """Routes of the host's main table that somebody wants to know of, each by its link and network.

    They can be asked for one by one, which costs the same beside a million routes of others. `known` are those that
    should be there: where one of them is not, nothing less than the whole table says what there is instead.
    """

    known: frozenset[tuple[str, PackedNetwork]]
    new: frozenset[tuple[str, PackedNetwork]]

    def __len__(self) -> int:
        return len(self.known) + len(self.new)


class Uplink(msgspec.Struct, frozen=True):
    """A host link that is not ours and leads out: what a start needs to know of it."""

    name: str
    mtu: int
    has_ipv4_forwarding: bool


class OtherLink(msgspec.Struct, frozen=True):
    """A host link that is up, is not ours, is no port of another link, and is no uplink either.

    `leads_out`: routes say so, and the settings name others.
    """

    name: str
    has_ipv4_forwarding: bool
    leads_out: bool = False


class ForeignLink(msgspec.Struct, frozen=True):
    """A host link that is not ours, uplink or not, and what the kernel does about router advertisements there.

    `accept_ra`: 0 leaves them to others; with 1 the kernel takes them unless it forwards IPv6 on the link; with 2
    always (addrconf.c and ndisc.c in linux/net/ipv6).
    """

    name: str
    accept_ra: int
    has_ipv6_forwarding: bool
    #: Up, with a carrier, and IPv6 was set up on it.
    is_ready: bool = False
    #: The kernel has solicited routers since then, and continues until one answers.
    has_asked: bool = False
    #: One came after it had asked.
    was_answered: bool = False
    has_advertised_default: bool = False


class HostFacts(msgspec.Struct, frozen=True):
    """What an observation of the whole host namespace shows beside our own objects."""

    uplinks: tuple[Uplink, ...]
    has_ipv6_forwarding: bool
    #: All links that are neither ours nor loopback and on which IPv6 can be.
    links: tuple[ForeignLink, ...] = ()
    #: What a link that appears takes over.
    default_accept_ra: int = 0
    #: Whether any of these links carries an IPv6 default route.
    has_ipv6_default: bool = False
    #: False if the kernel was booted without IPv6 (ipv6.disable=1): it then has no such settings and addresses.
    has_ipv6: bool = True
    #: Whether the kernel gives a link that is up another name (from 6.2 on).
    renames_while_up: bool = True
    #: Whether somebody switched IPv4 forwarding on for all links (net.ipv4.ip_forward); we never do.
    has_ipv4_forwarding: bool = False
    #: Links of ours, by name, that somebody made ports.
    ports: tuple[tuple[str, Master], ...] = ()
    #: Links by which something may come beside the uplinks.
    others: tuple[OtherLink, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What became of one change: None when the kernel did it, else its own words; whether it was tried at all."""

    error: str | None = None
    errno: int = 0
    was_tried: bool = True

    @property
    def succeeded(self) -> bool:
        return self.was_tried and self.error is None


#: The outcome of nearly all changes.
DONE = Outcome()
