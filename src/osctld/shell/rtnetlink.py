"""Kernel objects to and from rtnetlink messages.

Numbers are those of linux/include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour,veth,if}.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import assert_never

import msgspec

from osctld.core.addresses import BITS, Address, InterfaceAddress, Network
from osctld.core.kernel_state import (
    MAIN_TABLE,
    AssignedAddress,
    KernelObject,
    Link,
    Namespace,
    Neighbour,
    PacketFilter,
    Route,
    SiblingLinks,
    Sysctl,
    Veth,
)
from osctld.core.plan import Add, Change, Remove, Replace, Restore
from osctld.shell.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkSocket,
    attribute,
    attributes,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_LINKINFO = 1, 3, 4, 5, 18
IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 26, 27, 28, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
RTEXT_FILTER_SKIP_STATS = 1 << 3

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
RTN_UNICAST = 1
RTPROT_KERNEL, RTPROT_RA = 2, 9
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTM_F_CLONED = 0x200

NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
NUD_PERMANENT = 0x80

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RT = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_ND = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION = {int(family): version for version, family in FAMILY.items()}


# --- links -------------------------------------------------------------------------------------------------------


class LinkFacts(msgspec.Struct, frozen=True):
    """What the kernel tells of a link. `peer_index` is the index of a veth's other end, in its own namespace."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    group: int
    is_up: bool
    is_loopback: bool
    peer_index: int


_SKIP_STATISTICS = attribute(IFLA_EXT_MASK, _U32.pack(RTEXT_FILTER_SKIP_STATS))


def find_link(through: NetlinkSocket, name: str) -> LinkFacts | None:
    """A link by name; None when there is none."""
    found = through.get(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + _name(name) + _SKIP_STATISTICS)
    return _link(found) if found is not None else None


def dump_links(through: NetlinkSocket) -> Iterator[LinkFacts]:
    return map(_link, through.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS))


def _link(data: bytes) -> LinkFacts:
    _, _, index, flags, _ = _IFINFO.unpack_from(data)
    found = attributes(data, _IFINFO.size)
    information = attributes(found.get(IFLA_LINKINFO, b""))
    return LinkFacts(
        index=index,
        name=found[IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape"),
        kind=information.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_u32(found, IFLA_MTU),
        group=_u32(found, IFLA_GROUP),
        is_up=bool(flags & IFF_UP),
        is_loopback=bool(flags & IFF_LOOPBACK),
        peer_index=_I32.unpack(found[IFLA_LINK])[0] if IFLA_LINK in found else 0,
    )


def create_veth(wanted: Veth, *, peer_namespace: int, may_exist: bool) -> Iterator[Message]:
    """Make a pair, the peer inside its namespace under its final name, both down; address generation off here.

    With `may_exist`, for a link that is there already only its settings are given, and it is set up if wanted up.
    """
    peer = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + _name(wanted.peer_name)
        + attribute(IFLA_ADDRESS, _mac(wanted.peer_mac))
        + attribute(IFLA_MTU, _U32.pack(wanted.mtu))
        + attribute(IFLA_NET_NS_FD, _U32.pack(peer_namespace))
    )
    information = attribute(IFLA_INFO_KIND, b"veth\0") + attribute(
        IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)
    )
    yield Message(
        RTM_NEWLINK,
        NLM_F_CREATE | (0 if may_exist else NLM_F_EXCL),
        _IFINFO.pack(0, 0, 0, 0, 0)
        + _name(wanted.name)
        + attribute(IFLA_ADDRESS, _mac(wanted.mac))
        + attribute(IFLA_MTU, _U32.pack(wanted.mtu))
        + attribute(IFLA_GROUP, _U32.pack(wanted.group))
        + attribute(IFLA_LINKINFO, information),
    )
    # Not taken together with the creation of a link (rtnl_newlink_create in linux/net/core/rtnetlink.c).
    generation = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    state = IFF_UP if wanted.is_up else 0
    yield Message(
        RTM_NEWLINK,
        0,
        _IFINFO.pack(0, 0, 0, state, state)
        + _name(wanted.name)
        + attribute(IFLA_AF_SPEC, attribute(socket.AF_INET6, generation)),
    )


