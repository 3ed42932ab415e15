"""List networks routed to containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from osctld.core.command import Column, Example
from osctld.netif.routed import RoutedInterface
from osctld.netif.routed_commands import WHOSE, RoutedListCommand


class CtNetifRouteLs(RoutedListCommand, frozen=True, kw_only=True):
    """List networks routed to containers, of all containers, one, or one interface.

    The next hop is shown when one was chosen.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif route ls myct01", "What is routed to one container"),
        Example("osctl ct netif route ls -o +origin", "All, and whether it came with an address"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        *WHOSE,
        Column("addr", "the network"),
        Column("via", "next hop, where it is not the container end", type=str | None),
        Column("origin", "automatic when it came with an address and goes with it, else operator"),
    )
    usual: ClassVar[Mapping[str, Any]] = {"via": None}

    def rows_of(self, interface: RoutedInterface, version: int) -> Iterable[Mapping[str, Any]]:
        for route in interface.routes:
            if route.network.version == version:
                yield {
                    "addr": str(route.network),
                    "via": str(route.next_hop) if route.next_hop is not None else None,
                    "origin": "automatic" if route.is_automatic else "operator",
                }
