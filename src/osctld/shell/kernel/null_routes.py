"""Null routes of others in the host's main table: looked at once, then again only when one came or went.

As in `osctld.shell.kernel.host_networks`, an answer is as true as a look would be, and costs nothing while nothing
changes: the kernel drops notifications of all other routes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from osctld.core.authority.null_routes import NullRoute
from osctld.core.plan.kernel_state import MAIN_TABLE
from osctld.shell.kernel import rtnetlink_dumps
from osctld.shell.kernel.netlink import NLM_F_REPLACE, NetlinkSocket
from osctld.shell.kernel.netlink_listening import (
    FLAGS,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    LARGEST_DATAGRAM,
    LOAD_BYTE,
    LOAD_HALF,
    ROUTE_TABLE,
    ROUTE_TYPE,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_ROUTE,
    assemble,
    listening,
    was_told,
)
from osctld.shell.kernel.rtnetlink import NULL_TYPES


class NullRoutes:
    """Answers in the network namespace in which it is made."""

    def __init__(self, *, own_protocols: Iterable[int]) -> None:
        """Routes of the protocols are ours. Raises OSError if the kernel does not answer."""
        self._own = frozenset(own_protocols)
        self._news = listening(socket.NETLINK_ROUTE, (RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE), _filter())
        self._buffer = bytearray(LARGEST_DATAGRAM)
        self._found: tuple[NullRoute, ...] | None = None
        self._found_own: tuple[NullRoute, ...] = ()

    def close(self) -> None:
        self._news.close()

    def present(self, through: NetlinkSocket) -> tuple[NullRoute, ...]:
        """All of them, default routes left out: those say nothing of one network. Raises OSError."""
        if was_told(self._news, self._buffer):
            self._found = None
        if self._found is None:
            found = rtnetlink_dumps.null_routes(through)
            some = [each for each in found if each.network.length]
            self._found = tuple(each for each in some if each.protocol not in self._own)
            self._found_own = tuple(each for each in some if each.protocol in self._own)
        return self._found

    def own(self, through: NetlinkSocket) -> tuple[NullRoute, ...]:
        """Those of our protocols. Raises OSError."""
        self.present(through)
        return self._found_own


def _filter() -> bytes:
    """Instructions that let through null routes of the main table, and whatever takes the place of a route there."""
    return assemble(
        (
            (LOAD_BYTE, ROUTE_TABLE, "", ""),
            (JUMP_EQUAL, MAIN_TABLE, "", "drop"),
            (LOAD_HALF, FLAGS, "", ""),
            (JUMP_ANY_BIT, socket.htons(NLM_F_REPLACE), "accept", ""),
            (LOAD_BYTE, ROUTE_TYPE, "", ""),
            *((JUMP_EQUAL, each, "accept", "") for each in NULL_TYPES),
            (JUMP_EQUAL, 0, "drop", "drop"),
        )
    )
