"""Change an interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, EditCommand, Edited, Option
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.core.via import parse_vias
from osctld.netif.routed import routed_interface


class CtNetifSet(EditCommand, frozen=True, kw_only=True):
    """Change an interface: its interconnecting networks, or their ends.

    Versions that are not named stay as they are. Without --via the ends of the present network are changed.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "set")

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Interface", metavar="netif", completes="interface")]
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
        interface = routed_interface(container, self.netif)
        if not (self.via or self.host_addr or self.ct_addr):
            raise UsageError(f"{self.netif}: nothing to set, give --via, or --host-addr and --ct-addr")
        vias = parse_vias(
            self.via, host_ends=self.host_addr, container_ends=self.ct_addr, present=interface.vias
        )
        return Edited(host.with_container(container.with_interface(interface.with_vias(vias))), container.name)