def _set_link(new: Veth | Link, old: Veth | Link | None) -> Message:
    body = _name(new.name)
    if old is None or old.mac != new.mac:
        body += attribute(IFLA_ADDRESS, _mac(new.mac))
    if old is None or old.mtu != new.mtu:
        body += attribute(IFLA_MTU, _U32.pack(new.mtu))
    if isinstance(new, Veth) and (not isinstance(old, Veth) or old.group != new.group):
        body += attribute(IFLA_GROUP, _U32.pack(new.group))
    flags = IFF_UP if new.is_up else 0
    return Message(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, 0, flags, IFF_UP) + body)


# --- changes -----------------------------------------------------------------------------------------------------


def messages(change: Change, index: Callable[[str], int]) -> Iterator[Message]:
    """The messages of a change of anything but the making of a pair. `index` gives a link's number by its name."""
    match change:
        case Add(new):
            yield _presence(new, NLM_F_CREATE | NLM_F_EXCL, index)
        case Restore(new):
            yield _presence(new, NLM_F_CREATE | NLM_F_REPLACE, index)
        case Replace(AssignedAddress() as old, AssignedAddress() as new):
            # Replacing an IPv6 address by one with another prefix length answers 0 and changes nothing.
            yield _absence(old, index)
            yield _presence(new, NLM_F_CREATE | NLM_F_EXCL, index)
        case Replace(Veth() | Link() as old, Veth() | Link() as new):
            yield _set_link(new, old)
        case Replace(_, new):
            yield _presence(new, NLM_F_CREATE | NLM_F_REPLACE, index)
        case Remove(old):
            yield _absence(old, index)
        case _:
            assert_never(change)


def _presence(each: KernelObject, flags: int, index: Callable[[str], int]) -> Message:
    match each:
        case AssignedAddress():
            return Message(RTM_NEWADDR, flags, _address(each, index(each.link)))
        case Route():
            return Message(RTM_NEWROUTE, flags, _route(each, index(each.link)))
        case Neighbour():
            return Message(RTM_NEWNEIGH, flags, _neighbour(each, index(each.link)))
        case Link() | Veth():
            return _set_link(each, None)
        case Sysctl() | SiblingLinks() | PacketFilter():
            raise TypeError(each)
        case _:
            assert_never(each)


def _absence(each: KernelObject, index: Callable[[str], int]) -> Message:
    match each:
        case AssignedAddress():
            return Message(RTM_DELADDR, 0, _address(each, index(each.link)))
        case Route():
            # Protocol, metric and table have to match the route's, or another one would go.
            return Message(RTM_DELROUTE, 0, _route(each, index(each.link)))
        case Neighbour():
            return Message(RTM_DELNEIGH, 0, _neighbour(each, index(each.link)))
        case Link() | Veth():
            return Message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + _name(each.name))
        case Sysctl() | SiblingLinks() | PacketFilter():
            raise TypeError(each)
        case _:
            assert_never(each)


def _address(each: AssignedAddress, index: int) -> bytes:
    address = each.address
    flags = IFA_F_NODAD if address.version == 6 else 0
    if not each.has_prefix_route:
        flags |= IFA_F_NOPREFIXROUTE
    body = (
        _IFADDR.pack(FAMILY[address.version], address.length, flags & 0xFF, RT_SCOPE_UNIVERSE, index)
        + attribute(IFA_LOCAL, address.packed)
        + attribute(IFA_ADDRESS, address.packed)
        + attribute(IFA_FLAGS, _U32.pack(flags))
    )
    if each.broadcast is not None:
        body += attribute(IFA_BROADCAST, each.broadcast.packed)
    return body


def _route(each: Route, index: int) -> bytes:
    network = each.network
    is_on_link = each.gateway is None and network.version == 4
    body = _RT.pack(
        FAMILY[network.version],
        network.length,
        0,
        0,
        MAIN_TABLE,
        each.protocol,
        RT_SCOPE_LINK if is_on_link else RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
        0,
    )
    if not network.is_default:
        body += attribute(RTA_DST, network.packed)
    if each.gateway is not None:
        body += attribute(RTA_GATEWAY, each.gateway.packed)
    body += attribute(RTA_OIF, _U32.pack(index))
    if each.metric:
        body += attribute(RTA_PRIORITY, _U32.pack(each.metric))
    if each.source is not None:
        body += attribute(RTA_PREFSRC, each.source.packed)
    return body


def _neighbour(each: Neighbour, index: int) -> bytes:
    return (
        _ND.pack(FAMILY[each.address.version], index, NUD_PERMANENT, 0, 0)
        + attribute(NDA_DST, each.address.packed)
        + attribute(NDA_LLADDR, _mac(each.mac))
    )


# --- observation -------------------------------------------------------------------------------------------------


