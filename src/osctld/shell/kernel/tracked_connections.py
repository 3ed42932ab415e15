"""Connections that the host tracks, by netlink: found by the addresses of their ends, and forgotten.

Formats and numbers are those of linux/include/uapi/linux/netfilter/{nfnetlink,nfnetlink_conntrack}.h.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from osctld.core.address.addresses import BITS, VERSION_OF_PACKED, Address, PackedNetwork
from osctld.core.address.network_table import NetworkTable
from osctld.shell.kernel import sysctl
from osctld.shell.kernel.netlink import U32, NetlinkSocket, attribute, attributes, message

NETLINK_NETFILTER = 12
_NFNL_SUBSYS_CTNETLINK = 1
_GET, _DELETE = (_NFNL_SUBSYS_CTNETLINK << 8 | each for each in (1, 2))
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP = 1
#: The source address in a tuple's addresses.
_SOURCE = {4: 1, 6: 3}
#: Both directions, with the flags of CTA_FILTER of what is asked about there, and that of the source address
#: (linux/net/netfilter/nf_conntrack_netlink.c, CTA_FILTER_F_CTA_IP_SRC).
_DIRECTIONS = {_CTA_TUPLE_ORIG: 1, _CTA_TUPLE_REPLY: 2}
_IS_SOURCE = 1
_NESTED = 0x8000
_FAMILY = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}

#: So many single addresses are asked for one by one: the kernel looks them up, and tells nothing of all others.
_ASKED_ONE_BY_ONE = 16


class TrackedConnections:
    """Of the network namespace in which it is made, while it tracks any."""

    def __init__(self) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket = NetlinkSocket(opened)

    def close(self) -> None:
        self._socket.close()

    def forget(self, networks: Iterable[PackedNetwork]) -> int:
        """Forget the connections of which one end is in these networks; how many those were. Raises OSError.

        Where nothing is tracked the kernel is not asked: it would begin to.
        """
        if sysctl.read("netfilter/nf_conntrack_count") in (None, "0"):
            return 0
        found = list(dict.fromkeys(self._found(list(networks))))
        for start in range(0, len(found), self._socket.batch):
            some = found[start : start + self._socket.batch]
            first = self._socket.reserve(len(some))
            messages = [message(_DELETE, 0, body, first + number) for number, body in enumerate(some)]
            # One that has ended meanwhile is as good.
            self._socket.send(messages, first=first, count=len(some))
        return len(found)

    def _found(self, networks: Sequence[PackedNetwork]) -> Iterator[bytes]:
        table: NetworkTable[None] = NetworkTable()
        for each in networks:
            table.put(each, None)
        for version in sorted({VERSION_OF_PACKED[len(each)] for each in networks}):
            of_version = [each for each in networks if VERSION_OF_PACKED[len(each)] == version]
            # The kernel passes over all others, of IPv4. Of IPv6 it tells the others (6.18, in its way to compare).
            are_asked_for = (
                version == 4 and len(of_version) <= _ASKED_ONE_BY_ONE and all(_is_single(each) for each in of_version)
            )
            dumps = map(self._of_address, of_version) if are_asked_for else [self._socket.dump(_GET, _header(version))]
            for data in itertools.chain.from_iterable(dumps):
                if any(table.widest(Address.from_packed(each)) is not None for each in _sources(version, data)):
                    yield _request(version, data)

    def _of_address(self, single: PackedNetwork) -> Iterator[bytes]:
        """Those with the address as a source: who asked is one, and in the other direction who was reached, also by
        another address."""
        ends = attribute(_NESTED | _CTA_TUPLE_IP, attribute(_SOURCE[4], single[:-1]))
        for direction in _DIRECTIONS:
            flags = b"".join(
                attribute(kind, U32.pack(_IS_SOURCE if each == direction else 0)) for each, kind in _DIRECTIONS.items()
            )
            wanted = attribute(_NESTED | direction, ends) + attribute(_NESTED | _CTA_FILTER, flags)
            try:
                yield from self._socket.dump(_GET, _header(4) + wanted)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                yield from self._socket.dump(_GET, _header(4))


def _is_single(network: PackedNetwork) -> bool:
    return network[-1] == BITS[VERSION_OF_PACKED[len(network)]]


def _sources(version: int, data: bytes) -> Iterator[bytes]:
    """The addresses that send in either direction."""
    found = attributes(data, 4)
    for direction in _DIRECTIONS:
        ends = attributes(attributes(found.get(direction, b"")).get(_CTA_TUPLE_IP, b""))
        if _SOURCE[version] in ends:
            yield ends[_SOURCE[version]]


def _header(version: int) -> bytes:
    return struct.pack("=BBH", _FAMILY[version], 0, 0)


def _request(version: int, data: bytes) -> bytes:
    """What names a connection: its tuple, its zone, and its number, for another one may have taken its place."""
    found = attributes(data, 4)
    named = attribute(_NESTED | _CTA_TUPLE_ORIG, found[_CTA_TUPLE_ORIG])
    for kind in (_CTA_ID, _CTA_ZONE):
        if kind in found:
            named += attribute(kind, found[kind])
    return _header(version) + named
