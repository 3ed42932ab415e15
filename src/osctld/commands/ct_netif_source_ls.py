"""List sources that are permitted to containers."""

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
)


class CtNetifSourceLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List networks that containers may send from although nothing is routed, of all containers, one, or one interface.

    What is routed to a container may be sent from as well; `ct netif route ls` lists that.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif source ls", "Who may send what is not routed to them"),
        Example("osctl ct netif source ls -H -o addr myct01 eth0", "Those of one interface, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = _COLUMNS

    container: Annotated[str | None, Argument("Container", metavar="ct", completes="container")] = None
    netif: Annotated[str | None, Argument("Interface", metavar="netif", completes="interface")] = None
    version: Annotated[
        int | None, Option(("-v", "--version"), "4|6", "Only of this IP version", choices=("4", "6"))
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        rows = tuple(
            {
                "pool": POOL,
                "ctid": container.name,
                "netif": interface.name,
                "version": version,
                "addr": str(source),
            }
            for container, interface in chosen_routed_interfaces(host, self.container, self.netif)
            for version in VERSIONS
            if self.version in (None, version)
            for source in interface.sources
            if source.version == version
        )
        shown = ("pool", "ctid", "netif", "version", "addr")[
            0 if self.container is None else 2 if self.netif is None else 3 :
        ]
        return Listing(columns=_COLUMNS, shown=shown, rows=rows)
