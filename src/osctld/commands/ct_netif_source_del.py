"""Permit sources no longer."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import Network
from osctld.core.command import Edited, Example
from osctld.core.host import Host
from osctld.netif.routed import routed_interface
from osctld.netif.routed_commands import RoutedDelCommand, words_to_take


class CtNetifSourceDel(RoutedDelCommand, frozen=True, kw_only=True):
    """Permit sources no longer: what comes from there and is not routed to the container is dropped again."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif source del myct01 eth0 203.0.113.0/24", "Permit one network no longer"),
        Example("osctl ct netif source del -v 6 myct01 eth0 all", "Check all IPv6 sources again"),
    )

    networks: Annotated[tuple[str, ...], words_to_take("Networks", "network", completes="source")]

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        draft = interface.draft()
        for typed, network in self.chosen(self.networks, interface.sources, lambda texts: map(Network.parse, texts)):
            draft.forbid(network, typed=typed)
        return Edited(host.with_container(container.with_interface(interface.with_draft(draft))), container.name)
