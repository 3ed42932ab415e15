"""Permit sources no longer."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.command import Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif.command_parts import PartsDelCommand, words_to_take
from osctld.netif.routed.interface import routed_interface


class CtNetifSourceDel(PartsDelCommand, frozen=True, kw_only=True):
    """Remove additional allowed source prefixes.

    Packets from these networks are dropped again, unless they are routed to the container.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif source del myct01 eth0 203.0.113.0/24", "Remove one prefix"),
        Example("osctl ct netif source del -v 6 myct01 eth0 all", "Remove all IPv6 prefixes"),
    )

    networks: Annotated[tuple[str, ...], words_to_take("Networks", "network", completes="source")]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        draft = interface.draft()
        for typed, network in self.chosen(self.networks, interface.sources, lambda texts: map(Network.parse, texts)):
            draft.forbid(network, typed=typed)
        return Edited(host.with_container(container.with_interface(interface.with_draft(draft))), container.name)
