"""Stop routing networks to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.command import Edited, Example, Flag
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif.command_parts import PartsDelCommand, words_to_take
from osctld.netif.routed.interface import routed_interface


class CtNetifRouteDel(PartsDelCommand, frozen=True, kw_only=True):
    """Stop routing networks to a container.

    Refused if assigned addresses would be left unrouted, unless --leave-unrouted is given.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif route del myct01 eth0 10.5.5.0/24", "Stop routing one network"),
        Example(
            "osctl ct netif route del --leave-unrouted myct01 eth0 all",
            "Stop routing all networks, even if that leaves addresses unrouted",
        ),
    )

    networks: Annotated[tuple[str, ...], words_to_take("Networks", "network", completes="route")]
    force: Annotated[bool, Flag(("-f", "--force", "--leave-unrouted"), "Leave addresses unrouted")] = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        interface = before = routed_interface(container, self.netif)
        draft = interface.draft()
        present = (each.network for each in interface.routes)
        for typed, network in self.chosen(self.networks, present, lambda texts: map(Network.parse, texts)):
            draft.unroute(network, typed=typed)
        interface = interface.with_draft(draft)
        if not self.force:
            interface.check_still_routed(before, typed=" ".join(self.networks))
        return Edited(host.with_container(container.with_interface(interface)), container.name)
