"""Route networks to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ContainerName, EditCommand, Edited, Example, OnlyInterface, Option
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif.command_parts import words_to_add
from osctld.netif.link_options import Delegate, Force, OverlapHost
from osctld.netif.routed.interface import routed_interface


class CtNetifRouteAdd(EditCommand, frozen=True, kw_only=True):
    """Route networks to a container through an interface, without assigning any address.

    Host bits are cleared. A route that was added automatically with an address becomes the operator's, and then
    outlives the address. With --via, the route is removed together with the address that is its next hop.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif route add myct01 eth0 198.51.100.0/24 2001:db8:2:100::/64",
            "Route two networks to the container",
        ),
        Example(
            "osctl ct netif route add --via 1.2.3.4 myct01 eth0 10.5.6.0/24",
            "Route a network through one of the container's addresses",
        ),
    )

    container: ContainerName
    netif: OnlyInterface = None
    networks: Annotated[tuple[str, ...], words_to_add("Networks", "network")]
    via: Annotated[
        str | None,
        Option(
            ("--via", "--next-hop"),
            "ADDR",
            "Next hop: an address assigned to the interface, in place of the container end",
            completes="address",
        ),
    ] = None
    delegate: Delegate = False
    overlap_host: OverlapHost = False
    force: Force = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        interface = routed_interface(before, self.netif)
        next_hop = interface.next_hop(self.via) if self.via is not None else None
        draft = interface.draft()
        draft.route_all(self.networks, next_hop=next_hop)
        after = before.with_interface(interface.with_draft(draft))
        is_delegation_allowed = self.force or self.delegate
        if is_delegation_allowed:
            surroundings.check_delegation(host, before, after)
        return Edited(
            host.with_container(after),
            after.name,
            is_delegation_allowed=is_delegation_allowed,
            is_overlap_allowed=self.force or self.overlap_host,
        )
