"""Take addresses away."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Edited, Example, Flag
from osctld.core.host import Host
from osctld.netif.routed import routed_interface
from osctld.netif.routed_commands import RoutedDelCommand, words_to_take


class CtNetifIpDel(RoutedDelCommand, frozen=True, kw_only=True):
    """Take addresses from an interface, and the routes that came with them.

    A route stays when another assigned address needs it, or when the operator added it. Routes that have one of
    the addresses as next hop go too, and are named.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip del myct01 eth0 1.2.3.4", "Take an address away, and the route that came with it"),
        Example("osctl ct netif ip del -v 6 myct01 eth0 all", "Take away all IPv6 addresses"),
    )

    addresses: Annotated[tuple[str, ...], words_to_take("Addresses", "addr", completes="address")]
    keep_route: Annotated[
        bool, Flag(("--keep-route",), "Keep the routes, as the operator's own", negatable=True)
    ] = False

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        chosen = self.chosen(self.addresses, interface.addresses, interface.all_assigned)
        draft = interface.draft()
        broken = draft.take([address for _, address in chosen], keep_route=self.keep_route)
        return Edited(
            host.with_container(container.with_interface(interface.with_draft(draft))),
            container.name,
            messages=tuple(f"removed route {each.network} via {each.next_hop}" for each in broken),
        )
