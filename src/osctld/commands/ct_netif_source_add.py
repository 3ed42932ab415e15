"""Permit sources that are not routed to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.command import ContainerName, EditCommand, Edited, Example, Flag, OnlyInterface
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif.command_parts import words_to_add
from osctld.netif.routed.interface import routed_interface


class CtNetifSourceAdd(EditCommand, frozen=True, kw_only=True):
    """Allow additional source prefixes, for a router or VPN gateway that forwards packets from networks not routed to
    it.

    Host bits are cleared. This is a permission, not a holding: the host gets no route to the network, nothing is
    announced, and the network may still be assigned to others. --allow-foreign-source permits networks that another
    container or the host uses, and 0.0.0.0/0 or ::/0, which stand for everything but the host's own addresses.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif source add myct01 eth0 100.64.0.0/10 2001:db8:64::/48",
            "Let a VPN gateway forward its clients' packets",
        ),
        Example(
            "osctl ct netif source add --allow-foreign-source myct01 eth0 0.0.0.0/0",
            "Disable the source check for IPv4",
        ),
    )

    container: ContainerName
    netif: OnlyInterface = None
    networks: Annotated[tuple[str, ...], words_to_add("Networks", "network")]
    force: Annotated[
        bool,
        Flag(
            ("-f", "--force", "--allow-foreign-source"),
            "Allow networks that another container or the host uses, and 0.0.0.0/0 or ::/0",
        ),
    ] = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        draft = interface.draft()
        for text in self.networks:
            network = Network.parse(text)
            draft.permit(network, typed=text, is_forced=self.force)
            if not self.force:
                surroundings.check_unused(network, container=container.name)
        return Edited(host.with_container(container.with_interface(interface.with_draft(draft))), container.name)
