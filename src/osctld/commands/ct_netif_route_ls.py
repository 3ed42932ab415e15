"""List networks routed to containers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from osctld.core.command import Column, Example
from osctld.netif.command_parts import WHOSE
from osctld.netif.routed.listing import Routed, RoutedListCommand


class CtNetifRouteLs(RoutedListCommand, frozen=True, kw_only=True):
    """List routed networks: of all containers, of one, or of one interface.

    The next hop is shown if one was given.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif route ls myct01", "List the networks routed to one container"),
        Example("osctl ct netif route ls -o +origin", "List all routed networks with their origin"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        *WHOSE,
        Column("addr", "the network"),
        Column("via", "next hop, if not the container end", type=str | None),
        Column("origin", "automatic if it was added with an address and is removed with it, otherwise operator"),
    )
    usual: ClassVar[Mapping[str, Collection[Any]]] = {"via": (None,)}

    def rows_of(self, interface: Routed, version: int) -> Iterable[Mapping[str, Any]]:
        for route in interface.routes:
            if route.network.version == version:
                yield {
                    "addr": str(route.network),
                    "via": str(route.next_hop) if route.next_hop is not None else None,
                    "origin": "automatic" if route.is_automatic else "operator",
                }
