"""List assigned addresses."""

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
    Column("addr"),
    Column("state", "routed, or unrouted when nothing leads to it", marks={"unrouted": "doubtful"}),
)


class CtNetifIpLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List assigned addresses in the operator's order, of all containers, one, or one interface.

    The state is shown when an address is unrouted.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip ls", "All addresses of all containers"),
        Example(
            "osctl ct netif ip ls -H -o addr -v 4 myct01 eth0",
            "The IPv4 addresses of one interface, for a script",
        ),
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
                "addr": str(address),
                "state": "routed" if interface.is_routed(address) else "unrouted",
            }
            for container, interface in chosen_routed_interfaces(host, self.container, self.netif)
            for version in VERSIONS
            if self.version in (None, version)
            for address in interface.addresses
            if address.version == version
        ]
        shown = ("pool", "ctid", "netif", "version", "addr")[
            0 if self.container is None else 2 if self.netif is None else 3 :
        ]
        if any(row["state"] == "unrouted" for row in rows):
            shown = (*shown, "state")
        return Listing(columns=_COLUMNS, shown=shown, rows=tuple(rows))
