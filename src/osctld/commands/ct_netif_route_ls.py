"""List networks routed to containers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import VERSIONS
from osctld.core.command import (
    Argument,
    Column,
    Example,
    Listing,
    ListOptions,
    Observed,
    Option,
    Reply,
    ViewCommand,
)
from osctld.core.host import POOL, Host
from osctld.netif.routed import chosen_routed_interfaces

_COLUMNS = (
    Column("pool"),
    Column("ctid"),
    Column("netif"),
    Column("version", "of IP", type=int),
    Column("addr", "the network"),
    Column("via", "next hop, where it is not the container end", type=str | None),
    Column("origin", "automatic when it came with an address and goes with it, else operator"),
)


class CtNetifRouteLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List networks routed to containers, of all containers, one, or one interface.

    The next hop is shown when one was chosen.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif route ls myct01", "What is routed to one container"),
        Example("osctl ct netif route ls -o +origin", "All, and whether it came with an address"),
    )
    columns: ClassVar[tuple[Column, ...]] = _COLUMNS

    container: Annotated[str | None, Argument("Container", metavar="ct", completes="container")] = None
    netif: Annotated[str | None, Argument("Interface", metavar="netif", completes="interface")] = None
    version: Annotated[
        int | None, Option(("-v", "--version"), "4|6", "Only of this IP version", choices=("4", "6"))
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        rows = [
            {
                "pool": POOL,
                "ctid": container.name,
                "netif": interface.name,
                "version": version,
                "addr": str(route.network),
                "via": str(route.next_hop) if route.next_hop is not None else None,
                "origin": "automatic" if route.is_automatic else "operator",
            }
            for container, interface in chosen_routed_interfaces(host, self.container, self.netif)
            for version in VERSIONS
            if self.version in (None, version)
            for route in interface.routes
            if route.network.version == version
        ]
        shown = ("pool", "ctid", "netif", "version", "addr")[
            0 if self.container is None else 2 if self.netif is None else 3 :
        ]
        if any(row["via"] is not None for row in rows):
            shown = (*shown, "via")
        return Listing(columns=_COLUMNS, shown=shown, rows=tuple(rows))
