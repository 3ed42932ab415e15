"""The command that creates a routed interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif.addressed import check_broadcasts
from osctld.netif.routed.interface import new_interface
from osctld.netif.routed.options import RoutedOptions


class CtNetifNewRouted(EditCommand, RoutedOptions, frozen=True, kw_only=True):
    """Create a routed interface: a veth pair that joins no bridge, with an interconnecting (transfer) network.

    By default the host gets the first address of the network and the container the second. Without --via, free networks
    of both IP versions are allocated from the pools in the settings. A running container gets the interface at once.
    """

    adds_interface: ClassVar[bool] = True
    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "new", "routed")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif new routed myct02 eth0",
            "Allocate interconnecting networks, IPv4 and IPv6, from the pools",
        ),
        Example("osctl ct netif new routed --via 10.100.10.104/30 myct02 eth1", "Choose the network"),
        Example(
            "osctl ct netif new routed --via 10.0.0.0/24 --host-addr 10.0.0.254 --ct-addr 10.0.0.1 myct01 eth1",
            "Choose the ends as well, while the container is running",
        ),
    )

    container: ContainerName
    netif: Annotated[str, Argument("Name of the interface inside the container", metavar="netif")]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        vias = self.chosen_vias(host, surroundings, {}, is_new=True)
        interface = self.with_properties(new_interface(host, before, self.netif, vias=vias))
        after = before.with_new_interface(interface)
        check_broadcasts(after)
        surroundings.check_delegation(host, before, after)
        return Edited(
            host.with_container(after),
            after.name,
            is_delegation_allowed=self.allows_delegation,
            is_overlap_allowed=self.allows_overlap,
        )
