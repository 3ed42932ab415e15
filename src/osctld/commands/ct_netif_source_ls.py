"""List sources that are permitted to containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from osctld.core.command import Column, Example
from osctld.netif.command_parts import WHOSE
from osctld.netif.routed.listing import Routed, RoutedListCommand


class CtNetifSourceLs(RoutedListCommand, frozen=True, kw_only=True):
    """List additional allowed source prefixes: of all containers, of one, or of one interface.

    A container may also send from the networks that are routed to it: see `ct netif route ls`.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif source ls", "List all additional allowed source prefixes"),
        Example("osctl ct netif source ls -H -o addr myct01 eth0", "List those of one interface, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = (*WHOSE, Column("addr", "the network"))

    def rows_of(self, interface: Routed, version: int) -> Iterable[Mapping[str, Any]]:
        return ({"addr": str(source)} for source in interface.sources if source.version == version)
