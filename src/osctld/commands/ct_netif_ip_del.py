"""Take addresses away."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Edited, Example, Flag
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif.addressed import addressed_interface
from osctld.netif.command_parts import PartsDelCommand, words_to_take


class CtNetifIpDel(PartsDelCommand, frozen=True, kw_only=True):
    """Remove addresses from an interface, and the routes that were added with them.

    A route stays if another assigned address needs it, or if the operator added it. Routes whose next hop is one of the
    addresses are removed as well, and listed.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip del myct01 eth0 1.2.3.4", "Remove an address, and the route that was added with it"),
        Example("osctl ct netif ip del -v 6 myct01 eth0 all", "Remove all IPv6 addresses"),
    )

    addresses: Annotated[tuple[str, ...], words_to_take("Addresses", "addr", completes="address")]
    keep_route: Annotated[
        bool, Flag(("--keep-route",), "Keep the routes; their origin becomes operator", negatable=True)
    ] = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        interface, edits = addressed_interface(container, self.netif)
        chosen = self.chosen(
            self.addresses, edits.assigned(interface), lambda texts: edits.find(interface, texts)
        )
        after, messages = edits.take(interface, [address for _, address in chosen], keep_route=self.keep_route)
        return Edited(host.with_container(container.with_interface(after)), container.name, messages=messages)
