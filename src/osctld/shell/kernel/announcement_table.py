"""A routing table that nobody looks up: what it holds, who else uses it, and notifications of what others change there.

The kernel counts tables above 255 as RT_TABLE_COMPAT in the header of a message, and says the number in an attribute
(linux/include/uapi/linux/rtnetlink.h).
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from osctld.core.address.addresses import BITS, Address, Network, PackedNetwork
from osctld.core.address.network_table import runs
from osctld.core.errors import Unavailable
from osctld.core.plan.kernel_state import HOST, Routes, Way
from osctld.shell.kernel.netlink import U32, NetlinkSocket, attribute, attributes
from osctld.shell.kernel.netlink_listening import (
    JUMP_EQUAL,
    LARGEST_DATAGRAM,
    LOAD_BYTE,
    LOAD_WORD,
    PORT,
    ROUTE_TABLE,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_ROUTE,
    assemble,
    listening,
    was_told,
)
from osctld.shell.kernel.rtnetlink import (
    FAMILY,
    IFINFO,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    NULL_TYPES,
    RTA_DST,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTM_F_CLONED,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
    RTNH_F_ONLINK,
)
from osctld.shell.kernel.rtnetlink_dumps import gateway_of
from osctld.shell.process.pidfds import wait_readable

_RT_TABLE_COMPAT = 252
#: linux/include/uapi/linux/if_link.h
_IFLA_VRF_TABLE = 1

_Told: TypeAlias = tuple[int | bytes | None, ...]


class SeenTable(msgspec.Struct, frozen=True):
    """What the table holds: routes of our protocol, the first route of somebody else, as text, and a VRF that owns it;
    empty for none."""

    routes: tuple[Routes, ...]
    foreign: str
    vrf: str


class AnnouncementTable:
    """The table, in the network namespace in which this is made."""

    def __init__(self, table: int, *, protocol: int, own_ports: Iterable[int]) -> None:
        """Routes of the protocol are ours; changes asked for by sockets with these ports are not reported.

        Raises Unavailable if the kernel does not answer.
        """
        self._table, self._protocol = table, protocol
        self._buffer = bytearray(LARGEST_DATAGRAM)
        try:
            self._through = NetlinkSocket()
            self._news = listening(
                socket.NETLINK_ROUTE, (RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE), _filter(tuple(own_ports))
            )
        except OSError as error:
            raise _unreadable(table, error) from error

    def close(self) -> None:
        self._news.close()
        self._through.close()

    async def changed(self) -> None:
        """Return when somebody else has changed a table above 255."""
        while True:
            await wait_readable(self._news.fileno(), timeout_seconds=None)
            if was_told(self._news, self._buffer):
                return

    def look(self) -> SeenTable:
        """What it holds. Raises Unavailable."""
        try:
            vrf = next((name for name, table in self._vrfs() if table == self._table), "")
            found = list(itertools.chain.from_iterable(map(self._routes, FAMILY)))
        except OSError as error:
            raise _unreadable(self._table, error) from error
        ours = [(network, way) for network, way in found if isinstance(way, Way)]
        routes = itertools.starmap(Routes, runs([network for network, _ in ours], [way for _, way in ours]))
        foreign = next((f"{Network.from_packed(network)} {way}" for network, way in found if isinstance(way, str)), "")
        return SeenTable(tuple(routes), foreign, vrf)

    def _routes(self, version: int) -> Iterator[tuple[PackedNetwork, Way | str]]:
        """Routes with their ways, or those of somebody else with some words."""
        asked = RTMSG.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_TABLE, U32.pack(self._table))
        ways: dict[_Told, Way] = {}
        for data in self._through.dump(RTM_GETROUTE, asked):
            family, length, _, tos, _, protocol, _, kind, flags = RTMSG.unpack_from(data)
            if family != FAMILY[version] or flags & RTM_F_CLONED:
                continue
            found = attributes(data, RTMSG.size)
            if U32.unpack(found[RTA_TABLE])[0] != self._table:
                continue
            network = found.get(RTA_DST, bytes(BITS[version] >> 3)) + bytes((length,))
            if protocol != self._protocol or kind != RTN_UNICAST or tos or RTA_MULTIPATH in found:
                yield network, f"proto {protocol}" if kind not in NULL_TYPES else f"{NULL_TYPES[kind]} proto {protocol}"
                continue
            told = (found.get(RTA_OIF), found.get(RTA_PRIORITY), found.get(RTA_PREFSRC), flags & RTNH_F_ONLINK,
                    str(gateway_of(found)).encode())  # fmt: skip
            if told not in ways:
                source = found.get(RTA_PREFSRC)
                ways[told] = Way(
                    version, HOST, _name(found), gateway_of(found), protocol, _number(found, RTA_PRIORITY),
                    source=Address.from_packed(source) if source else None, is_onlink=bool(flags & RTNH_F_ONLINK),
                    table=self._table,
                )  # fmt: skip
            yield network, ways[told]

    def _vrfs(self) -> Iterator[tuple[str, int]]:
        """All VRFs with their tables."""
        for data in self._through.dump(RTM_GETLINK, IFINFO.pack(0, 0, 0, 0, 0)):
            found = attributes(data, IFINFO.size)
            about = attributes(found.get(IFLA_LINKINFO, b""))
            if about.get(IFLA_INFO_KIND, b"").rstrip(b"\0") == b"vrf":
                table = attributes(about.get(IFLA_INFO_DATA, b"")).get(_IFLA_VRF_TABLE)
                if table is not None:
                    yield found[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"), U32.unpack(table)[0]


def _name(found: dict[int, bytes]) -> str:
    """The link of a route; empty for one that has gone meanwhile."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(_number(found, RTA_OIF))
    return ""


def _number(found: dict[int, bytes], kind: int) -> int:
    return int(U32.unpack(found[kind])[0]) if kind in found else 0


def _unreadable(table: int, error: OSError) -> Unavailable:
    return Unavailable(f"table {table}: {error.strerror or error}", code="kernel-unreadable")


def _filter(own_ports: tuple[int, ...]) -> bytes:
    """Instructions that let through changes of tables above 255 that others asked for, or the kernel made."""
    return assemble(
        (
            (LOAD_WORD, PORT, "", ""),
            *((JUMP_EQUAL, socket.htonl(each), "drop", "") for each in own_ports),
            (LOAD_BYTE, ROUTE_TABLE, "", ""),
            (JUMP_EQUAL, _RT_TABLE_COMPAT, "accept", "drop"),
        )
    )
