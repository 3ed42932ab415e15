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
from osctld.core.host import POOL, Container, Host, Interface
from osctld.netif.routed import RoutedInterface

COLUMNS = (
    Column("pool"),
    Column("ctid"),
    Column("name", "inside the container"),
    Column("index", "position among the container's interfaces", type=int),
    Column("type"),
    Column("link", "bridge that it is on; routed interfaces are on none", type=str | None),
    Column("veth", "host's end, while the container runs", type=str | None),
    Column("via", "interconnecting networks by IP version", type=dict[str, str] | None),
    Column("hwaddr", "MAC address inside", type=str | None),
    Column("mtu", "of both ends, if it was chosen", type=int | None),
    Column("guest", "what becomes of changes made inside: report, enforce or once"),
    Column("public", "IP versions whose interconnecting network the world may reach", type=list[int] | None),
)

_SHOWN = ("pool", "ctid", "name", "type", "link", "veth")


class CtNetifLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List interfaces, of all containers or of one."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ls myct01", "The interfaces of one container"),
        Example(
            "osctl ct netif ls -o +via,hwaddr",
            "All interfaces, with their interconnecting networks and MAC addresses",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    container: Annotated[str | None, Argument("Container", metavar="ct", completes="container")] = None
    type: Annotated[
        tuple[str, ...] | None, Option(("-t", "--type"), "TYPES", "Only of these types", commas=True)
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        chosen = host.sorted_containers if self.container is None else [host.container(self.container)]
        rows = [
            interface_row(container, each, index=index, observed=observed)
            for container in chosen
            for index, each in enumerate(container.interfaces)
            if self.type is None or each.type_name in self.type
        ]
        return Listing(columns=COLUMNS, shown=_SHOWN, rows=tuple(rows))


def interface_row(container: Container, interface: Interface, *, index: int, observed: Observed) -> dict[str, Any]:
    """All that is known of an interface, by the names of COLUMNS."""
    routed = interface if isinstance(interface, RoutedInterface) else None
    return {
        "pool": POOL,
        "ctid": container.name,
        "name": interface.name,
        "index": index,
        "type": interface.type_name,
        "link": None,
        "veth": interface.link if observed.is_running(container.name) else None,
        "via": {str(version): str(via.network) for version, via in routed.vias.items()} if routed else None,
        "hwaddr": routed.mac if routed else None,
        "mtu": routed.mtu if routed else None,
        "guest": interface.guest_policy.value,
        "public": [version for version, via in sorted(routed.vias.items()) if via.is_public] if routed else None,
    }
