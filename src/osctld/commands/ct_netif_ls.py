"""List interfaces."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

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
from osctld.core.config.host import POOL, Container, Host, Interface
from osctld.netif.interface_type import interface_types, joined_columns, type_of

COLUMNS = (
    Column("pool"),
    Column("ctid"),
    Column("name", "name inside the container"),
    Column("index", "position among the container's interfaces", type=int),
    Column("type"),
    Column("link", "bridge that it is attached to; a routed interface has none", type=str | None),
    Column("veth", "name of the host end, while the container is running", type=str | None),
    *joined_columns(lambda kind: kind.columns),
)

#: Of a type that has not all columns.
_NOTHING = dict.fromkeys(column.name for column in COLUMNS)

_SHOWN = ("pool", "ctid", "name", "type", "link", "veth")


class CtNetifLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List the interfaces of all containers, or of one."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ls myct01", "List the interfaces of one container"),
        Example(
            "osctl ct netif ls -o +via,hwaddr",
            "List all interfaces with their interconnecting networks and MAC addresses",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    container: Annotated[str | None, Argument("Container", metavar="ct", completes="container")] = None
    type: Annotated[
        tuple[str, ...] | None,
        Option(
            ("-t", "--type"), "TYPES", "Only interfaces of these types", commas=True, keywords=tuple(interface_types())
        ),
    ] = None
    link: Annotated[
        tuple[str, ...] | None, Option(("-l", "--link"), "BRIDGES", "Only interfaces on these bridges", commas=True)
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        chosen = host.sorted_containers if self.container is None else [host.container(self.container)]
        rows = [
            interface_row(container, each, index=index, observed=observed)
            for container in chosen
            for index, each in enumerate(container.interfaces)
            if self.type is None or each.type_name in self.type
        ]
        if self.link is not None:
            rows = [row for row in rows if row["link"] in self.link]
        return Listing(columns=COLUMNS, shown=_SHOWN, rows=tuple(rows))


def interface_row(container: Container, interface: Interface, *, index: int, observed: Observed) -> dict[str, Any]:
    """All that is known of an interface, by the names of COLUMNS."""
    return {
        **_NOTHING,
        "pool": POOL,
        "ctid": container.name,
        "name": interface.name,
        "index": index,
        "type": interface.type_name,
        "veth": interface.link if observed.is_running(container.name) else None,
        **type_of(interface).listed(interface),
    }
