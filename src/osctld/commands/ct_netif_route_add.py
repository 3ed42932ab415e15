"""Route networks to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import Network
from osctld.core.command import Argument, EditCommand, Edited
from osctld.core.host import Host
from osctld.netif.routed import routed_interface


class CtNetifRouteAdd(EditCommand, frozen=True, kw_only=True):
    """Route networks to a container through an interface, without assigning an address of them.

    Host bits are dropped. A route that came with an address becomes the operator's and then outlives it.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "add")

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Interface", metavar="netif", completes="interface")]
    networks: Annotated[
        tuple[str, ...],
        Argument("Networks; - reads them from standard input", metavar="network", many=True, from_stdin=True),
    ]

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        for text in self.networks:
            interface = interface.with_operator_route(Network.parse(text), typed=text)
        return Edited(host.with_container(container.with_interface(interface)), container.name)
