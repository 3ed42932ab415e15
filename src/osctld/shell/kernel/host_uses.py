"""What links of this namespace use of the address space: addresses, networks, and where routes lead.

The kernel is asked so that it passes over the routes of routing daemons, of which there may be a million: by protocol
and type, and for default routes at the place where it keeps them.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator, Mapping

from osctld.core.address.addresses import BITS, Address, Network
from osctld.core.authority.host_networks import HostNetwork, Use, edges_of, next_hop
from osctld.core.plan.kernel_state import MAIN_TABLE, PROTOCOL_STATIC
from osctld.shell.kernel.netlink import U32, NetlinkSocket, attribute, attributes, first_of_dump
from osctld.shell.kernel.rtnetlink import (
    FAMILY,
    IFA_ADDRESS,
    IFA_BROADCAST,
    IFA_F_NOPREFIXROUTE,
    IFA_FLAGS,
    IFA_LOCAL,
    IFADDR,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_VIA,
    RTM_F_CLONED,
    RTM_F_FIB_MATCH,
    RTM_GETADDR,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
    RTPROT_KERNEL,
    RTPROT_RA,
    U16,
)
from osctld.shell.kernel.rtnetlink_dumps import next_hops

_VERSION = {family: version for version, family in FAMILY.items()}
_ANY_FAMILY, _ANY_TABLE = 0, 0

#: Protocols of routes that say what a network is used for, and their names (linux/include/uapi/linux/rtnetlink.h). The
#: last two stand for what was given from outside; all other numbers are those of routing daemons.
PROTOCOLS_OF_HOSTS = {RTPROT_KERNEL: "kernel", 3: "boot", PROTOCOL_STATIC: "static", RTPROT_RA: "ra", 16: "dhcp"}

#: The names that iproute2 has for others (rt_protos).
_DAEMONS = {
    8: "gated",
    10: "mrt",
    11: "zebra",
    12: "bird",
    13: "dnrouted",
    14: "xorp",
    15: "ntk",
    18: "keepalived",
    42: "babel",
    84: "ovn",
    99: "openr",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
}

#: linux/include/uapi/linux/fib_rules.h: struct fib_rule_hdr, of which the table is the fifth byte, and its attribute.
RTM_GETRULE, _FIB_RULE_HEADER, _TABLE_OF_RULE, FRA_TABLE = 34, 12, 4, 15
_LOCAL_TABLE = 255
RTA_TABLE = 15


def uses_of_links(through: NetlinkSocket, names: Mapping[int, str]) -> Iterator[HostNetwork]:
    """All that these links use, each by its number and name. Raises OSError."""
    for data in through.dump(RTM_GETADDR, IFADDR.pack(_ANY_FAMILY, 0, 0, 0, 0)):
        yield from uses_of_address(data, names)
    for protocol in PROTOCOLS_OF_HOSTS:
        asked = RTMSG.pack(_ANY_FAMILY, 0, 0, 0, _ANY_TABLE, protocol, 0, RTN_UNICAST, 0)
        for data in through.dump(RTM_GETROUTE, asked):
            yield from uses_of_route(data, names)
    for table in sorted(_tables(through)):
        asked = RTMSG.pack(FAMILY[4], 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0) + attribute(RTA_TABLE, U32.pack(table))
        # An IPv4 table is dumped in the order of destinations: default routes come first.
        for data in first_of_dump(RTM_GETROUTE, asked):
            yield from uses_of_route(data, names)
    # The kernel keeps no such order of IPv6 routes. This address, reserved by RFC 4291 and given to nobody, is where
    # nothing but the default route leads.
    for data in matches(through, Address(6, 2)):
        yield from uses_of_route(data, names)


def learned_routes(
    through: NetlinkSocket, networks: Iterable[Network], *, ours: Collection[int]
) -> Iterator[tuple[int, Network, str]]:
    """Number of the link, destination, and the name of the protocol, of routes that routing daemons brought and that
    packets to the first address of each network follow now. Protocols `ours` do not count."""
    for network in networks:
        for data in matches(through, network.address):
            family, length, _, _, _, protocol, _, kind, _ = RTMSG.unpack_from(data)
            if kind != RTN_UNICAST or not length or protocol in ours or protocol in PROTOCOLS_OF_HOSTS:
                continue
            found = attributes(data, RTMSG.size)
            destination = Network(_VERSION[family], int.from_bytes(found.get(RTA_DST, b""), "big"), length)
            link = next((index for index, _ in ways(found)), 0)
            yield link, destination, _DAEMONS.get(protocol, f"protocol {protocol}")


def matches(through: NetlinkSocket, address: Address) -> Iterator[bytes]:
    """The route that packets to an address follow, as it stands in its table; none when there is none."""
    asked = RTMSG.pack(FAMILY[address.version], BITS[address.version], 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    try:
        found = through.get(RTM_GETROUTE, asked + attribute(RTA_DST, address.packed))
    except OSError:  # unreachable, prohibited, or no IPv6 at all: whatever it says, no route leads there
        return
    if found is not None:
        yield found


def uses_of_address(data: bytes, names: Mapping[int, str]) -> Iterator[HostNetwork]:
    """What an address in a dump means: itself, its network, and the network and broadcast addresses."""
    family, length, flags, _, index = IFADDR.unpack_from(data)
    if family not in _VERSION or index not in names:
        return
    found = attributes(data, IFADDR.size)
    own = Address.from_packed(found.get(IFA_LOCAL) or found[IFA_ADDRESS])
    flags = U32.unpack(found[IFA_FLAGS])[0] if IFA_FLAGS in found else flags
    # The peer's network where there is one. A link that is down has no route to it, and will have.
    peer = Address.from_packed(found.get(IFA_ADDRESS) or own.packed).with_length(length)
    network = peer.network
    spelled = str(own.with_length(length)) if peer.address == own else f"{own} peer {peer}"
    is_short = own.as_network() == network
    yield HostNetwork(own.as_network(), names[index], Use.ADDRESS, "" if is_short else spelled)
    if not flags & IFA_F_NOPREFIXROUTE and network != own.as_network():
        yield from _connected(HostNetwork(network, names[index]))
    if IFA_BROADCAST in found:
        broadcast = Address.from_packed(found[IFA_BROADCAST]).as_network()
        yield HostNetwork(broadcast, names[index], Use.EDGE, str(network))


def _connected(network: HostNetwork) -> Iterator[HostNetwork]:
    yield network
    yield from edges_of(network)


def uses_of_route(data: bytes, names: Mapping[int, str]) -> Iterator[HostNetwork]:
    """What a route in a dump means: its destination, unless a routing daemon learned that or it is everything, and its
    next hops, unless a daemon learned them for something less."""
    family, length, _, _, table, protocol, _, kind, flags = RTMSG.unpack_from(data)
    if kind != RTN_UNICAST or family not in _VERSION or flags & RTM_F_CLONED or table == _LOCAL_TABLE:
        return
    if length and protocol not in PROTOCOLS_OF_HOSTS:
        return
    found = attributes(data, RTMSG.size)
    destination = Network(_VERSION[family], int.from_bytes(found.get(RTA_DST, b""), "big"), length)
    link = next((names[index] for index, _ in ways(found) if index in names), None)
    if link is None:
        return  # of our own links, or of none
    if length and protocol == RTPROT_KERNEL:
        yield from _connected(HostNetwork(destination, link))
        return
    if length:
        yield HostNetwork(destination, link, Use.STATIC, PROTOCOLS_OF_HOSTS[protocol])
    yield from _next_hops(found, names, destination)


def _next_hops(found: Mapping[int, bytes], names: Mapping[int, str], destination: Network) -> Iterator[HostNetwork]:
    for index, way in ways(found):
        # The gateway of an IPv4 route may be an IPv6 address, behind its family.
        packed = way.get(RTA_GATEWAY) or way.get(RTA_VIA, b"")[U16.size :]
        if packed and index in names:
            yield next_hop(Address.from_packed(packed), names[index], destination=destination)


def ways(found: Mapping[int, bytes]) -> Iterator[tuple[int, Mapping[int, bytes]]]:
    """Number of the link, and the attributes, of each way of a route."""
    if RTA_MULTIPATH in found:
        yield from next_hops(found[RTA_MULTIPATH])
    elif RTA_OIF in found:
        yield U32.unpack(found[RTA_OIF])[0], found


def _tables(through: NetlinkSocket) -> set[int]:
    """The tables that rules name, and the main one."""
    tables = {MAIN_TABLE}
    for data in through.dump(RTM_GETRULE, bytes(_FIB_RULE_HEADER)):
        if data[0] == socket.AF_INET:
            table = attributes(data, _FIB_RULE_HEADER).get(FRA_TABLE)
            tables.add(U32.unpack(table)[0] if table else data[_TABLE_OF_RULE])
    return tables - {0, _LOCAL_TABLE}