def objects_on(through: NetlinkSocket, link: LinkFacts, namespace: Namespace) -> Iterator[KernelObject]:
    """Addresses, routes of the main table that the kernel did not make, and permanent neighbours of one link."""
    index = _U32.pack(link.index)
    for version, family in FAMILY.items():
        for data in through.dump(RTM_GETADDR, _IFADDR.pack(family, 0, 0, 0, link.index)):
            yield _read_address(data, version, link.name, namespace)
        filtered = _RT.pack(family, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0) + attribute(RTA_OIF, index)
        for data in through.dump(RTM_GETROUTE, filtered):
            route = _read_route(data, version, link.name, namespace)
            if route is not None:
                yield route
        asked = _ND.pack(family, 0, 0, 0, 0) + attribute(NDA_IFINDEX, index)
        for data in through.dump(RTM_GETNEIGH, asked):
            neighbour = _read_neighbour(data, version, link, namespace)
            if neighbour is not None:
                yield neighbour


def _read_address(data: bytes, version: int, link: str, namespace: Namespace) -> AssignedAddress:
    _, length, flags, _, _ = _IFADDR.unpack_from(data)
    found = attributes(data, _IFADDR.size)
    packed = found.get(IFA_LOCAL) or found[IFA_ADDRESS]
    flags = _u32(found, IFA_FLAGS) or flags
    broadcast = found.get(IFA_BROADCAST)
    return AssignedAddress(
        namespace,
        link,
        InterfaceAddress(version, int.from_bytes(packed, "big"), length),
        broadcast=Address.from_packed(broadcast) if broadcast else None,
        has_prefix_route=not flags & IFA_F_NOPREFIXROUTE,
    )


def _read_route(data: bytes, version: int, link: str, namespace: Namespace) -> Route | None:
    _, length, _, tos, table, protocol, _, kind, flags = _RT.unpack_from(data)
    if kind != RTN_UNICAST or protocol == RTPROT_KERNEL or flags & RTM_F_CLONED or tos or table != MAIN_TABLE:
        return None
    found = attributes(data, _RT.size)
    gateway, source = found.get(RTA_GATEWAY), found.get(RTA_PREFSRC)
    return Route(
        namespace,
        Network(version, int.from_bytes(found.get(RTA_DST, b""), "big"), length),
        link,
        Address.from_packed(gateway) if gateway else None,
        protocol,
        _u32(found, RTA_PRIORITY),
        source=Address.from_packed(source) if source else None,
    )


def _read_neighbour(data: bytes, version: int, link: LinkFacts, namespace: Namespace) -> Neighbour | None:
    _, index, state, _, _ = _ND.unpack_from(data)
    found = attributes(data, _ND.size)
    if not state & NUD_PERMANENT or index != link.index or NDA_LLADDR not in found or NDA_DST not in found:
        return None
    address = found[NDA_DST]
    if len(address) * 8 != BITS[version]:
        return None
    return Neighbour(namespace, link.name, Address.from_packed(address), found[NDA_LLADDR].hex(":"))


def default_routes(through: NetlinkSocket, links: Mapping[int, LinkFacts]) -> set[tuple[int, int]]:
    """Links that carry a default route, with the route's protocol.

    Asked link by link, so that the kernel passes over the routes of all others.
    """
    found = set()
    for family in FAMILY.values():
        for index in links:
            asked = _RT.pack(family, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0) + attribute(RTA_OIF, _U32.pack(index))
            for data in through.dump(RTM_GETROUTE, asked):
                _, length, _, _, table, protocol, _, kind, flags = _RT.unpack_from(data)
                if length == 0 and kind == RTN_UNICAST and table == MAIN_TABLE and not flags & RTM_F_CLONED:
                    found.add((index, protocol))
    return found


def links_with_global_address(through: NetlinkSocket) -> Collection[int]:
    """Indexes of links that have an address of global scope, of either version."""
    found = set()
    for family in FAMILY.values():
        for data in through.dump(RTM_GETADDR, _IFADDR.pack(family, 0, 0, 0, 0)):
            _, _, _, scope, index = _IFADDR.unpack_from(data)
            if scope == RT_SCOPE_UNIVERSE:
                found.add(index)
    return found


# --- bytes -------------------------------------------------------------------------------------------------------


def _name(name: str) -> bytes:
    return attribute(IFLA_IFNAME, name.encode("utf-8", "surrogateescape") + b"\0")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _u32(found: Mapping[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(_U32.unpack(value)[0]) if value else 0
