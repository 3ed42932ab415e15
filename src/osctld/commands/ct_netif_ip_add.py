"""Assign addresses."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import InterfaceAddress, Network
from osctld.core.claims import Holder
from osctld.core.command import ContainerName, EditCommand, Edited, Example, Flag, InterfaceName, Option
from osctld.core.errors import Conflict, Refused, UsageError
from osctld.core.host import Host
from osctld.netif.routed import check_broadcasts, routed_interface
from osctld.netif.routed_commands import words_to_add


class CtNetifIpAdd(EditCommand, frozen=True, kw_only=True):
    """Assign addresses to an interface, in this order, and route them unless they are routed to it already.

    An address without prefix length is a /32 or /128. What is routed is the network of the address.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip add myct01 eth0 1.2.3.6/32", "Assign an address, and route it to the container"),
        Example("osctl ct netif ip add myct01 eth0 198.51.100.1/24", "Assign an address, and route its network"),
        Example(
            "osctl ct netif ip add --dry-run myct01 eth0 1.2.3.7 2001:db8:2::7",
            "See what two more would change, without changing it",
        ),
        Example(
            "osctl ct netif ip add --no-route myct01 eth0 192.168.7.1/24",
            "Assign an address that nothing outside leads to",
        ),
        Example(
            "osctl ct netif ip add --route-as 203.0.113.0/28 myct01 eth0 203.0.113.1",
            "Route a network, and assign one address of it",
        ),
    )

    container: ContainerName
    netif: InterfaceName
    addresses: Annotated[tuple[str, ...], words_to_add("Addresses", "addr")]
    route: Annotated[bool, Flag(("--route",), "Route the addresses (the default)", negatable=True)] = True
    route_as: Annotated[
        str | None, Option(("--route-as",), "NETWORK", "Route this network, which includes the addresses")
    ] = None

    force: Annotated[bool, Flag(("-f", "--force"), "Also inside a network of another container")] = False

    @property
    def looks_at_host(self) -> bool:
        # A single address takes nothing along; a network might be that of an uplink.
        return any("/" in each and not each.endswith("/128" if ":" in each else "/32") for each in self.addresses)

    def edit(self, host: Host) -> Edited:
        before = host.container(self.container)
        interface = routed_interface(before, self.netif)
        if self.route_as is not None and not self.route:
            raise UsageError(f"--route-as {self.route_as}: give either that or --no-route")
        route_as = Network.parse(self.route_as) if self.route_as is not None else None
        draft = interface.draft()
        parsed = []
        suggestions = {}
        for text in self.addresses:
            address = InterfaceAddress.parse(text)
            suggestion = f"assign {address.address.as_network()} instead"
            try:
                draft.assign(address, route=self.route, route_as=route_as)
            except Refused as refused:
                quoted = refused.quoting(text)
                is_too_wide = quoted.code == "contains-via" and route_as is None
                raise quoted.suggesting(suggestion) if is_too_wide else quoted from None
            parsed.append(address)
            suggestions[address.network] = suggestion
        after = before.with_interface(interface.with_draft(draft))
        check_broadcasts(after)
        made = draft.routes.networks_beside(interface.routes)
        wide = [each for each in made if each.size > 1]
        made_here = frozenset(made)
        told = {network: suggestions[network] for network in wide if network in suggestions}
        for network, suggestion in told.items():
            _check_nobody_is_there(host, network, suggestion, is_forced=self.force)
        host.check_not_delegated(
            Holder(before.name, interface.name),
            (each for each in parsed if each.address.as_network() not in made_here and interface.is_routed(each)),
        )
        if self.force:
            host.check_delegation(before, after)
        return Edited(
            host.with_container(after),
            after.name,
            messages=tuple(f"routed {network} ({network.size} addresses)" for network in wide),
            suggestions=told,
            is_delegation_allowed=self.force,
        )


def _check_nobody_is_there(host: Host, network: Network, suggestion: str, *, is_forced: bool) -> None:
    """A network that comes along with one of its addresses must be free: nobody asked for all of it."""
    try:
        host.check_free_on_host(network, is_forced=is_forced)
    except Conflict as conflict:
        raise conflict.suggesting(suggestion) from None
