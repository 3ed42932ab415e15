"""The kernel's dumps of links, addresses, routes and neighbours, as values."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from osctld.core.address.addresses import BITS, Address, InterfaceAddress, Network, PackedNetwork
from osctld.core.address.network_table import runs
from osctld.core.authority.null_routes import NullRoute
from osctld.core.plan.kernel_state import (
    LAST_METRIC,
    MAIN_TABLE,
    AssignedAddress,
    ForeignLink,
    Namespace,
    Neighbour,
    Route,
    RouteKind,
    Routes,
    SoughtRoutes,
    Way,
)
from osctld.shell.kernel.netlink import U32, NetlinkSocket, attribute, attribute_of, attributes
from osctld.shell.kernel.rtnetlink import (
    FAMILY,
    I32,
    IFA_ADDRESS,
    IFA_BROADCAST,
    IFA_F_DEPRECATED,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFA_FLAGS,
    IFA_LOCAL,
    IFADDR,
    IFF_LOOPBACK,
    IFF_LOWER_UP,
    IFF_UP,
    IFINFO,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_EXT_MASK,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_INET6_ADDR_GEN_MODE,
    IFLA_INET6_CONF,
    IFLA_INET6_FLAGS,
    IFLA_INET_CONF,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    NDA_DST,
    NDA_IFINDEX,
    NDA_LLADDR,
    NDMSG,
    NETNSA_FD,
    NETNSA_NSID,
    NUD_PERMANENT,
    NULL_TYPES,
    RT_SCOPE_UNIVERSE,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_VIA,
    RTEXT_FILTER_SKIP_STATS,
    RTM_F_CLONED,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETNSID,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
    RTNH_F_ONLINK,
    RTPROT_KERNEL,
    RTPROT_RA,
    U16,
    name_attribute,
)

_VERSION = {family: version for version, family in FAMILY.items()}
_ANY_FAMILY = 0

#: From this number of links, one dump of everything is cheaper than three requests for each link.
_MANY_LINKS = 8


# --- links -------------------------------------------------------------------------------------------------------


class LinkFacts(msgspec.Struct, frozen=True):
    """A link in a dump.

    `peer_index` is the index of a veth's other end, in that end's own namespace; `peer_namespace_id` is the number
    of that namespace as this one counts them, None when both ends are in this one.
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    group: int
    is_up: bool
    has_carrier: bool
    is_loopback: bool
    peer_index: int
    peer_namespace_id: int | None
    #: The link that it is a port of; 0 for none.
    master_index: int
    #: The link's settings of both versions, undecoded: see `settings_of`.
    settings: bytes


_SKIP_STATISTICS = attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS))
_NO_LINK = IFINFO.pack(0, 0, 0, 0, 0)


def find_link(through: NetlinkSocket, name: str) -> LinkFacts | None:
    """A link by name; None when there is none.

    An alternative name counts: no other link can be given it. The answer bears the name that was asked for.
    """
    link = find_link_by_any_name(through, name)
    return link if link is None or link.name == name else msgspec.structs.replace(link, name=name)


def find_link_by_any_name(through: NetlinkSocket, name: str) -> LinkFacts | None:
    """The same; the answer bears the link's own name, which is another one when the name is an alternative one."""
    found = through.get(RTM_GETLINK, _NO_LINK + name_attribute(name) + _SKIP_STATISTICS)
    return _link(found) if found is not None else None


def find_link_numbered(through: NetlinkSocket, index: int) -> LinkFacts | None:
    """A link by its number; None when there is none."""
    found = through.get(RTM_GETLINK, IFINFO.pack(0, 0, index, 0, 0) + _SKIP_STATISTICS)
    return _link(found) if found is not None else None


#: What stands before the number of a master.
_MASTER_HEADER = attribute(IFLA_MASTER, U32.pack(0))[:4]


def dump_links(through: NetlinkSocket) -> Iterator[LinkFacts]:
    return map(_link, through.dump(RTM_GETLINK, _NO_LINK + _SKIP_STATISTICS))


