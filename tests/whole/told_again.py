"""What the network commands mean, told a second time, with nothing of the program's own.

The random commands of `random_commands` are performed here on plain values, and by osctld on the kernel. Both must
agree on what is refused, on what is listed, and on every object in the kernel. Addresses are the standard library's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, TypeAlias

from whole.network_dump import address_line, link_line, neighbour_line, order_lines, route_line

Address: TypeAlias = IPv4Address | IPv6Address
Assigned: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network

BITS = {4: 32, 6: 128}
#: Where the daemon's settings are not changed.
GROUP, ANNOUNCED, PRESENT, STATIC, BY_KERNEL = 111, 111, 112, 4, 2
DEFAULT_MTU = 1500
#: Of our routes on the host.
METRIC = {4: 0, 6: 8}
#: The protocol of a routing daemon (bgp), with which routes of somebody else's come; and where they lead.
LEARNED, ROUTER = 186, {4: "192.0.2.2", 6: "2001:db8:1::2"}


class No(Exception):
    """The command has to be refused."""


@dataclass(frozen=True)
class Step:
    """One command line: words, options with their values, positional words."""

    verb: str
    options: tuple[tuple[str, str | None], ...] = ()
    words: tuple[str, ...] = ()
    #: The second word is the name of the only interface, and is not said.
    is_short: bool = False

    @property
    def argv(self) -> list[str]:
        said = self.verb.split()
        for name, value in self.options:
            said += [name] if value is None else [name, value]
        words = (*self.words[:1], *self.words[2:]) if self.is_short else self.words
        return [*said, *(["--"] if any(each.startswith("-") for each in words) else []), *words]

    def all(self, *names: str) -> list[str]:
        return [value or "" for name, value in self.options if name in names]

    def one(self, *names: str) -> str | None:
        return (self.all(*names) or [None])[-1]  # type: ignore[list-item]

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.options)

    @property
    def version(self) -> str | None:
        """The IP version that was asked for."""
        return "4" if self.has("-4") else "6" if self.has("-6") else self.one("-v")


@dataclass(frozen=True)
class Via:
    network: Network
    host: Address
    container: Address
    is_public: bool

    @property
    def version(self) -> int:
        return self.network.version

    @property
    def length(self) -> int:
        return self.network.prefixlen

    @property
    def is_wide(self) -> bool:
        return self.length < BITS[self.version] - 2


@dataclass(frozen=True)
class Route:
    network: Network
    is_automatic: bool
    #: Where it is not the container end.
    next_hop: Address | None = None


@dataclass(frozen=True)
class Holding:
    network: Network
    kind: str


@dataclass(frozen=True)
class Interface:
    name: str
    vias: Mapping[int, Via]
    addresses: tuple[Assigned, ...] = ()
    routes: tuple[Route, ...] = ()
    sources: tuple[Network, ...] = ()
    mtu: int | None = None
    #: With an x for each digit that the program chooses; None for all of it.
    hwaddr: str | None = None
    guest: str = "report"
    #: Which one it is, whatever its name.
    number: int = field(default_factory=itertools.count().__next__)

    def includes(self, what: Network) -> bool:
        """Whether a route or a via of this interface includes all of it."""
        via = self.vias.get(what.version)
        around = [each.network for each in self.routes] + ([via.network] if via else [])
        return any(inside(what, network) for network in around)

    def is_routed(self, address: Assigned) -> bool:
        return self.includes(alone(address.ip))

    def source(self, version: int) -> Address:
        via = self.vias[version]
        for each in self.addresses:
            if each.version == version and (
                any(each.ip in route.network for route in self.routes) or (via.is_public and each.ip in via.network)
            ):
                return each.ip
        return via.container

    def all_addresses(self, version: int) -> list[Assigned]:
        via = self.vias.get(version)
        assigned = [each for each in self.addresses if each.version == version]
        if via is None or any(each.ip == via.container for each in assigned):
            return assigned
        return [with_length(via.container, via.length), *assigned]

    def may_choose(self, address: Assigned) -> bool:
        """Whether programs inside may take it for what they send: not if it is private and there is another one."""
        via = self.vias[address.version]
        return via.is_public or address.ip not in via.network or self.source(address.version) in via.network

    def holdings(self) -> set[Holding]:
        return {
            *(Holding(each.network, "via") for each in self.vias.values()),
            *(Holding(each.network, "route") for each in self.routes),
            *(Holding(alone(each.ip), "address") for each in self.addresses if not self.is_routed(each)),
        }


@dataclass
class Learned:
    """What the program chooses once for an interface and must keep: names and hardware addresses."""

    link: str
    mac: str
    default_mac: str
    host_mac: str | None = None


@dataclass(frozen=True)
class Foreign:
    """A route of somebody else's on the host: `kind` is `unicast`, by the uplink, or a type that drops."""

    network: Network
    kind: str
    metric: int

    @property
    def drops(self) -> bool:
        return self.kind != "unicast"


