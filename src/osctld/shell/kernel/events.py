"""The kernel's notifications of changes in the host's namespace that others made.

Two sockets: one in the groups of rtnetlink, one in that of nftables. A filter in the kernel (classic BPF, bpf(4)) lets
through what can matter, so that neither our own plans of many routes nor routing daemons with full tables wake
anybody. Dropped there are:

- what we asked for ourselves: a notification carries the port of the socket that asked. Consequences that the kernel
  draws by itself, and changes of settings, carry port 0 and are heard, also when they are ours;
- routes of other tables, unless they are default routes;
- routes of others' protocols, unless they replace a route that was there, or are default routes or null routes, or are
  the kernel's own and somebody took them away, or are the first that a routing daemon brings by a link;
- IPv6 routes that the kernel took away by itself: it also reports the link that went down;
- neighbours, unless a program asked for the change, or they are permanent. The kernel's own are many.

The receive buffer is small: when more comes than it holds, the kernel says so, and looking at everything is cheaper
than reading it all.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from osctld.core.address.addresses import Network
from osctld.core.plan import packet_filter
from osctld.core.plan.kernel_state import MAIN_TABLE
from osctld.core.reconcile.kernel_events import ALL_LINKS, Heard, LinkNews
from osctld.shell.kernel.host_uses import ways
from osctld.shell.kernel.leading_links import NOT_LEARNED
from osctld.shell.kernel.netlink import NLM_F_REPLACE, U32, attributes, messages
from osctld.shell.kernel.netlink_listening import (
    ADD,
    ADD_INDEX,
    AND,
    FLAGS,
    INDEX,
    INDEX_VALUE,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    LARGEST_DATAGRAM,
    LOAD_BYTE,
    LOAD_BYTE_BEHIND,
    LOAD_HALF,
    LOAD_VALUE,
    LOAD_WORD,
    LOAD_WORD_BEHIND,
    NEIGHBOUR_STATE,
    PLACE_OF_ATTRIBUTE,
    PORT,
    ROUTE_ATTRIBUTES,
    ROUTE_FAMILY,
    ROUTE_LENGTH,
    ROUTE_PROTOCOL,
    ROUTE_TABLE,
    ROUTE_TYPE,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_NETCONF,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_LINK,
    RTNLGRP_NEIGH,
    TYPE,
    Step,
    assemble,
    attach,
    listening,
)
from osctld.shell.kernel.nfnetlink import NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES, NFPROTO
from osctld.shell.kernel.routing_rules import RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE
from osctld.shell.kernel.rtnetlink import (
    FAMILY,
    I32,
    IFADDR,
    IFF_UP,
    IFINFO,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_MTU,
    NDMSG,
    NUD_PERMANENT,
    NULL_TYPES,
    RTA_DST,
    RTA_MULTIPATH,
    RTA_OIF,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTMSG,
    RTPROT_KERNEL,
)
from osctld.shell.process.pidfds import wait_readable

#: linux/include/uapi/linux/netconf.h
RTM_NEWNETCONF, NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL = 80, 1, -1
#: linux/include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h. The name of the table is the first attribute of every
#: kinds of message about a table or its contents; another kind says that a whole transaction is done.
NFNLGRP_NFTABLES, NFTA_TABLE, NFT_MSG_NEWGEN = 7, 1, 15
#: linux/include/uapi/linux/rtnetlink.h
RTM_NEWRULE, RTM_DELRULE = 32, 33
#: Of so many links, and of so many hops of a route, it is looked at who brings routes: jumps in a filter are short.
MOST_LEARNED_ON, _HOPS = 16, 4
_ATTRIBUTE_HEADER = 4
#: More messages than the buffer holds: the end of reading when others write as fast as we read.
_MOST_AT_ONCE = 10_000

#: struct netconfmsg with its padding, struct nfgenmsg.
_NETCONFMSG_SIZE, _NFGENMSG_SIZE = 4, 4

_VERSION = {family: version for version, family in FAMILY.items()}
#: The families of our tables.
_TABLE_FAMILIES = frozenset(NFPROTO.values())
_TABLE_NAME = packet_filter.NAME.encode() + b"\0"


class KernelEvents:
    """Listens in the network namespace in which it is made, from then on."""

    def __init__(
        self, *, own_rtnetlink: Iterable[int], own_netfilter: Iterable[int], route_protocols: Iterable[int]
    ) -> None:
        """The ports are those of sockets whose requests are not reported; the protocols those of our routes."""
        self._own_rtnetlink, self._protocols = tuple(own_rtnetlink), tuple(route_protocols)
        self._hears_all_removals = False
        self._learned_on: frozenset[int] = frozenset()
        self._rtnetlink = listening(
            socket.NETLINK_ROUTE,
            (
                *(RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR),
                *(RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF),
                *(RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE),
            ),
            rtnetlink_filter(self._own_rtnetlink, self._protocols),
        )
        self._netfilter = listening(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,), netfilter_filter(own_netfilter))
        self._both = select.epoll()
        for each in (self._rtnetlink, self._netfilter):
            self._both.register(each, select.EPOLLIN)
        self._buffer = bytearray(LARGEST_DATAGRAM)

    def close(self) -> None:
        self._both.close()
        self._rtnetlink.close()
        self._netfilter.close()

    def hear_all_removals(self, *, is_wanted: bool) -> None:
        """From now on hear of routes of all protocols that are removed, or of ours alone."""
        if is_wanted != self._hears_all_removals:
            self._hears_all_removals = is_wanted
            self._attach()

    def hear_learned_on(self, links: Iterable[str]) -> bool:
        """From now on hear of routes by these links that routing daemons add; whether some of the links are new.

        Of very many links some are heard of: the instructions of a filter are limited.
        """
        numbers = []
        for link in links:
            with contextlib.suppress(OSError):  # it has just gone
                numbers.append(socket.if_nametoindex(link))
        wanted = frozenset(sorted(numbers)[:MOST_LEARNED_ON])
        before, self._learned_on = self._learned_on, wanted
        if wanted != before:
            self._attach()
        return not wanted <= before

    def _attach(self) -> None:
        code = rtnetlink_filter(
            self._own_rtnetlink,
            self._protocols,
            all_removals=self._hears_all_removals,
            learned_on=sorted(self._learned_on),
        )
        attach(self._rtnetlink, code)

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until there is something to read; False when the time is over."""
        return await wait_readable(self._both.fileno(), timeout_seconds=timeout_seconds)

    def read(self) -> Heard:
        """All that came since the last time; nothing is waited for.

        Numbers of links are turned into the names that they have now, by the namespace of the caller, which is to be
        the one that is listened in.
        """
        news = _News()
        for through, note in ((self._rtnetlink, news.note_rtnetlink), (self._netfilter, news.note_netfilter)):
            for _ in range(_MOST_AT_ONCE):
                try:
                    size = through.recv_into(self._buffer)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    news.was_lost = True
                    continue
                if not news.was_lost:
                    note(self._buffer, size)
        return news.heard()


