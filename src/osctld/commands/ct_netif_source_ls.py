"""List sources that are permitted to containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from osctld.core.command import Column, Example
from osctld.netif.routed import RoutedInterface
from osctld.netif.routed_commands import WHOSE, RoutedListCommand


class CtNetifSourceLs(RoutedListCommand, frozen=True, kw_only=True):
    """List networks that containers may send from although nothing is routed, of all containers, one, or one interface.

    What is routed to a container may be sent from as well; `ct netif route ls` lists that.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif source ls", "Who may send what is not routed to them"),
        Example("osctl ct netif source ls -H -o addr myct01 eth0", "Those of one interface, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = (*WHOSE, Column("addr", "the network"))

    def rows_of(self, interface: RoutedInterface, version: int) -> Iterable[Mapping[str, Any]]:
        return ({"addr": str(source)} for source in interface.sources if source.version == version)
