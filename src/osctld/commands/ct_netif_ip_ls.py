"""List assigned addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from osctld.core.command import Column, Example
from osctld.netif.routed.commands import WHOSE, Routed, RoutedListCommand


class CtNetifIpLs(RoutedListCommand, frozen=True, kw_only=True):
    """List assigned addresses, in the operator's order: of all containers, of one, or of one interface.

    The state is shown if an address is unrouted, unless the header is hidden.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip ls", "List all addresses of all containers"),
        Example(
            "osctl ct netif ip ls -H -o addr -v 4 myct01 eth0",
            "List the IPv4 addresses of one interface, for a script",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        *WHOSE,
        Column("addr"),
        Column("state", "routed, or unrouted if no route covers it", marks={"unrouted": "doubtful"}),
    )
    usual: ClassVar[Mapping[str, Any]] = {"state": "routed"}

    def rows_of(self, interface: Routed, version: int) -> Iterable[Mapping[str, Any]]:
        for address in interface.addresses:
            if address.version == version:
                yield {
                    "addr": str(address),
                    "state": "routed" if interface.is_routed(address) else "unrouted",
                }
