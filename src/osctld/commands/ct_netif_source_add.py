"""Permit sources that are not routed to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import Network
from osctld.core.command import ContainerName, EditCommand, Edited, Example, Flag, InterfaceName
from osctld.core.host import Host
from osctld.netif.routed import routed_interface
from osctld.netif.routed_commands import words_to_add


class CtNetifSourceAdd(EditCommand, frozen=True, kw_only=True):
    """Let a container send from networks although nothing of them is routed to it: a router, a VPN gateway.

    Host bits are dropped. A source is a permission and no holding: the host gets no route to it, nothing is announced,
    and others may be given the network. --force permits what another container or the host uses, and with 0.0.0.0/0 or
    ::/0 everything but the host's own addresses.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif source add myct01 eth0 100.64.0.0/10 2001:db8:64::/48",
            "Let a VPN gateway forward what its clients send",
        ),
        Example("osctl ct netif source add --force myct01 eth0 0.0.0.0/0", "Switch the check of IPv4 sources off"),
    )

    container: ContainerName
    netif: InterfaceName
    networks: Annotated[tuple[str, ...], words_to_add("Networks", "network")]
    force: Annotated[
        bool, Flag(("-f", "--force"), "Also what another container or the host uses, and everything")
    ] = False

    @property
    def looks_at_host(self) -> bool:
        return not self.force

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        draft = interface.draft()
        for text in self.networks:
            network = Network.parse(text)
            draft.permit(network, typed=text, is_forced=self.force)
            if not self.force:
                host.check_unused(network, container=container.name)
        return Edited(host.with_container(container.with_interface(interface.with_draft(draft))), container.name)
