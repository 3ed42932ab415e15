"""Route networks to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ContainerName, EditCommand, Edited, Example, Flag, InterfaceName, Option
from osctld.core.host import Host
from osctld.netif.routed import routed_interface
from osctld.netif.routed_commands import words_to_add


class CtNetifRouteAdd(EditCommand, frozen=True, kw_only=True):
    """Route networks to a container through an interface, without assigning an address of them.

    Host bits are dropped. A route that came with an address becomes the operator's and then outlives it. With
    --via the route goes with the address that is its next hop.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif route add myct01 eth0 198.51.100.0/24 2001:db8:2:100::/64",
            "Route two networks to the container, which uses them as it likes",
        ),
        Example(
            "osctl ct netif route add --via 1.2.3.4 myct01 eth0 10.5.6.0/24",
            "Name the next hop, one of the container's addresses",
        ),
    )

    container: ContainerName
    netif: InterfaceName
    networks: Annotated[tuple[str, ...], words_to_add("Networks", "network")]
    via: Annotated[
        str | None,
        Option(
            ("--via",),
            "ADDR",
            "Next hop: an address assigned there, instead of the container end",
            completes="address",
        ),
    ] = None
    force: Annotated[bool, Flag(("-f", "--force"), "Also inside a network of another container")] = False

    def edit(self, host: Host) -> Edited:
        before = host.container(self.container)
        interface = routed_interface(before, self.netif)
        next_hop = interface.next_hop(self.via) if self.via is not None else None
        draft = interface.draft()
        draft.route_all(self.networks, next_hop=next_hop)
        after = before.with_interface(interface.with_draft(draft))
        if self.force:
            host.check_delegation(before, after)
        return Edited(host.with_container(after), after.name, is_delegation_allowed=self.force)