@dataclass(frozen=True)
class ForeignRule:
    """A routing rule of somebody else's: packets to a network are looked up in another table; only those that the host
    itself sends with `is_host_s`."""

    network: Network
    is_host_s: bool


@dataclass
class Container:
    name: str
    interfaces: tuple[Interface, ...] = ()
    is_running: bool = False
    #: By the number of the interface.
    learned: dict[int, Learned] = field(default_factory=dict)
    #: Networks that it holds and that the host does not route to it for now.
    aside: frozenset[Network] = frozenset()

    @property
    def interfaces_by_link(self) -> dict[str, Interface]:
        return {self.learned[each.number].link: each for each in self.interfaces}

    def interface(self, name: str) -> Interface:
        for each in self.interfaces:
            if each.name == name:
                return each
        raise No(f"no interface {name}")


@dataclass(frozen=True)
class Change:
    """What a command leaves of one container."""

    container: Container
    interfaces: tuple[Interface, ...]
    aside: frozenset[Network]


#: Pools of addresses that the settings name: of what commands say by themselves, too.
ADDRESS_POOLS = {"few": ("1.2.3.0/28", "2001:db8:2::/124")}


class World:
    """All containers of the host, as they shall be, and the addresses of the host that come and go."""

    def __init__(self, names: Iterable[str]) -> None:
        self.containers = {name: Container(name) for name in names}
        #: Where networks that nobody names come from; the IPv6 one is the host's own and has to be looked up.
        self.pools = {4: ip_network("169.254.0.0/16"), 6: ip_network("fd00::/48")}
        self.host_addresses: set[Address] = set()
        #: What somebody else has put there: at most one route of a network and metric.
        self.foreign: dict[tuple[Network, int], Foreign] = {}
        self.rule: ForeignRule | None = None

    def yielded(self, interfaces: Iterable[Interface], aside: frozenset[Network]) -> frozenset[Network]:
        """What is not routed to a container with these interfaces, because somebody else has it otherwise: a network
        that is dropped, with all that is inside of it; and one whose place is taken."""
        routed = {each for one in interfaces for each in routed_on_host(one, aside)}
        dropped = {each.network for each in self.foreign.values() if each.drops} & routed
        return frozenset(
            each
            for each in routed
            if any(inside(each, network) for network in dropped) or (each, METRIC[each.version]) in self.foreign
        )

    @property
    def has_places_taken(self) -> bool:
        """Whether a route of somebody else's is where one to a running container would be."""
        return any(
            (each, METRIC[each.version]) in self.foreign
            for container in self.containers.values()
            if container.is_running
            for each in self.yielded(container.interfaces, container.aside)
        )

    def container(self, name: str) -> Container:
        if name not in self.containers:
            raise No(f"no container {name}")
        return self.containers[name]

    @property
    def holdings(self) -> list[Network]:
        """All that is held, by anybody."""
        return [
            each.network for one in self.containers.values() for other in one.interfaces for each in other.holdings()
        ]

    def edited(self, step: Step) -> list[Change]:
        """What is left of the containers that the step is about. Raises No when it has to be refused."""
        container = self.container(step.words[0])
        found = EDITS[step.verb](container, step, self)
        changes = [Change(container, found, container.aside)] if isinstance(found, tuple) else found
        self._check_holdings(changes, step)
        if step.verb in ("ct netif new routed", "ct netif set", "ct netif ip add", "ct netif ip move"):
            for change in changes:
                _check_broadcasts(change.interfaces)
        # What is not held any more is not set aside either.
        changes = [
            replace(each, aside=each.aside & {held.network for one in each.interfaces for held in one.holdings()})
            for each in changes
        ]
        self._check_not_in_the_way([each for each in changes if each.container.is_running])
        return changes

    def _check_not_in_the_way(self, changes: Sequence[Change]) -> None:
        """What somebody else has otherwise cannot be asked for; what yields to it already may be passed on."""
        before = {
            network
            for each in changes
            for one in each.container.interfaces
            for network in routed_on_host(one, each.container.aside)
        }
        for each in changes:
            for network in self.yielded(each.interfaces, each.aside) - before:
                raise No(f"{network}: somebody else has it")

    def _check_holdings(self, changes: Sequence[Change], step: Step) -> None:
        """Nobody else may hold what an interface holds from now on, or a part of it, or more."""
        is_forced = step.has("--force", "--delegate") and step.verb != "ct netif route del"
        changed = [each.container for each in changes]
        before = [each for container in changed for each in container.interfaces]
        interfaces = [each for change in changes for each in change.interfaces]
        old = {each.number: each.holdings() for each in before}
        others = [each for other in self.containers.values() if other not in changed for each in other.interfaces]
        new = {each.number: each.holdings() for each in interfaces}
        # What only passes from one interface to another was weighed when the first one got it.
        passed_on = {each for number, those in old.items() for each in those - new.get(number, set())}
        for one in interfaces:
            if one in before:
                continue
            rest = [*others, *(each for each in interfaces if each.number != one.number)]
            given_up = old.get(one.number, set()) - one.holdings()
            had = {address.ip for each in before if each.number == one.number for address in each.addresses}
            for address in self.host_addresses:
                if address not in had and any(assigned.ip == address for assigned in one.addresses):
                    raise No(f"{address} is the host's")
            for added in one.holdings() - old.get(one.number, set()) - passed_on:
                if any(address in added.network for address in self.host_addresses):
                    raise No(f"{added.network}: an address of the host is in it")
                for other in rest:
                    for there in other.holdings():
                        if not overlap(added.network, there.network):
                            continue
                        is_part = there.network.prefixlen < added.network.prefixlen
                        # What it keeps of something that it held inside of that was given on before.
                        is_kept = any(
                            inside(added.network, each.network) and each.network.prefixlen > there.network.prefixlen
                            for each in given_up
                        )
                        if not ((is_forced and is_part) or is_kept) or _needs_itself(other, added.network):
                            raise No(f"{added.network}: {there.network} is held")
            if step.verb == "ct netif ip add":
                self._check_not_given_on(one, step, rest)
            if step.verb == "ct netif set":
                _check_needs_nothing_given_on(one, rest)

    def _check_not_given_on(self, one: Interface, step: Step, rest: Iterable[Interface]) -> None:
        """What is routed to another in more detail than to this one is not this one's to assign."""
        for address in map(read_address, step.words[2:]):
            mine = [each.network.prefixlen for each in one.holdings() if inside(alone(address.ip), each.network)]
            for other in rest:
                for there in other.holdings():
                    if inside(alone(address.ip), there.network) and there.network.prefixlen > max(mine):
                        raise No(f"{address} is in {there.network}, which is another's")

    def of_pool(self, name: str, version: str | None) -> Assigned:
        """The first free address of a pool."""
        if name not in ADDRESS_POOLS:
            raise No(f"no pool {name}")
        held = self.holdings
        for network in map(ip_network, ADDRESS_POOLS[name]):
            edges = {network.network_address, *([network.broadcast_address] if network.version == 4 else [])}
            for address in network if version in (None, str(network.version)) else ():
                if address not in edges | self.host_addresses and not any(address in each for each in held):
                    return with_length(address, address.max_prefixlen)
        raise No(f"{name} is exhausted")

    def automatic(self, version: int, interfaces: Iterable[Interface]) -> Network:
        """The first free network of the pool."""
        held = sorted(
            (
                each.network
                for interface in interfaces
                for each in interface.holdings()
                if overlap(each.network, self.pools[version])
            ),
            key=lambda network: int(network.network_address),
        )
        for network in self.pools[version].subnets(new_prefix=BITS[version] - 1):
            if not any(overlap(network, each) for each in (*held, *RESERVED_IN_POOL)):
                return network
        raise No("the pool is exhausted")


