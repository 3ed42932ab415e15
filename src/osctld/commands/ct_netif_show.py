"""Show one interface."""

from __future__ import annotations

from typing import Any, ClassVar

from osctld.commands.ct_netif_ls import COLUMNS, interface_row
from osctld.core.command import (
    Column,
    ContainerName,
    Example,
    Listing,
    Observed,
    OnlyInterface,
    Reply,
    ShowOptions,
    ViewCommand,
)
from osctld.core.config.host import Host
from osctld.netif.interface_type import interface_types, joined_columns, type_of

_COLUMNS = (
    *COLUMNS,
    Column("host_link", "name of the host end, even while the container is stopped"),
    *joined_columns(lambda kind: kind.details),
    Column(
        "blocked",
        "routed networks for which other routes on the host take precedence",
        type=list[str],
    ),
    Column(
        "dropped_spoofed", "packets dropped for a forged source address since the container started", type=int | None
    ),
    Column("dropped_bridged", "packets dropped because somebody made the host end a bridge port", type=int | None),
    Column(
        "dropped_bounced", "packets dropped because they would leave through the link they arrived on", type=int | None
    ),
    Column(
        "dropped_neighbours",
        "packets dropped because they would have added an entry to the host's neighbour table",
        type=int | None,
    ),
    Column(
        "rejected_private",
        "packets rejected between a private interconnecting network and the world beyond the host",
        type=int | None,
    ),
    Column("passed_permitted", "packets accepted because of an additional allowed source", type=int | None),
)

#: Fields that some types have.
_OF_SOME_TYPE = frozenset(
    column.name for kind in interface_types().values() for column in (*kind.columns, *kind.details)
)


class CtNetifShow(ViewCommand, ShowOptions, frozen=True, kw_only=True):
    """Show one interface in detail."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "show")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif show myct01 eth0", "Show an interface in detail"),
        Example("osctl ct netif show -H -o source myct01 eth0", "The source address by IP version"),
    )
    columns: ClassVar[tuple[Column, ...]] = _COLUMNS

    container: ContainerName
    netif: OnlyInterface = None

    def view(self, host: Host, observed: Observed) -> Reply:
        container = host.container(self.container)
        interface = container.interface(self.netif)
        kind = type_of(interface)
        index = container.interfaces.index(interface)
        row = {
            **dict.fromkeys(column.name for column in _COLUMNS),
            **interface_row(container, interface, index=index, observed=observed),
            "host_link": interface.link,
            **kind.detailed(interface),
            "blocked": _blocked(container.name, interface.link, observed),
            **_counted(interface.link, observed if observed.is_running(container.name) else None),
        }
        of_others = _OF_SOME_TYPE - {column.name for column in (*kind.columns, *kind.details)}
        shown = tuple(each.name for each in _COLUMNS if each.name not in of_others)
        return Listing(columns=_COLUMNS, shown=shown, rows=(row,), is_record=True)


def _blocked(container: str, link: str, observed: Observed) -> list[str]:
    yielded = observed.yielded(container) if observed.yielded is not None else ()
    return [str(each.route.network) for each in yielded if each.route.link == link]


def _counted(link: str, observed: Observed | None) -> dict[str, Any]:
    """What the packet filter counted; nothing is known of a link that is not there."""
    columns = {
        "dropped_spoofed": "spoofed",
        "dropped_bridged": "bridged",
        "dropped_bounced": "bounced",
        "dropped_neighbours": "limited",
        "rejected_private": "rejected",
        "passed_permitted": "permitted",
    }
    if observed is None or observed.counted is None:
        return dict.fromkeys(columns)
    counted = observed.counted(link)
    return {column: counted.get(name, 0) for column, name in columns.items()}
