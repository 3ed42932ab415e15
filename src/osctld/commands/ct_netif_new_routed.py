"""Create a routed interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, EditCommand, Edited, Option
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.core.via import parse_vias
from osctld.netif.routed import new_interface


class CtNetifNewRouted(EditCommand, frozen=True, kw_only=True):
    """Create a routed interface: a veth pair on no bridge, with an interconnecting network.

    By default the host gets the first address of the network and the container the second. In a running
    container the interface appears at once.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "new", "routed")

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Name of the interface inside", metavar="netif")]
    via: Annotated[
        tuple[str, ...],
        Option(("--via",), "NETWORK", "Interconnecting network, once for IPv4 and once for IPv6"),
    ] = ()
    host_addr: Annotated[
        tuple[str, ...], Option(("--host-addr",), "ADDR", "The host's address of that network, once per version")
    ] = ()
    ct_addr: Annotated[
        tuple[str, ...],
        Option(("--ct-addr",), "ADDR", "The container's address of that network, once per version"),
    ] = ()

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        vias = parse_vias(self.via, host_ends=self.host_addr, container_ends=self.ct_addr)
        if not vias:
            raise UsageError(f"{self.netif}: missing option --via NETWORK")
        interface = new_interface(host, container, self.netif, vias=vias)
        return Edited(host.with_container(container.with_new_interface(interface)), container.name)