# --- text --------------------------------------------------------------------------------------------------------


def read_address(text: str) -> Assigned:
    bare, slash, length = text.partition("/")
    try:
        address = ip_address(bare)
    except ValueError:
        raise No(text) from None
    if "%" in text or (slash and not re.fullmatch("[0-9]{1,3}", length)):
        raise No(text)
    bits = int(length) if slash else address.max_prefixlen
    if bits > address.max_prefixlen:
        raise No(text)
    return with_length(address, bits)


def read_network(text: str) -> Network:
    return read_address(text).network


@lru_cache(maxsize=4096)
def with_length(address: Address, length: int) -> Assigned:
    return ip_interface((address, length))


@lru_cache(maxsize=4096)
def alone(address: Address) -> Network:
    return ip_network(address)


def overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _needs_itself(holder: Interface, network: Network) -> bool:
    """Whether a part of what somebody holds has an end of theirs in it, or an address, or may not be reached at all."""
    if any(inside(network, via.network) and not via.is_public for via in holder.vias.values()):
        return True
    ends = [end for via in holder.vias.values() for end in (via.host, via.container)]
    return any(each in network for each in (*ends, *(address.ip for address in holder.addresses)))


def _check_needs_nothing_given_on(one: Interface, rest: Iterable[Interface]) -> None:
    """What another holds of a network of this one may be neither an end of it nor in a private one."""
    for via in one.vias.values():
        for there in (each.network for other in rest for each in other.holdings()):
            if inside(there, via.network) and (not via.is_public or via.host in there or via.container in there):
                raise No(f"{there} was given on")


def inside(network: Network, around: Network) -> bool:
    return network.version == around.version and network.subnet_of(around)  # type: ignore[arg-type]


# --- what can be -------------------------------------------------------------------------------------------------

#: Nothing of these may be routed to a container.
RESERVED = [
    ip_network(each)
    for each in (
        "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16",
        "::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8",
    )
]  # fmt: skip
LINK_LOCAL = ip_network("169.254.0.0/16")
RESERVED_IN_POOL = [ip_network(each) for each in ("169.254.0.0/24", "169.254.169.0/24", "169.254.255.0/24")]