class _News:
    """What was read so far, links by their numbers."""

    def __init__(self) -> None:
        self.links: set[LinkNews] = set()
        self.touched: set[int] = set()
        self.settings: set[int] = set()
        self.networks: set[Network] = set()
        self.is_filter_changed = False
        self.are_rules_changed = False
        self.was_lost = False

    def heard(self) -> Heard:
        names = {number: _name(number) for number in self.touched | self.settings}
        return Heard(
            links=frozenset(self.links),
            changed_on=frozenset(name for number in self.touched if (name := names[number])),
            settings_of=frozenset(name for number in self.settings if (name := names[number])),
            networks=frozenset(self.networks),
            is_filter_changed=self.is_filter_changed,
            are_rules_changed=self.are_rules_changed,
            was_lost=self.was_lost,
        )

    def note_rtnetlink(self, data: bytearray, size: int) -> None:
        for length, kind, _, _, offset in messages(data, size):
            body = bytes(data[offset + 16 : offset + length])
            if kind in (RTM_NEWLINK, RTM_DELLINK):
                self._note_link(body, is_gone=kind == RTM_DELLINK)
            elif kind in (RTM_NEWADDR, RTM_DELADDR):
                self.touched.add(IFADDR.unpack_from(body)[4])
            elif kind in (RTM_NEWROUTE, RTM_DELROUTE):
                self._note_route(body)
            elif kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
                self.touched.add(NDMSG.unpack_from(body)[1])
            elif kind in (RTM_NEWRULE, RTM_DELRULE):
                self.are_rules_changed = True
            elif kind == RTM_NEWNETCONF:
                number = attributes(body, _NETCONFMSG_SIZE).get(NETCONFA_IFINDEX)
                if number is not None:
                    self.settings.add(I32.unpack(number)[0])

    def _note_link(self, body: bytes, *, is_gone: bool) -> None:
        family, _, index, flags, _ = IFINFO.unpack_from(body)
        found = attributes(body, IFINFO.size)
        if family != socket.AF_UNSPEC or IFLA_IFNAME not in found:
            return  # what a bridge, or IPv6, has to say of a link
        self.links.add(
            LinkNews(
                index=index,
                name=found[IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape"),
                group=_u32(found, IFLA_GROUP),
                mtu=_u32(found, IFLA_MTU),
                is_up=bool(flags & IFF_UP),
                is_gone=is_gone,
            )
        )

    def _note_route(self, body: bytes) -> None:
        family, length, *_ = RTMSG.unpack_from(body)
        if family not in _VERSION:
            return
        found = attributes(body, RTMSG.size)
        self.networks.add(Network(_VERSION[family], int.from_bytes(found.get(RTA_DST, b""), "big"), length))
        self.touched.update(link for link, _ in ways(found))

    def note_netfilter(self, data: bytearray, size: int) -> None:
        if self.is_filter_changed or data.find(_TABLE_NAME, 0, size) < 0:
            return  # most of it is others' rules
        for length, _, _, _, offset in messages(data, size):
            family = data[offset + 16]
            found = attributes(bytes(data[offset + 16 + _NFGENMSG_SIZE : offset + length]))
            if family in _TABLE_FAMILIES and found.get(NFTA_TABLE) == _TABLE_NAME:
                self.is_filter_changed = True


def _name(number: int) -> str:
    """The name of a link; empty for one that is gone, which its own message tells."""
    if number == NETCONFA_IFINDEX_ALL:
        return ALL_LINKS
    try:
        return socket.if_indextoname(number)
    except (OSError, OverflowError):
        return ""


# --- filters -----------------------------------------------------------------------------------------------------


def rtnetlink_filter(
    own_ports: Iterable[int],
    route_protocols: Iterable[int],
    *,
    all_removals: bool = False,
    learned_on: Sequence[int] = (),
) -> bytes:
    """Instructions that let through what the top of this file says. The kernel gives messages to it one by one.

    `learned_on`: numbers of the links by which routes of routing daemons are let through.
    """
    return assemble(
        (
            (LOAD_WORD, PORT, "", ""),
            *((JUMP_EQUAL, socket.htonl(each), "drop", "") for each in own_ports),
            (LOAD_HALF, TYPE, "", ""),
            (JUMP_EQUAL, socket.htons(RTM_NEWROUTE), "new route", ""),
            (JUMP_EQUAL, socket.htons(RTM_DELROUTE), "any protocol" if all_removals else "gone route", ""),
            (JUMP_EQUAL, socket.htons(RTM_NEWNEIGH), "neighbour", ""),
            (JUMP_EQUAL, socket.htons(RTM_DELNEIGH), "neighbour", "accept"),
            "gone route",
            (LOAD_WORD, PORT, "", ""),
            (JUMP_EQUAL, 0, "", "taken route"),
            (LOAD_BYTE, ROUTE_FAMILY, "", ""),
            (JUMP_EQUAL, FAMILY[6], "drop", "route"),
            "taken route",
            (LOAD_BYTE, ROUTE_PROTOCOL, "", ""),
            (JUMP_EQUAL, RTPROT_KERNEL, "any protocol", "route"),
            "new route",
            (LOAD_HALF, FLAGS, "", ""),
            (JUMP_ANY_BIT, socket.htons(NLM_F_REPLACE), "any protocol", "route"),
            "route",
            (LOAD_BYTE, ROUTE_TYPE, "", ""),
            *((JUMP_EQUAL, each, "any protocol", "") for each in NULL_TYPES),
            (LOAD_BYTE, ROUTE_PROTOCOL, "", ""),
            *((JUMP_EQUAL, each, "any protocol", "") for each in route_protocols),
            (LOAD_BYTE, ROUTE_LENGTH, "", ""),
            (JUMP_EQUAL, 0, "accept", ""),
            *_learned(learned_on),
            (JUMP_EQUAL, 0, "drop", "drop"),
            "any protocol",
            (LOAD_BYTE, ROUTE_TABLE, "", ""),
            (JUMP_EQUAL, MAIN_TABLE, "accept", "drop"),
            "neighbour",
            (LOAD_WORD, PORT, "", ""),
            (JUMP_EQUAL, 0, "", "accept"),
            (LOAD_HALF, NEIGHBOUR_STATE, "", ""),
            (JUMP_ANY_BIT, socket.htons(NUD_PERMANENT), "accept", "drop"),
        )
    )


def _learned(links: Sequence[int]) -> Iterator[Step]:
    """Accept a route that a routing daemon adds by one of these links. What is loaded before and behind is lost."""
    if not links:
        return
    accept_those = [(JUMP_EQUAL, socket.htonl(each), "accept", "") for each in links]
    yield LOAD_HALF, TYPE, "", ""
    yield JUMP_EQUAL, socket.htons(RTM_NEWROUTE), "", "drop"
    yield LOAD_BYTE, ROUTE_PROTOCOL, "", ""
    yield from ((JUMP_EQUAL, each, "drop", "") for each in sorted(NOT_LEARNED))
    yield LOAD_VALUE, ROUTE_ATTRIBUTES, "", ""
    yield INDEX_VALUE, RTA_OIF, "", ""
    yield LOAD_WORD, PLACE_OF_ATTRIBUTE, "", ""
    yield JUMP_EQUAL, 0, "several hops", ""
    yield INDEX, 0, "", ""
    yield LOAD_WORD_BEHIND, _ATTRIBUTE_HEADER, "", ""
    yield from accept_those
    yield JUMP_EQUAL, 0, "drop", "drop"
    yield "several hops"
    yield LOAD_VALUE, ROUTE_ATTRIBUTES, "", ""
    yield INDEX_VALUE, RTA_MULTIPATH, "", ""
    yield LOAD_WORD, PLACE_OF_ATTRIBUTE, "", ""
    yield JUMP_EQUAL, 0, "drop", ""
    yield ADD, _ATTRIBUTE_HEADER, "", ""
    yield INDEX, 0, "", ""
    for _ in range(_HOPS):
        # struct rtnexthop: its length, of which the lower byte says all, flags, weight, and the link's number.
        yield LOAD_WORD_BEHIND, 4, "", ""
        yield from accept_those
        yield LOAD_BYTE_BEHIND, 0 if sys.byteorder == "little" else 1, "", ""
        yield ADD, 3, "", ""
        yield AND, 0xFFFFFFFC, "", ""
        yield ADD_INDEX, 0, "", ""
        yield INDEX, 0, "", ""


def netfilter_filter(own_ports: Iterable[int]) -> bytes:
    """Instructions that drop what came of requests of these ports. Messages of one transaction come many at once."""
    return assemble(
        (
            (LOAD_WORD, PORT, "", ""),
            *((JUMP_EQUAL, socket.htonl(each), "drop", "") for each in own_ports),
            (LOAD_HALF, TYPE, "", ""),
            (JUMP_EQUAL, socket.htons(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN), "drop", "accept"),
        )
    )


def _u32(found: Mapping[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(U32.unpack(value)[0]) if value else 0