def dump_links_but(through: NetlinkSocket, *, ports_of: int, nothing_of: int) -> Iterator[LinkFacts]:
    """All links, but of one group those alone that have a master, and none of another one: of very many, most are not
    looked at any further."""
    unwanted, never = U32.pack(ports_of), U32.pack(nothing_of)
    for data in through.dump(RTM_GETLINK, _NO_LINK + _SKIP_STATISTICS):
        # The group is among the first attributes. What looks like a master and is none is looked at in vain.
        group = attribute_of(data, IFLA_GROUP, IFINFO.size)
        if group == never:
            continue
        is_of_group = group == unwanted
        if not is_of_group or _MASTER_HEADER in data:
            link = _link(data)
            if not is_of_group or link.master_index:
                yield link


def namespace_id(through: NetlinkSocket, descriptor: int) -> int | None:
    """The number by which the socket's namespace knows another one; None when it has none for it."""
    found = through.get(RTM_GETNSID, b"\0\0\0\0" + attribute(NETNSA_FD, U32.pack(descriptor)))
    number = attributes(found, 4).get(NETNSA_NSID) if found is not None else None
    if number is None or I32.unpack(number)[0] < 0:
        return None
    return int(I32.unpack(number)[0])


def _link(data: bytes) -> LinkFacts:
    _, _, index, flags, _ = IFINFO.unpack_from(data)
    found = attributes(data, IFINFO.size)
    information = attributes(found.get(IFLA_LINKINFO, b""))
    namespace = found.get(IFLA_LINK_NETNSID)
    return LinkFacts(
        index=index,
        name=found[IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape"),
        kind=information.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_u32(found, IFLA_MTU),
        group=_u32(found, IFLA_GROUP),
        is_up=bool(flags & IFF_UP),
        has_carrier=bool(flags & IFF_LOWER_UP),
        is_loopback=bool(flags & IFF_LOOPBACK),
        peer_index=I32.unpack(found[IFLA_LINK])[0] if IFLA_LINK in found else 0,
        peer_namespace_id=I32.unpack(namespace)[0] if namespace is not None else None,
        master_index=_u32(found, IFLA_MASTER),
        settings=found.get(IFLA_AF_SPEC, b""),
    )


#: DEVCONF_FORWARDING, DEVCONF_ACCEPT_RA, DEVCONF_DISABLE_IPV6 (linux/include/uapi/linux/ipv6.h).
_FORWARDING, _ACCEPT_RA, _DISABLE_IPV6 = 0, 3, 26
#: linux/include/net/if_inet6.h
_IF_RS_SENT, _IF_RA_RCVD, _IF_READY = 0x10, 0x20, 0x80000000

#: Where settings are among all those of a link and version. IPv4 counts from 1 but puts the first at the beginning
#: (linux/include/uapi/linux/{ip,ipv6}.h; inet_fill_link_af in linux/net/ipv4/devinet.c).
_SETTINGS = (
    (
        (int(socket.AF_INET), IFLA_INET_CONF, "ipv4/conf/"),
        {
            "forwarding": 1 - 1,
            "accept_redirects": 4 - 1,
            "send_redirects": 6 - 1,
            "rp_filter": 8 - 1,
            "promote_secondaries": 20 - 1,
        },
    ),
    (
        (int(socket.AF_INET6), IFLA_INET6_CONF, "ipv6/conf/"),
        {
            "forwarding": _FORWARDING,
            "accept_ra": _ACCEPT_RA,
            "accept_redirects": 4,
            "disable_ipv6": _DISABLE_IPV6,
        },
    ),
)


def settings_of(link: LinkFacts) -> Iterator[tuple[str, str]]:
    """Settings that were dumped with the link, as paths below /proc/sys/net with values, which saves reading these
    files.

    Not all of them: only those asked for.
    """
    by_family = attributes(link.settings)
    for (family, kind, directory), positions in _SETTINGS:
        array = attributes(by_family.get(family, b"")).get(kind, b"")
        for name, position in positions.items():
            if 4 * position < len(array):
                yield f"{directory}{link.name}/{name}", str(I32.unpack_from(array, 4 * position)[0])
    generation = attributes(by_family.get(int(socket.AF_INET6), b"")).get(IFLA_INET6_ADDR_GEN_MODE)
    if generation is not None:
        yield f"ipv6/conf/{link.name}/addr_gen_mode", str(generation[0])


def is_ipv6_off(link: LinkFacts) -> bool:
    """Whether IPv6 is switched off on the link by its setting."""
    array = attributes(attributes(link.settings).get(int(socket.AF_INET6), b"")).get(IFLA_INET6_CONF, b"")
    return len(array) > 4 * _DISABLE_IPV6 and I32.unpack_from(array, 4 * _DISABLE_IPV6)[0] != 0


def forwards_ipv4(link: LinkFacts) -> bool:
    """Whether packets arriving on the link are forwarded."""
    array = attributes(attributes(link.settings).get(int(socket.AF_INET), b"")).get(IFLA_INET_CONF, b"")
    return len(array) >= 4 and I32.unpack_from(array)[0] != 0


def advertisements_on(link: LinkFacts, *, has_default: bool) -> ForeignLink | None:
    """What the kernel does about router advertisements on a link; None where IPv6 cannot be.

    `has_default`: whether the link carries a default route that was advertised.
    """
    found = attributes(attributes(link.settings).get(int(socket.AF_INET6), b""))
    array, flags = found.get(IFLA_INET6_CONF, b""), _u32(found, IFLA_INET6_FLAGS)
    if len(array) <= 4 * _ACCEPT_RA:
        return None
    return ForeignLink(
        name=link.name,
        accept_ra=I32.unpack_from(array, 4 * _ACCEPT_RA)[0],
        has_ipv6_forwarding=I32.unpack_from(array, 4 * _FORWARDING)[0] != 0,
        is_ready=link.has_carrier and bool(flags & _IF_READY),
        has_asked=bool(flags & _IF_RS_SENT),
        was_answered=bool(flags & _IF_RA_RCVD),
        has_advertised_default=has_default,
    )


# --- objects on links --------------------------------------------------------------------------------------------


def objects_on(
    through: NetlinkSocket, facts: Iterable[LinkFacts], namespace: Namespace, *, sought: SoughtRoutes | None = None
) -> Iterator[AssignedAddress | Routes | Neighbour]:
    """Addresses, routes of the main table that the kernel did not make, and permanent neighbours of some links.

    An address on a link that is up has a prefix route if that is there, whatever the kernel was asked for. Among
    several routes of one key (IPv6 has that) the first of the kernel's comes last, so that it is the one that counts in
    a set; those learned from router advertisements come before all. With `sought` others may be left out.
    """
    links, up = {}, set()
    for link in facts:
        links[link.index] = link.name
        if link.is_up:
            up.add(link.name)
    asked = list(links) if len(links) < _MANY_LINKS else [0]
    for index in asked:
        dumped = through.dump(RTM_GETADDR, IFADDR.pack(_ANY_FAMILY, 0, 0, 0, index))
        addresses = [each for data in dumped if (each := _read_address(data, links, namespace)) is not None]
        found_routes = None if sought is None or not index else _sought_on(through, links, index, addresses, sought)
        if found_routes is None:
            body = RTMSG.pack(_ANY_FAMILY, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0)
            if index:
                body += attribute(RTA_OIF, U32.pack(index))
            found_routes = through.dump(RTM_GETROUTE, body)
        routes = []
        ways: _Ways = {}
        connected: set[tuple[str, PackedNetwork]] = set()
        for data in found_routes:
            route = _read_route(data, links, namespace, index, ways)
            if route is None:
                continue
            way, network = route
            if way.protocol == RTPROT_KERNEL:
                connected.add((way.link, network))
            else:
                routes.append((way, network))
        for each in addresses:
            # A single IPv4 address has none; and a link that is down has none of IPv4, but gets it when it comes up.
            subnet = each.address.network
            has_one = each.has_prefix_route and each.link in up and (subnet.version, subnet.length) != (4, BITS[4])
            if has_one and (each.link, subnet.packed) not in connected:
                yield msgspec.structs.replace(each, has_prefix_route=False)
            else:
                yield each
        routes.reverse()
        routes.sort(key=lambda route: route[0].protocol != RTPROT_RA)
        found = runs([network for _, network in routes], [way for way, _ in routes])
        yield from itertools.starmap(Routes, found)
        body = NDMSG.pack(_ANY_FAMILY, 0, 0, 0, 0)
        if index:
            body += attribute(NDA_IFINDEX, U32.pack(index))
        for data in through.dump(RTM_GETNEIGH, body):
            neighbour = _read_neighbour(data, links, namespace)
            if neighbour is not None:
                yield neighbour


#: Of a subnet with more than two addresses, an address and this one's other end differ in the last two bits, as those
#: of an interconnecting network do: it is neither the first nor the last of a small subnet.
_OTHER_END = 0b11


def _sought_on(
    through: NetlinkSocket,
    links: Mapping[int, str],
    index: int,
    addresses: Iterable[AssignedAddress],
    sought: SoughtRoutes,
) -> Sequence[bytes] | None:
    """These routes on one link, and those that come with its addresses; None when only a dump can tell.

    A dump goes through all routes that there are, whatever it is asked to let through. Asked for the way to one address
    out by one link, the kernel says which entry of that link counts: of the longest prefix. An entry under another
    prefix means that ours is not there, or that a longer one of the same link hides it.
    """
    name = links[index]
    known = {network for link, network in sought.known if link == name}
    new = {network for link, network in sought.new if link == name} - known
    connected = {}
    for each in addresses:
        subnet, bits = each.address.network, BITS[each.address.version]
        if each.link != name or not each.has_prefix_route or (subnet.version, subnet.length) == (4, bits):
            continue
        if subnet.length == bits:
            return None
        other_end = each.address.number ^ (_OTHER_END if bits - subnet.length > 1 else 1)
        connected[subnet.packed] = other_end.to_bytes(bits >> 3, "big")
    asked = {network: connected.get(network, network[:-1]) for network in (*known, *new, *connected)}
    answers = through.get_each(RTM_GETROUTE, [_way_out(packed, index) for packed in asked.values()])
    found = []
    for network, data in zip(asked, answers, strict=True):
        is_exact = False
        if data is not None:
            _, length, _, _, table, _, _, kind, _ = RTMSG.unpack_from(data)
            told = attributes(data, RTMSG.size)
            packed = told.get(RTA_DST, bytes(len(network) - 1))
            is_exact = table == MAIN_TABLE and kind == RTN_UNICAST and packed + bytes((length,)) == network
            if table != MAIN_TABLE or RTA_MULTIPATH in told:
                return None
            if is_exact:
                found.append(data)
        if not is_exact and network not in new:
            return None
    return found


def _way_out(packed: bytes, index: int) -> bytes:
    """Ask for the entry that leads to an address out by a link."""
    # For an IPv6 route the table is always reported.
    version, flags = (4, RTM_F_FIB_MATCH | RTM_F_LOOKUP_TABLE) if len(packed) == 4 else (6, RTM_F_FIB_MATCH)
    body = RTMSG.pack(FAMILY[version], BITS[version], 0, 0, 0, 0, 0, 0, flags)
    return body + attribute(RTA_DST, packed) + attribute(RTA_OIF, U32.pack(index))


#: What the default route leads to; the kernel does not spell it out.
_DEFAULT = {version: bytes(bits >> 3) for version, bits in BITS.items()}


def _read_address(data: bytes, links: Mapping[int, str], namespace: Namespace) -> AssignedAddress | None:
    family, length, flags, scope, index = IFADDR.unpack_from(data)
    if index not in links or family not in _VERSION:
        return None
    found = attributes(data, IFADDR.size)
    packed = found.get(IFA_LOCAL) or found[IFA_ADDRESS]
    flags = _u32(found, IFA_FLAGS) or flags
    if packed != found.get(IFA_ADDRESS, packed):
        # One that has a peer on its own: nothing that we could have made, or could put back.
        return None
    broadcast = found.get(IFA_BROADCAST)
    return AssignedAddress(
        namespace,
        links[index],
        InterfaceAddress(_VERSION[family], int.from_bytes(packed, "big"), length),
        broadcast=Address.from_packed(broadcast) if broadcast else None,
        has_prefix_route=not flags & IFA_F_NOPREFIXROUTE,
        expires=not flags & IFA_F_PERMANENT,
        is_source=scope == RT_SCOPE_UNIVERSE if family == FAMILY[4] else not flags & IFA_F_DEPRECATED,
    )


#: Ways by their attributes in a dump: very many routes have few different ways.
_Ways: TypeAlias = dict[tuple[int | bytes | None, ...], Way]


def _read_route(
    data: bytes, links: Mapping[int, str], namespace: Namespace, asked: int, ways: _Ways
) -> tuple[Way, PackedNetwork] | None:
    """A route, if it is one that we could have made, or the kernel's own.

    One of several next hops is not; it is told by its last one, which was not the first to come, so that it differs
    from what it was before somebody added that. One of another tos does not stand in our way (IPv4 only).
    """
    family, length, _, tos, table, protocol, _, kind, flags = RTMSG.unpack_from(data)
    if kind != RTN_UNICAST or tos or table != MAIN_TABLE or family not in _VERSION:
        return None
    if flags & RTM_F_CLONED:
        return None
    found = attributes(data, RTMSG.size)
    index = _u32(found, RTA_OIF)
    version = _VERSION[family]
    source, metric, address = found.get(RTA_PREFSRC), _u32(found, RTA_PRIORITY), found.get(RTA_DST, _DEFAULT[version])
    if RTA_MULTIPATH in found:
        hops = list(next_hops(found[RTA_MULTIPATH]))
        index = asked or next((each for each, _ in hops if each in links), 0)
        found = dict(hops[-1][1]) if hops else {}
    if index not in links:
        return None
    is_onlink = flags & RTNH_F_ONLINK
    told = (family, index, found.get(RTA_GATEWAY), found.get(RTA_VIA), protocol, metric, source, is_onlink)
    way = ways.get(told)
    if way is None:
        way = ways[told] = Way(
            version,
            namespace,
            links[index],
            gateway_of(found),
            protocol,
            metric,
            source=Address.from_packed(source) if source else None,
            is_onlink=bool(is_onlink),
        )
    return way, address + bytes((length,))


def gateway_of(found: Mapping[int, bytes]) -> Address | None:
    gateway = found.get(RTA_GATEWAY)
    if gateway is None and RTA_VIA in found:
        # The gateway of an IPv4 route may be an IPv6 address, behind its family.
        gateway = found[RTA_VIA][U16.size :]
    return Address.from_packed(gateway) if gateway else None


def next_hops(data: bytes) -> Iterator[tuple[int, Mapping[int, bytes]]]:
    """Number of the link, and the attributes, of each next hop (struct rtnexthop)."""
    offset = 0
    while offset + 8 <= len(data):
        length = U16.unpack_from(data, offset)[0]
        yield I32.unpack_from(data, offset + 4)[0], attributes(data[offset + 8 : offset + length])
        offset += (max(length, 8) + 3) & ~3


def _read_neighbour(data: bytes, links: Mapping[int, str], namespace: Namespace) -> Neighbour | None:
    family, index, state, _, _ = NDMSG.unpack_from(data)
    if not state & NUD_PERMANENT or index not in links or family not in _VERSION:
        return None
    found = attributes(data, NDMSG.size)
    address, mac = found.get(NDA_DST, b""), found.get(NDA_LLADDR)
    if mac is None or len(address) * 8 != BITS[_VERSION[family]]:
        return None
    return Neighbour(namespace, links[index], Address.from_packed(address), mac.hex(":"))


# --- of the whole host ------------------------------------------------------------------------------------------------


def links_with_global_address(through: NetlinkSocket) -> Collection[int]:
    """Indexes of links that have an address of global scope, of either version."""
    found = set()
    for data in through.dump(RTM_GETADDR, IFADDR.pack(_ANY_FAMILY, 0, 0, 0, 0)):
        family, _, _, scope, index = IFADDR.unpack_from(data)
        if scope == RT_SCOPE_UNIVERSE and family in _VERSION:
            found.add(index)
    return found


def global_addresses_of(through: NetlinkSocket, index: int) -> Iterator[InterfaceAddress]:
    """The addresses of global scope of one link, each with the prefix length of its network."""
    for data in through.dump(RTM_GETADDR, IFADDR.pack(_ANY_FAMILY, 0, 0, 0, index)):
        family, length, _, scope, at = IFADDR.unpack_from(data)
        # The kernel filters by link only for sockets that ask for strict checks.
        if at == index and scope == RT_SCOPE_UNIVERSE and family in _VERSION:
            found = attributes(data, IFADDR.size)
            yield Address.from_packed(found.get(IFA_LOCAL) or found[IFA_ADDRESS]).with_length(length)


def routes_under(
    through: NetlinkSocket, wanted: Iterable[Route], names: Callable[[int], str]
) -> Iterator[tuple[Route, Route | NullRoute]]:
    """Of these routes those whose network and metric the main table has a route for, and that, whosever it is.

    Goes through all routes of a version once, however many are asked about.
    """
    asked_for = {(each.network, each.metric): each for each in wanted if each.table == MAIN_TABLE}
    for version in {network.version for network, _ in asked_for}:
        asked = RTMSG.pack(FAMILY[version], 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0)
        for data in through.dump(RTM_GETROUTE, asked):
            _, length, _, _, table, protocol, _, kind, flags = RTMSG.unpack_from(data)
            if table != MAIN_TABLE or flags & RTM_F_CLONED:
                continue
            found = attributes(data, RTMSG.size)
            network = Network(version, int.from_bytes(found.get(RTA_DST, b""), "big"), length)
            metric = _u32(found, RTA_PRIORITY)
            ours = asked_for.get((network, metric))
            if ours is None:
                continue
            if kind in NULL_TYPES:
                yield ours, NullRoute(network, NULL_TYPES[kind], metric, protocol)
                continue
            gateway = Address.from_packed(found[RTA_GATEWAY]) if RTA_GATEWAY in found else None
            link = names(_u32(found, RTA_OIF)) if RTA_OIF in found else ""
            yield ours, Route(ours.namespace, network, link, gateway, protocol, metric)


def last_resorts(through: NetlinkSocket, protocol: int) -> Iterator[PackedNetwork]:
    """The networks to which the main table has an `unreachable` route of the protocol with the last metric."""
    asked = RTMSG.pack(_ANY_FAMILY, 0, 0, 0, MAIN_TABLE, protocol, 0, RouteKind.UNREACHABLE, 0)
    for data in through.dump(RTM_GETROUTE, asked):
        family, length, _, _, table, its_protocol, _, kind, flags = RTMSG.unpack_from(data)
        if (kind, its_protocol, table) != (RouteKind.UNREACHABLE, protocol, MAIN_TABLE) or flags & RTM_F_CLONED:
            continue
        found = attributes(data, RTMSG.size)
        if family in _VERSION and _u32(found, RTA_PRIORITY) == LAST_METRIC:
            yield found.get(RTA_DST, _DEFAULT[_VERSION[family]]) + bytes((length,))


def null_routes(through: NetlinkSocket) -> Iterator[NullRoute]:
    """The routes of the main table that drop what goes there, whosever they are."""
    for asked_kind in NULL_TYPES:
        asked = RTMSG.pack(_ANY_FAMILY, 0, 0, 0, MAIN_TABLE, 0, 0, asked_kind, 0)
        for data in through.dump(RTM_GETROUTE, asked):
            family, length, _, _, table, protocol, _, kind, flags = RTMSG.unpack_from(data)
            if kind != asked_kind or table != MAIN_TABLE or family not in _VERSION or flags & RTM_F_CLONED:
                continue
            found = attributes(data, RTMSG.size)
            network = Network(_VERSION[family], int.from_bytes(found.get(RTA_DST, b""), "big"), length)
            yield NullRoute(network, NULL_TYPES[kind], _u32(found, RTA_PRIORITY), protocol)


def _u32(found: Mapping[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(U32.unpack(value)[0]) if value else 0