def check_routable(network: Network) -> None:
    if network.prefixlen == 0 or any(network.overlaps(each) for each in RESERVED if each.version == network.version):
        raise No(f"{network} is reserved")


def check_unicast(address: Address) -> None:
    is_mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    is_this_network = isinstance(address, IPv4Address) and (int(address) >> 24 == 0 or int(address) == 2**32 - 1)
    if address.is_unspecified or address.is_loopback or address.is_multicast or is_mapped or is_this_network:
        raise No(f"{address} is special")


def check_usable(address: Address, network: Network) -> None:
    """Within an interconnecting network: neither its network address nor its broadcast address."""
    if network.prefixlen == BITS[network.version] - 1:
        return
    if address == network.network_address or (network.version == 4 and address == network.broadcast_address):
        raise No(f"{address} of {network}")


def make_via(network: Network, ends: tuple[Address, Address] | None, is_public: bool | None) -> Via:
    if not inside(network, LINK_LOCAL):
        check_routable(network)
    if network.prefixlen == BITS[network.version]:
        raise No(f"{network} is too small")
    first = 0 if network.prefixlen == BITS[network.version] - 1 else 1
    host, container = ends or (network.network_address + first, network.network_address + first + 1)
    for end in (host, container):
        if end not in network:
            raise No(f"{end} is outside of {network}")
        check_usable(end, network)
        check_unicast(end)
    if host == container:
        raise No(f"{host} twice")
    is_wide = network.prefixlen < BITS[network.version] - 2
    return Via(network, host, container, is_wide if is_public is None else is_public)


def read_vias(step: Step, present: Mapping[int, Via]) -> dict[int, Via]:
    networks = _once(read_network(each) for each in step.all("--via") if each != "auto")
    hosts = _once(read_address(each).ip for each in step.all("--host-addr"))
    containers = _once(read_address(each).ip for each in step.all("--ct-addr"))
    vias: dict[int, Via] = {}
    for version in (4, 6):
        if (version in hosts) != (version in containers):
            raise No("one end without the other")
        ends = (hosts[version], containers[version]) if version in hosts else None
        if version in networks:
            held = present.get(version)
            is_same = held is not None and held.network == networks[version]
            vias[version] = make_via(networks[version], ends, held.is_public if held and is_same else None)
        elif ends:
            if version not in present:
                raise No("ends of no network")
            old = present[version]
            vias[version] = make_via(old.network, ends, old.is_public)
    return vias


