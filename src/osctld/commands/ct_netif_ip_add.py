"""Assign addresses."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import InterfaceAddress, Network
from osctld.core.command import Argument, EditCommand, Edited, Flag, Option
from osctld.core.errors import Refused
from osctld.core.host import Host
from osctld.netif.routed import routed_interface


class CtNetifIpAdd(EditCommand, frozen=True, kw_only=True):
    """Assign addresses to an interface, in this order, and route them unless they are routed to it already.

    An address without prefix length is a /32 or /128. What is routed is the network of the address.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "add")

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Interface", metavar="netif", completes="interface")]
    addresses: Annotated[
        tuple[str, ...],
        Argument("Addresses; - reads them from standard input", metavar="addr", many=True, from_stdin=True),
    ]
    route: Annotated[bool, Flag(("--route",), "Route the addresses (the default)", negatable=True)] = True
    route_as: Annotated[
        str | None, Option(("--route-as",), "NETWORK", "Route this network, which includes the addresses")
    ] = None

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = before = routed_interface(container, self.netif)
        route_as = Network.parse(self.route_as) if self.route_as is not None else None
        suggestions = {}
        for text in self.addresses:
            address = InterfaceAddress.parse(text)
            try:
                interface = interface.with_address(address, route=self.route, route_as=route_as)
            except Refused as refused:
                raise refused.quoting(text) from None
            suggestions[address.network] = f"assign {address.address.as_network()} instead"
        made = [each.network for each in interface.routes if each not in before.routes]
        wide = [network for network in made if network.size > 1]
        return Edited(
            host.with_container(container.with_interface(interface)),
            container.name,
            messages=tuple(f"routed {network} ({network.size} addresses)" for network in wide),
            suggestions={network: text for network, text in suggestions.items() if network in wide},
        )
