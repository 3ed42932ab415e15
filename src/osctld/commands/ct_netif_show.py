"""Show one interface."""

from __future__ import annotations

from typing import Any, ClassVar

from osctld.commands.ct_netif_ls import COLUMNS, interface_row
from osctld.core.addresses import VERSIONS
from osctld.core.command import (
    Column,
    ContainerName,
    Example,
    InterfaceName,
    Listing,
    Observed,
    Reply,
    ShowOptions,
    ViewCommand,
)
from osctld.core.host import Host
from osctld.netif.routed import routed_interface

_COLUMNS = (
    *COLUMNS,
    Column("host_link", "name of the host's end, also while the container is stopped"),
    Column("host_addr", "the host's ends of the interconnecting networks", type=dict[str, str]),
    Column("ct_addr", "the container's ends of the interconnecting networks", type=dict[str, str]),
    Column("source", "addresses that the container speaks from", type=dict[str, str]),
    Column("addresses", "assigned, in the operator's order", type=list[str]),
    Column("routes", "networks routed to the container", type=list[str]),
    Column("sources", "networks that may be sent from although nothing is routed", type=list[str]),
    Column("dropped_spoofed", "packets from sources that are not its own, since it started", type=int | None),
    Column("dropped_bounced", "packets that would go back by the link they came from", type=int | None),
    Column("rejected_private", "packets between a private interconnecting network and the world", type=int | None),
    Column("passed_permitted", "packets that passed because their source is among sources", type=int | None),
)


class CtNetifShow(ViewCommand, ShowOptions, frozen=True, kw_only=True):
    """Show all that is known of one interface."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "show")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif show myct01 eth0", "All that is known of an interface"),
        Example("osctl ct netif show -H -o source myct01 eth0", "The addresses that the container speaks from"),
    )
    columns: ClassVar[tuple[Column, ...]] = _COLUMNS

    container: ContainerName
    netif: InterfaceName

    def view(self, host: Host, observed: Observed) -> Reply:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        versions = [version for version in VERSIONS if version in interface.vias]
        row = {
            **interface_row(
                container, interface, index=container.interfaces.index(interface), observed=observed
            ),
            "host_link": interface.link,
            "host_addr": {str(version): str(interface.vias[version].host_address) for version in versions},
            "ct_addr": {str(version): str(interface.vias[version].container_address) for version in versions},
            "source": {str(version): str(interface.source(version)) for version in versions},
            "addresses": [str(each) for each in interface.addresses],
            "routes": [str(each.network) for each in interface.routes],
            "sources": [str(each) for each in interface.sources],
            **_counted(interface.link, observed if observed.is_running(container.name) else None),
        }
        return Listing(columns=_COLUMNS, shown=tuple(each.name for each in _COLUMNS), rows=(row,), is_record=True)


def _counted(link: str, observed: Observed | None) -> dict[str, Any]:
    """What the packet filter counted; nothing is known of a link that is not there."""
    columns = {
        "dropped_spoofed": "spoofed",
        "dropped_bounced": "bounced",
        "rejected_private": "rejected",
        "passed_permitted": "permitted",
    }
    if observed is None or observed.counted is None:
        return dict.fromkeys(columns)
    counted = observed.counted(link)
    return {column: counted.get(name, 0) for column, name in columns.items()}