def _once(values: Iterable[Network] | Iterable[Address]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for each in values:
        if each.version in found:
            raise No(f"{each} and {found[each.version]}")
        found[each.version] = each
    return found


def _check_broadcasts(interfaces: Iterable[Interface]) -> None:
    everything = [each for one in interfaces for each in one.all_addresses(4)]
    broadcasts = {_broadcast(each) for each in everything}
    if any(str(each.ip) in broadcasts for each in everything):
        raise No("a broadcast address")


# --- the commands ------------------------------------------------------------------------------------------------


def check_name(container: Container, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,14}", name) or name in ("lo", "all", "default"):
        raise No(f"bad name {name}")
    if any(each.name == name for each in container.interfaces):
        raise No(f"{name} exists")


def _new(container: Container, step: Step, world: World) -> tuple[Interface, ...]:
    name = step.words[1]
    check_name(container, name)
    vias = chosen_vias({}, step, world)
    return (*container.interfaces, with_properties(Interface(name, vias), step))


def chosen_vias(present: Mapping[int, Via], step: Step, world: World) -> dict[int, Via]:
    """Those of the versions that are named, and those that `auto` adds."""
    gone = {int(each) for each in step.all("--no-via")}
    vias = read_vias(step, present)
    if gone & vias.keys():
        raise No("named and not named")
    is_public = True if step.has("--via-public") else False if step.has("--no-via-public") else None
    if is_public is not None:
        chosen = vias if step.has("--via") or vias else present
        vias = {version: replace(each, is_public=is_public) for version, each in chosen.items() if version not in gone}
    if "auto" in step.all("--via") or (step.verb == "ct netif new routed" and not step.has("--via")):
        for version in (4, 6):
            if version in vias or version in gone:
                continue
            if version in present and inside(present[version].network, world.pools[version]):
                if is_public is not None:
                    vias[version] = replace(present[version], is_public=is_public)
                continue
            everybody = [each for one in world.containers.values() for each in one.interfaces]
            vias[version] = make_via(world.automatic(version, everybody), None, is_public)
    return vias


def with_properties(interface: Interface, step: Step) -> Interface:
    mtu, hwaddr, guest = step.one("--mtu"), step.one("--hwaddr"), step.one("--guest")
    if mtu is not None:
        if not re.fullmatch("[0-9]+|-", mtu):
            raise No(f"MTU {mtu}")
        interface = replace(interface, mtu=None if mtu == "-" else int(mtu))
    if hwaddr is not None:
        pattern = hwaddr.lower()
        is_unicast = pattern[1:2] in tuple("02468ace") or pattern[1:2] == "x"
        if hwaddr != "-" and not (re.fullmatch("([0-9a-fx]{2}:){5}[0-9a-fx]{2}", pattern) and is_unicast):
            raise No(f"address {hwaddr}")
        interface = replace(interface, hwaddr=None if hwaddr == "-" else pattern)
    if guest is not None:
        if guest not in ("report", "enforce", "once"):
            raise No(f"policy {guest}")
        interface = replace(interface, guest=guest)
    least = 1280 if 6 in interface.vias else 68
    if interface.mtu is not None and not least <= interface.mtu <= 65535:
        raise No(f"MTU {interface.mtu}")
    return interface


def _delete(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    gone = container.interface(step.words[1])
    return tuple(each for each in container.interfaces if each is not gone)


def _set(container: Container, step: Step, world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    if all(name in ("--force", "--delegate") for name, _ in step.options):
        raise No("nothing to set")
    changed = interface
    for version in {int(each) for each in step.all("--no-via")}:
        if version not in changed.vias and "auto" in step.all("--via"):
            continue
        if version not in changed.vias or any(
            each.version == version
            for each in (*changed.addresses, *changed.sources, *(route.network for route in changed.routes))
        ):
            raise No(f"IPv{version} is in use, or not there")
        changed = replace(changed, vias={each: via for each, via in changed.vias.items() if each != version})
    changed = with_vias(changed, chosen_vias(interface.vias, step, world))
    changed = with_properties(changed, step)
    interfaces = _with(container, changed)
    if step.has("--default"):
        interfaces = (changed, *(each for each in interfaces if each is not changed))
    return interfaces


def _rename(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    interface, name = container.interface(step.words[1]), step.words[2]
    if name == interface.name:
        return container.interfaces
    check_name(container, name)
    return _with(container, replace(interface, name=name))


def _reorder(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    before = step.one("--before")
    if step.has("--first") == (before is not None):
        raise No("first or before")
    address = _find(interface, step.words[2])
    rest = [each for each in interface.addresses if each != address]
    at = 0
    if before is not None:
        other = _find(interface, before)
        if other.version != address.version or other == address:
            raise No(f"{address} cannot come before {other}")
        at = rest.index(other)
    return _with(container, replace(interface, addresses=(*rest[:at], address, *rest[at:])))


def with_vias(before: Interface, vias: Mapping[int, Via]) -> Interface:
    after = replace(before, vias={**before.vias, **vias})
    for version, via in vias.items():
        old = before.vias.get(version)
        ends = {via.container, old.container} if old else {via.container}
        # The container end keeps the place that it, or an equal address, was given.
        placed: list[Assigned] = []
        for each in after.addresses:
            kept = with_length(via.container, via.length) if each.ip in ends else each
            if kept not in placed:
                placed.append(kept)
        routes = tuple(each for each in after.routes if not (each.is_automatic and inside(each.network, via.network)))
        after = replace(after, addresses=tuple(placed), routes=routes)
        for route in after.routes:
            if via.host in route.network or via.container in route.network:
                raise No(f"{route.network} contains an end")
        after = replace(
            after,
            routes=tuple(
                replace(each, next_hop=None) if each.next_hop == via.container else each for each in after.routes
            ),
        )
    for each in after.addresses:
        _check_in_via(after, each.ip)
    return _routed_again(before, after)


def _routed_again(before: Interface, after: Interface) -> Interface:
    """An address that was routed is routed still."""
    for each in after.addresses:
        if before.is_routed(each) and not after.is_routed(each):
            after = with_route(after, alone(each.ip), is_automatic=True)
    return after


def _check_in_via(interface: Interface, address: Address) -> None:
    via = interface.vias.get(address.version)
    if via is not None and address in via.network:
        if address == via.host:
            raise No(f"{address} is the host's")
        check_usable(address, via.network)


def with_route(
    interface: Interface, network: Network, *, is_automatic: bool, next_hop: Address | None = None
) -> Interface:
    check_routable(network)
    via = interface.vias[network.version]
    if via.host in network or via.container in network:
        raise No(f"{network} contains an end")
    return replace(interface, routes=(*interface.routes, Route(network, is_automatic, next_hop)))


def _ip_add(container: Container, step: Step, world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    pool = step.one("--from-pool")
    if pool is not None:
        if step.words[2:]:
            raise No("from a pool, and by name")
        return _with(container, _with_address(interface, world.of_pool(pool, step.version), False, None))
    route_as = step.one("--route-as")
    if route_as is not None and step.has("--no-route"):
        raise No("routed and not routed")
    around = read_network(route_as) if route_as is not None else None
    for text in step.words[2:]:
        if not (step.has("--if-needed") and _has(interface, text)):
            interface = _with_address(interface, read_address(text), step.has("--no-route"), around)
    return _with(container, interface)


def _has(interface: Interface, text: str) -> bool:
    try:
        _find(interface, text)
    except No:
        read_address(text)
        return False
    return True


def _with_address(interface: Interface, address: Assigned, no_route: bool, around: Network | None) -> Interface:
    check_unicast(address.ip)
    if address.network.prefixlen == 0:
        raise No("everything")
    if any(each.ip == address.ip for each in interface.addresses):
        raise No(f"{address} twice")
    via = interface.vias.get(address.version)
    if via is None:
        raise No(f"no via of IPv{address.version}")
    if around is not None and not inside(alone(address.ip), around):
        raise No(f"{address} is not in {around}")
    _check_in_via(interface, address.ip)
    if address.ip == via.container:
        return replace(interface, addresses=(*interface.addresses, with_length(via.container, via.length)))
    changed = replace(interface, addresses=(*interface.addresses, address))
    if around is not None:
        return changed if interface.includes(around) else with_route(changed, around, is_automatic=True)
    if no_route or address.ip in via.network or interface.includes(address.network):
        return changed
    return with_route(changed, address.network, is_automatic=True)


def _ip_del(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    version = step.version
    if step.words[2:] == ("all",):
        chosen = [each for each in interface.addresses if version in (None, str(each.version))]
    elif version is not None:
        raise No("-v goes with all")
    else:
        chosen = [_find(interface, text) for text in step.words[2:]]
    return _with(container, without_addresses(interface, chosen, keep_route=step.has("--keep-route")))


def _move(container: Container, step: Step, world: World) -> list[Change]:
    to = world.container(step.words[2])
    source, target = container.interface(step.words[1]), to.interface(step.words[3])
    if source.number == target.number:
        raise No("to itself")
    names, ends = step.words[4:], [each.container for each in source.vias.values()]
    if names == ("all",):
        chosen = [each for each in source.addresses if each.ip not in ends]
    else:
        chosen = [_find(source, text) for text in names]
    going = [each for each in source.addresses if each in chosen]
    staying = [each for each in source.addresses if each not in chosen]
    if any(each.ip in ends for each in going):
        raise No("an end")
    for route in source.routes:
        if any(route.next_hop == each.ip for each in going) and any(each.ip in route.network for each in staying):
            raise No(f"{route.network} stays, and its next hop goes")
    along = [each for each in source.routes if _goes_along(each, going, staying)]
    for each in going:
        is_alone = any(each.ip in route.network for route in along)
        if source.is_routed(each) and not is_alone and not step.has("--force", "--delegate"):
            raise No(f"the route of {each} stays")
    rest = tuple(each for each in source.routes if each not in along)
    left = without_addresses(replace(source, routes=rest), going, keep_route=False)
    made = target
    for each in going:
        made = _with_address(made, each, True, None)
    hops = {each.ip for each in going}
    for route in along:
        if not made.includes(route.network):
            end = made.vias[route.network.version].container
            hop = route.next_hop if route.next_hop in hops and route.next_hop != end else None
            made = with_route(made, route.network, is_automatic=route.is_automatic, next_hop=hop)
    for each in going:
        if source.is_routed(each) and not made.is_routed(each):
            made = with_route(made, alone(each.ip), is_automatic=True)
    if container is to:
        both = tuple({left.number: left, made.number: made}.get(each.number, each) for each in container.interfaces)
        return [Change(container, both, container.aside)]
    known = {each.network for each in target.routes}
    if any(each.network in container.aside and each.network not in known for each in made.routes):
        raise No("set aside")
    return [Change(container, _with(container, left), container.aside), Change(to, _with(to, made), to.aside)]


def _goes_along(route: Route, going: Sequence[Assigned], staying: Sequence[Assigned]) -> bool:
    is_theirs = any(each.ip == route.next_hop or each.ip in route.network for each in going)
    return is_theirs and not any(each.ip in route.network for each in staying)


def _standby(container: Container, step: Step, _world: World) -> list[Change]:
    routed = {each.network for each in container.interface(step.words[1]).routes}
    chosen = routed if step.words[2:] == ("all",) else {read_network(text) for text in step.words[2:]}
    if not chosen <= routed:
        raise No("not routed")
    return [Change(container, container.interfaces, container.aside | chosen)]


def _take(container: Container, step: Step, _world: World) -> list[Change]:
    held = {each.network for each in container.interface(step.words[1]).holdings()} & container.aside
    chosen = held if step.words[2:] == ("all",) else {read_network(text) for text in step.words[2:]}
    if not chosen <= held:
        raise No("not set aside")
    return [Change(container, container.interfaces, container.aside - chosen)]


def _find(interface: Interface, text: str) -> Assigned:
    wanted = read_address(text)
    for each in interface.addresses:
        via = interface.vias.get(each.version)
        is_end = via is not None and each.ip == via.container
        if each.ip == wanted.ip and ("/" not in text or is_end or each == wanted):
            return each
    raise No(f"{text} is not assigned")


def without_addresses(interface: Interface, gone: Sequence[Assigned], *, keep_route: bool) -> Interface:
    addresses = tuple(each for each in interface.addresses if each not in gone)
    left = replace(interface, addresses=addresses)
    # Of two that would do for the rest, the wider one goes first.
    for address in gone:
        for route in sorted(interface.routes, key=lambda each: each.network.prefixlen):
            if not route.is_automatic or address.ip not in route.network or route not in left.routes:
                continue
            if keep_route:
                if route.network not in {each.network for each in gone} and route.network in {
                    each.network for each in addresses
                }:
                    continue  # that came with another, and goes with it
                left = replace(
                    left,
                    routes=tuple(replace(each, is_automatic=False) if each == route else each for each in left.routes),
                )
                continue
            without = replace(left, routes=tuple(each for each in left.routes if each != route))
            if not any(each.ip in route.network and not without.is_routed(each) for each in addresses):
                left = without
    hops = {each.ip for each in gone}
    return _routed_again(left, replace(left, routes=tuple(each for each in left.routes if each.next_hop not in hops)))


def _route_add(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    text = step.one("--via", "--next-hop")
    hop = _next_hop(interface, read_address(text).ip) if text is not None else None
    for text in step.words[2:]:
        network = read_network(text)
        via = interface.vias.get(network.version)
        if hop is not None and hop.version != network.version:
            raise No(f"{hop} for {network}")
        next_hop = None if via is not None and hop == via.container else hop
        routes = interface.routes
        if Route(network, is_automatic=True) in routes:
            own = Route(network, is_automatic=False, next_hop=next_hop)
            routes = tuple(own if each.network == network else each for each in routes)
            interface = replace(interface, routes=routes)
            continue
        check_routable(network)
        if via is None:
            raise No(f"no via of IPv{network.version}")
        if interface.includes(network):
            raise No(f"{network} is routed already")
        interface = with_route(interface, network, is_automatic=False, next_hop=next_hop)
    return _with(container, interface)


def _next_hop(interface: Interface, address: Address) -> Address:
    ends = [each.container for each in interface.vias.values()]
    if address not in (*ends, *(each.ip for each in interface.addresses)):
        raise No(f"{address} is not assigned")
    return address


def _route_del(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    before = interface = container.interface(step.words[1])
    version = step.version
    if step.words[2:] == ("all",):
        chosen = [each.network for each in interface.routes if version in (None, str(each.network.version))]
    elif version is not None:
        raise No("-v goes with all")
    else:
        chosen = [read_network(text) for text in step.words[2:]]
    for network in chosen:
        rest = tuple(each for each in interface.routes if each.network != network)
        if len(rest) == len(interface.routes):
            raise No(f"{network} is not routed")
        interface = replace(interface, routes=rest)
    if not step.has("--force", "--leave-unrouted") and any(
        before.is_routed(each) and not interface.is_routed(each) for each in interface.addresses
    ):
        raise No("addresses would be left")
    return _with(container, interface)


def _source_add(container: Container, step: Step, world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    is_forced = step.has("--force", "--allow-foreign-source")
    others = [each for one in world.containers.values() if one is not container for each in one.interfaces]
    for text in step.words[2:]:
        source = read_network(text)
        if not is_forced or source.prefixlen > 0:
            check_routable(source)
        if source.version not in interface.vias or any(inside(source, each) for each in interface.sources):
            raise No(f"{source} is permitted already, or of no use")
        if not is_forced and any(overlap(source, there.network) for each in others for there in each.holdings()):
            raise No(f"{source} is held")
        if not is_forced and any(address in source for address in world.host_addresses):
            raise No(f"{source} is the host's")
        interface = replace(interface, sources=(*interface.sources, source))
    return _with(container, interface)


def _source_del(container: Container, step: Step, _world: World) -> tuple[Interface, ...]:
    interface = container.interface(step.words[1])
    version = step.version
    if step.words[2:] == ("all",):
        chosen = [each for each in interface.sources if version in (None, str(each.version))]
    elif version is not None:
        raise No("-v goes with all")
    else:
        chosen = [read_network(text) for text in step.words[2:]]
    left = list(interface.sources)
    for source in chosen:
        if source not in left:
            raise No(f"{source} is not permitted")
        left.remove(source)
    return _with(container, replace(interface, sources=tuple(left)))


def _with(container: Container, interface: Interface) -> tuple[Interface, ...]:
    return tuple(interface if each.number == interface.number else each for each in container.interfaces)


EDITS: Mapping[str, Callable[[Container, Step, World], tuple[Interface, ...] | list[Change]]] = {
    "ct netif new routed": _new,
    "ct netif del": _delete,
    "ct netif set": _set,
    "ct netif rename": _rename,
    "ct netif ip add": _ip_add,
    "ct netif ip del": _ip_del,
    "ct netif ip reorder": _reorder,
    "ct netif ip move": _move,
    "ct netif standby": _standby,
    "ct netif take": _take,
    "ct netif route add": _route_add,
    "ct netif route del": _route_del,
    "ct netif source add": _source_add,
    "ct netif source del": _source_del,
}


# --- what the kernel shall hold ----------------------------------------------------------------------------------


def routed_on_host(interface: Interface, aside: frozenset[Network]) -> Iterator[Network]:
    """Networks of the host's own routes to it, but for those that the kernel makes."""
    for via in interface.vias.values():
        if via.is_wide:
            yield alone(via.container)
            if via.network not in aside:
                yield via.network
    yield from (each.network for each in interface.routes if each.network not in aside)


def foreign_line(each: Foreign) -> str:
    """A route of somebody else's, on the host."""
    if not each.drops:
        gateway = ROUTER[each.network.version]
        return route_line(str(each.network), gateway=gateway, device="up0", protocol=LEARNED, metric=each.metric)
    # The kernel has such routes of IPv6 on the loopback link.
    device = "?" if each.network.version == 4 else "lo"
    kind = {"blackhole": 6, "unreachable": 7, "prohibit": 8}[each.kind]
    return route_line(str(each.network), kind=kind, device=device, protocol=LEARNED, metric=each.metric)


def host_lines(container: Container, yielded: frozenset[Network] = frozenset()) -> Iterator[str]:
    """On the host, while the container runs, without routes that yield."""
    for interface in container.interfaces:
        learned = container.learned[interface.number]
        link, host_mac = learned.link, learned.host_mac or "?"
        yield link_line(link, mac=host_mac, mtu=interface.mtu or DEFAULT_MTU, group=GROUP, up=True)
        if (interface.mtu or DEFAULT_MTU) >= 1280:  # else the kernel has no IPv6 on the link
            yield address_line(link, "fe80::1/64", None)
        for version, via in interface.vias.items():
            metric = METRIC[version]
            yield address_line(link, f"{via.host}/{via.length}", _broadcast(with_length(via.host, via.length)))
            yield neighbour_line(link, str(via.container), learned.mac)
            end = str(via.container)
            if via.is_wide:
                if alone(via.container) not in yielded:
                    yield route_line(str(alone(via.container)), device=link, protocol=PRESENT, metric=metric)
                if via.network not in container.aside | yielded:
                    yield route_line(str(via.network), gateway=end, device=link, protocol=PRESENT, metric=metric)
            elif version == 4:
                yield route_line(str(via.network), device=link, protocol=BY_KERNEL, source=str(via.host))
            for route in interface.routes:
                if route.network.version == version and route.network not in container.aside | yielded:
                    gateway = str(route.next_hop or end)
                    yield route_line(
                        str(route.network), gateway=gateway, device=link, protocol=ANNOUNCED, metric=metric
                    )
            for hop in {route.next_hop for route in interface.routes if route.next_hop is not None}:
                if hop.version == version:
                    yield neighbour_line(link, str(hop), learned.mac)


def guest_lines(container: Container) -> Iterator[str]:
    """In the container."""
    order: dict[tuple[str, str], list[str]] = {}
    rank = {4: 0, 6: 0}
    for interface in container.interfaces:
        learned, name = container.learned[interface.number], interface.name
        yield link_line(name, mac=learned.mac, mtu=interface.mtu or DEFAULT_MTU, group=0, up=True)
        for version, via in interface.vias.items():
            subnets: dict[Network, Address] = {}
            for each in interface.all_addresses(version):
                yield address_line(name, str(each), _broadcast(each), is_source=interface.may_choose(each))
                if version == 4:
                    subnets.setdefault(each.network, each.ip)
                    order.setdefault((name, str(each.network)), []).append(str(each.ip))
            for network, first in subnets.items():
                if network.prefixlen < 32:
                    yield route_line(str(network), device=name, protocol=BY_KERNEL, source=str(first))
            yield neighbour_line(name, str(via.host), learned.host_mac or "?")
            yield route_line(
                "0.0.0.0/0" if version == 4 else "::/0",
                gateway=str(via.host),
                device=name,
                protocol=STATIC,
                metric=100 * rank[version] + (0 if version == 4 else 16),
                source=str(interface.source(version)),
            )
            rank[version] += 1
    yield from order_lines(order)


def _broadcast(address: Assigned) -> str | None:
    network = address.network
    return str(network.broadcast_address) if network.version == 4 and network.prefixlen < 31 else None


def filter_lines(container: Container) -> Iterator[str]:
    """Elements of the packet filter's sets while the container runs."""
    links = [container.learned[each.number].link for each in container.interfaces]
    yield from (f"siblings {one} {other}" for one in links for other in links if one != other)
    for interface in container.interfaces:
        for version, via in interface.vias.items():
            if not via.is_public:
                yield f"private{version} {via.network}"
        for source in interface.sources:
            if not any(inside(source, each) for each in interface.sources if each != source):
                yield f"sources{source.version} {container.learned[interface.number].link} {source}"
