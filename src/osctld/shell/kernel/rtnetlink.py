"""Changes of kernel objects as rtnetlink messages.

Numbers are those of linux/include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour,veth,if,net_namespace}.h.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import assert_never

from osctld.core.address.addresses import BITS, PackedNetwork
from osctld.core.plan.changes import Add, Change, Remove, RenameLink, Replace, Restore, RouteChanges
from osctld.core.plan.kernel_state import (
    AssignedAddress,
    KernelObject,
    Link,
    Master,
    Neighbour,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    Route,
    RouteKind,
    SiblingLinks,
    StoppedNetwork,
    Sysctl,
    Veth,
    Way,
)
from osctld.shell.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, U32, attribute, message

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_GETNSID = 90

IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP = 0x1, 0x8, 0x10000
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 26, 27, 28, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_FLAGS, IFLA_INET_CONF, IFLA_INET6_CONF = 1, 1, 2
IFLA_INET6_ADDR_GEN_MODE = 8
RTEXT_FILTER_SKIP_STATS = 1 << 3
NETNSA_NSID, NETNSA_FD = 1, 3

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 4, 6, 8
IFA_F_NODAD, IFA_F_DEPRECATED, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x02, 0x20, 0x80, 0x200
#: A lifetime without end (linux/include/net/addrconf.h, INFINITY_LIFE_TIME).
FOREVER = 0xFFFFFFFF

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 7, 9, 15, 18
RT_TABLE_UNSPEC = 0
RTN_UNICAST = 1
#: Types of routes that drop what goes there, as iproute2 spells them.
NULL_TYPES = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
RTPROT_KERNEL, RTPROT_RA = 2, 9
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTM_F_CLONED = 0x200
#: Answer with the entry of the table instead of the resolved route.
RTM_F_FIB_MATCH = 0x2000
#: And say which table it is in: without it, the kernel says of every IPv4 route that it is in the main one. It refuses
#: the flag for IPv6.
RTM_F_LOOKUP_TABLE = 0x1000
RTNH_F_ONLINK = 4

NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
NUD_PERMANENT = 0x80

IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
CACHEINFO = struct.Struct("=IIII")  # preferred and valid lifetime in seconds, created, updated
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
U16 = struct.Struct("=H")
I32 = struct.Struct("=i")

#: Where bytes stand in a message about a route: in its header of 16 bytes; in the rtmsg of 12 behind that; behind the 4
#: of the first attribute's own header.
_SEQUENCE, _DESTINATION_LENGTH, _DESTINATION = 8, 17, 32

FAMILY = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}

#: Flags of what must not be there yet, and of what may be.
_NEW = NLM_F_CREATE | NLM_F_EXCL
_ANY = NLM_F_CREATE | NLM_F_REPLACE


class NoSuchLink(Exception):
    """A message would refer to a missing link. The kernel takes number 0 in its place for any link."""

    def __init__(self, name: str, *, is_of_another_kind: bool = False) -> None:
        super().__init__(name)
        self.name = name
        #: There is one of that name, which is none of the kind that is meant.
        self.is_of_another_kind = is_of_another_kind


# --- links -------------------------------------------------------------------------------------------------------


def create_veth(wanted: Veth, sequence: int, *, peer_namespace: int, master: int = 0) -> bytes:
    """Make a pair, its peer down, inside its namespace (a descriptor) under its final name.

    With `master`, the number of a link, the end here is a port of that from its first moment on.
    """
    peer = (
        IFINFO.pack(0, 0, 0, 0, 0)
        + name_attribute(wanted.peer_name)
        + attribute(IFLA_ADDRESS, mac_bytes(wanted.peer_mac))
        + attribute(IFLA_MTU, U32.pack(wanted.mtu))
        + attribute(IFLA_NET_NS_FD, U32.pack(peer_namespace))
    )
    information = attribute(IFLA_INFO_KIND, b"veth\0") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
    body = (
        IFINFO.pack(0, 0, 0, IFF_UP if wanted.is_up else 0, IFF_UP)
        + name_attribute(wanted.name)
        + attribute(IFLA_ADDRESS, mac_bytes(wanted.mac))
        + attribute(IFLA_MTU, U32.pack(wanted.mtu))
        + attribute(IFLA_GROUP, U32.pack(wanted.group))
        + (attribute(IFLA_MASTER, U32.pack(master)) if master else b"")
        + attribute(IFLA_LINKINFO, information)
    )
    return message(RTM_NEWLINK, _NEW, body, sequence)


def set_link(new: Veth | Link, old: Veth | Link | None, sequence: int, *, master: int | None = None) -> bytes:
    """Give a link that is there the settings that differ; all of them when it is not known what it has.

    `master` is the number of the link whose port it becomes, 0 for none; None leaves it unchanged.
    """
    body = name_attribute(new.name)
    if old is None or old.mac != new.mac:
        body += attribute(IFLA_ADDRESS, mac_bytes(new.mac))
    if old is None or old.mtu != new.mtu:
        body += attribute(IFLA_MTU, U32.pack(new.mtu))
    if isinstance(new, Veth) and (not isinstance(old, Veth) or old.group != new.group):
        body += attribute(IFLA_GROUP, U32.pack(new.group))
    if master is not None:
        body += attribute(IFLA_MASTER, U32.pack(master))
    flags = IFF_UP if new.is_up else 0
    return message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, 0, flags, IFF_UP) + body, sequence)


def rename_link(index: int, name: str, sequence: int) -> bytes:
    return message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, index, 0, 0) + name_attribute(name), sequence)


def delete_link(name: str, sequence: int) -> bytes:
    return message(RTM_DELLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + name_attribute(name), sequence)


# --- changes -----------------------------------------------------------------------------------------------------


class Encoder:
    """Packs changes of one namespace.

    `index` gives a link's number by its name, `master` that of a link of that kind; each raises NoSuchLink.
    """

    def __init__(self, index: Callable[[str], int], master: Callable[[Master], int]) -> None:
        self._index = index
        self._master = master

    def encode(self, part: Change | RouteChanges, first: int) -> bytes:
        """The one message of a change; of many alike as many, with sequence numbers from `first` on.

        Not for what takes several messages: making pairs, replacing addresses. Raises NoSuchLink.
        """
        match part:
            case RouteChanges(kind, routes):
                return self._routes(kind, routes.way, routes.networks, first)
            case RenameLink(old, new):
                return rename_link(self._index(old.name), new.name, first)
            case Replace(_, Route() as new):
                return self._routes(Replace, new.way, [new.network.packed], first)
            case Add(Route() as new) | Restore(Route() as new) | Remove(Route() as new):
                return self._routes(type(part), new.way, [new.network.packed], first)
            case Add(new):
                return self._presence(new, _NEW, first)
            case Restore(new):
                return self._presence(new, _ANY, first)
            case Replace(Veth() | Link() as old, Veth() | Link() as new):
                return set_link(new, old, first, master=self._new_master(old, new))
            case Replace(_, new):
                return self._presence(new, _ANY, first)
            case Remove(old):
                return self._absence(old, first)
            case _:
                assert_never(part)

    def _new_master(self, old: Veth | Link, new: Veth | Link) -> int | None:
        if not isinstance(old, Veth) or not isinstance(new, Veth) or old.master == new.master:
            return None
        return self._master(new.master) if new.master is not None else 0

    def _presence(self, each: KernelObject, flags: int, sequence: int) -> bytes:
        match each:
            case AssignedAddress():
                return message(RTM_NEWADDR, flags, _address(each, self._index(each.link)), sequence)
            case Neighbour():
                # The kernel may have learned an entry by itself; a permanent one takes its place.
                flags = NLM_F_CREATE | NLM_F_REPLACE
                return message(RTM_NEWNEIGH, flags, _neighbour(each, self._index(each.link)), sequence)
            case Link():
                return set_link(each, None, sequence)
            case Route() | Veth() | Sysctl():
                raise TypeError(each)
            case SiblingLinks() | PrivateNetwork() | PermittedSource() | StoppedNetwork() | PacketFilter():
                raise TypeError(each)
            case _:
                assert_never(each)

    def _absence(self, each: KernelObject, sequence: int) -> bytes:
        match each:
            case AssignedAddress():
                return message(RTM_DELADDR, 0, _address(each, self._index(each.link)), sequence)
            case Neighbour():
                return message(RTM_DELNEIGH, 0, _neighbour(each, self._index(each.link)), sequence)
            case Link() | Veth():
                return delete_link(each.name, sequence)
            case Route() | Sysctl():
                raise TypeError(each)
            case SiblingLinks() | PrivateNetwork() | PermittedSource() | StoppedNetwork() | PacketFilter():
                raise TypeError(each)
            case _:
                assert_never(each)

    def _routes(self, kind: type[Change], way: Way, networks: Sequence[PackedNetwork], first: int) -> bytes:
        """Messages that differ in number, destination and prefix length alone.

        They are written as that many copies of one, and then those bytes column by column: no line of Python is run for
        each.
        """
        count, octets = len(networks), BITS[way.version] >> 3
        body = _route(way, self._index(way.link) if way.kind is RouteKind.UNICAST else 0)
        if kind is Remove:
            # Protocol, metric, table, gateway and device are stated, or the route of somebody else would go.
            template = message(RTM_DELROUTE, 0, body, 0)
        else:
            template = message(RTM_NEWROUTE, _NEW if kind is Add else _ANY, body, 0)
        size = len(template)
        packed = bytearray(template * count)
        numbers, columns = array("I", range(first, first + count)).tobytes(), b"".join(networks)
        for octet in range(4):
            packed[_SEQUENCE + octet :: size] = numbers[octet::4]
        for octet in range(octets):
            packed[_DESTINATION + octet :: size] = columns[octet :: octets + 1]
        packed[_DESTINATION_LENGTH::size] = columns[octets :: octets + 1]
        return bytes(packed)


def _address(each: AssignedAddress, index: int) -> bytes:
    address = each.address
    flags = IFA_F_NODAD if address.version == 6 else 0
    if not each.has_prefix_route:
        flags |= IFA_F_NOPREFIXROUTE
    packed = address.packed
    scope = RT_SCOPE_UNIVERSE if each.is_source or address.version == 6 else RT_SCOPE_LINK
    body = (
        IFADDR.pack(FAMILY[address.version], address.length, flags & 0xFF, scope, index)
        + attribute(IFA_LOCAL, packed)
        + attribute(IFA_ADDRESS, packed)
        + attribute(IFA_FLAGS, U32.pack(flags))
    )
    if each.broadcast is not None:
        body += attribute(IFA_BROADCAST, each.broadcast.packed)
    if address.version == 6:
        body += attribute(IFA_CACHEINFO, CACHEINFO.pack(FOREVER if each.is_source else 0, FOREVER, 0, 0))
    return body


def _route(way: Way, index: int) -> bytes:
    """Destination and prefix length are left 0. The destination is the first attribute."""
    version = way.version
    is_unicast = way.kind is RouteKind.UNICAST
    is_on_link = is_unicast and way.gateway is None and version == 4
    scope = RT_SCOPE_LINK if is_on_link else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if way.is_onlink else 0
    # The header has one octet for the table; what does not fit is an attribute.
    table = way.table if way.table < 256 else RT_TABLE_UNSPEC
    body = RTMSG.pack(FAMILY[version], 0, 0, 0, table, way.protocol, scope, way.kind, flags)
    body += attribute(RTA_DST, bytes(BITS[version] >> 3))
    if way.gateway is not None:
        if way.gateway.version == version:
            body += attribute(RTA_GATEWAY, way.gateway.packed)
        else:
            body += attribute(RTA_VIA, U16.pack(FAMILY[way.gateway.version]) + way.gateway.packed)
    if is_unicast:
        body += attribute(RTA_OIF, U32.pack(index))
    if table != way.table:
        body += attribute(RTA_TABLE, U32.pack(way.table))
    if way.metric:
        body += attribute(RTA_PRIORITY, U32.pack(way.metric))
    if way.source is not None:
        body += attribute(RTA_PREFSRC, way.source.packed)
    return body


def _neighbour(each: Neighbour, index: int) -> bytes:
    return (
        NDMSG.pack(FAMILY[each.address.version], index, NUD_PERMANENT, 0, 0)
        + attribute(NDA_DST, each.address.packed)
        + attribute(NDA_LLADDR, mac_bytes(each.mac))
    )


# --- bytes -------------------------------------------------------------------------------------------------------


def name_attribute(name: str) -> bytes:
    return attribute(IFLA_IFNAME, name.encode("utf-8", "surrogateescape") + b"\0")


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
