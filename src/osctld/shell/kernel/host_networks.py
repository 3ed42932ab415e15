"""What the host uses of the address space for itself: looked at once, then again only when something changed there.

A socket is notified of links, of addresses, and of routes that say what a network is used for or that are default
routes; it is read before each answer. So an answer is as true as a look would be, and costs nothing while nothing
changes, however many routes a routing daemon has learned or containers have: the kernel drops notifications of those.
Notifications of our own links is passed over here.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection, Iterable

from osctld.core.authority.host_networks import HostNetwork, HostSpace, is_anybody_s
from osctld.shell.kernel import rtnetlink_dumps
from osctld.shell.kernel.host_uses import PROTOCOLS_OF_HOSTS, uses_of_address, uses_of_links, uses_of_route
from osctld.shell.kernel.netlink import NLM_F_REPLACE, U32, NetlinkSocket, attributes, messages
from osctld.shell.kernel.netlink_listening import (
    FLAGS,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    LARGEST_DATAGRAM,
    LOAD_BYTE,
    LOAD_HALF,
    ROUTE_LENGTH,
    ROUTE_PROTOCOL,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_LINK,
    TYPE,
    assemble,
    listening,
)
from osctld.shell.kernel.rtnetlink import (
    IFADDR,
    IFF_UP,
    IFINFO,
    IFLA_GROUP,
    IFLA_IFNAME,
    RTA_OIF,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTMSG,
)

_GROUPS = (RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE)


class HostNetworks:
    """Answers in the network namespace in which it is made."""

    def __init__(self, *, link_groups: Collection[int]) -> None:
        """Links of these groups are ours. Raises OSError if the kernel does not answer."""
        self._news = listening(socket.NETLINK_ROUTE, _GROUPS, _filter(PROTOCOLS_OF_HOSTS))
        self._buffer = bytearray(LARGEST_DATAGRAM)
        self._groups = link_groups
        #: Numbers of links that are ours.
        self._ours: set[int] = set()
        #: Names of all others, and whether they were up.
        self._others: dict[int, tuple[str, bool]] = {}
        self._names: dict[int, str] = {}
        self._found: HostSpace | None = None

    def close(self) -> None:
        self._news.close()

    def hear(self) -> None:
        """Read what was told since the last time. Between answers it need not be called, but by somebody who is awake
        anyhow: when more comes than is kept, the next answer takes a look."""
        while True:
            try:
                size = self._news.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._found = None
            else:
                for length, kind, flags, _, offset in messages(self._buffer, size):
                    if self._says_something(kind, flags, bytes(self._buffer[offset + 16 : offset + length])):
                        self._found = None

    def present(self, through: NetlinkSocket) -> HostSpace:
        """All that links other than ours use; the same value as long as that is so. Raises OSError."""
        self.hear()
        if self._found is None:
            self._found = HostSpace(self._look(through))
        return self._found

    def _look(self, through: NetlinkSocket) -> Iterable[HostNetwork]:
        self._ours, self._others = set(), {}
        for link in rtnetlink_dumps.dump_links(through):
            if link.group in self._groups:
                self._ours.add(link.index)
            else:
                self._others[link.index] = link.name, link.is_up
        # A link that appeared after the first request has been reported, and is read the next time.
        self._names = {0: "", **{index: name for index, (name, _) in self._others.items()}}
        return (each for each in uses_of_links(through, self._names) if is_anybody_s(each))

    def _says_something(self, kind: int, flags: int, body: bytes) -> bool:
        """Whether a message may mean that the last observation is out of date."""
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            family, _, index, link_flags, _ = IFINFO.unpack_from(body)
            is_gone = kind == RTM_DELLINK
            return family == socket.AF_UNSPEC and self._is_of_another_link(index, link_flags, body, is_gone=is_gone)
        # Lifetimes of existing addresses are reported again and again.
        if kind == RTM_NEWADDR and IFADDR.unpack_from(body)[4] in self._others:
            return self._is_news(uses_of_address(body, self._names))
        if kind == RTM_NEWROUTE and not flags & NLM_F_REPLACE and self._is_of_others(body):
            return self._is_news(uses_of_route(body, self._names))
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            return IFADDR.unpack_from(body)[4] not in self._ours
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            oif = attributes(body, RTMSG.size).get(RTA_OIF)
            return oif is None or U32.unpack(oif)[0] not in self._ours
        return False

    def _is_of_others(self, body: bytes) -> bool:
        oif = attributes(body, RTMSG.size).get(RTA_OIF)
        return oif is not None and U32.unpack(oif)[0] in self._others

    def _is_news(self, uses: Iterable[HostNetwork]) -> bool:
        """Whether the last look has not all of this."""
        found = self._found
        return found is None or any(is_anybody_s(each) and each not in found for each in uses)

    def _is_of_another_link(self, index: int, flags: int, body: bytes, *, is_gone: bool) -> bool:
        found = attributes(body, IFINFO.size)
        group = found.get(IFLA_GROUP)
        was_ours = index in self._ours
        if was_ours and is_gone:
            self._ours.discard(index)
            return False
        if group is None:
            return not was_ours
        is_ours = U32.unpack(group)[0] in self._groups
        if is_ours:
            self._ours.add(index)
            # It may have been somebody else's until now, and then something of it is in the last look.
            return not was_ours and self._has_seen(index)
        self._ours.discard(index)
        # Many notifications of a link do not concern its addresses.
        name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="surrogateescape")
        return is_gone or self._others.get(index) != (name, bool(flags & IFF_UP))

    def _has_seen(self, index: int) -> bool:
        with contextlib.suppress(OSError):
            name = socket.if_indextoname(index)
            return any(each.link == name for each in self._found or ())
        return True


def _filter(protocols: Iterable[int]) -> bytes:
    """Instructions that drop routes of routing daemons, unless they lead everywhere or take the place of a route."""
    return assemble(
        (
            (LOAD_HALF, TYPE, "", ""),
            (JUMP_EQUAL, socket.htons(RTM_NEWROUTE), "", "other"),
            (LOAD_HALF, FLAGS, "", ""),
            (JUMP_ANY_BIT, socket.htons(NLM_F_REPLACE), "accept", "protocol"),
            "other",
            (JUMP_EQUAL, socket.htons(RTM_DELROUTE), "", "accept"),
            "protocol",
            (LOAD_BYTE, ROUTE_PROTOCOL, "", ""),
            *((JUMP_EQUAL, each, "accept", "") for each in protocols),
            (LOAD_BYTE, ROUTE_LENGTH, "", ""),
            (JUMP_EQUAL, 0, "accept", "drop"),
        )
    )
