"""Addresses of routed interfaces: assigned with the routes that lead to them."""

from __future__ import annotations

from collections.abc import Iterable

from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.command import Edited
from osctld.core.config.host import Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Conflict, Refused, UsageError
from osctld.netif.address_edits import AddressEdits, ToAssign
from osctld.netif.addressed import check_broadcasts
from osctld.netif.routed.interface import RoutedInterface


class RoutedAddresses(AddressEdits[RoutedInterface]):
    def assigned(self, interface: RoutedInterface) -> tuple[InterfaceAddress, ...]:
        return interface.addresses

    def on_link(self, interface: RoutedInterface, version: int) -> tuple[InterfaceAddress, ...]:
        return interface.all_addresses(version)

    def state(self, interface: RoutedInterface, address: InterfaceAddress) -> str:
        return "routed" if interface.is_routed(address) else "unrouted"

    def find(self, interface: RoutedInterface, texts: Iterable[str]) -> list[InterfaceAddress]:
        return interface.all_assigned(texts)

    def assign(
        self,
        host: Host,
        surroundings: Surroundings,
        container: Container,
        interface: RoutedInterface,
        wanted: ToAssign,
    ) -> Edited:
        before = container
        if wanted.route_as is not None and not wanted.route:
            raise UsageError(f"--route-as {wanted.route_as}: cannot be used with --no-route")
        route_as = Network.parse(wanted.route_as) if wanted.route_as is not None else None
        draft = interface.draft()
        parsed = []
        suggestions = {}
        for text in wanted.typed:
            address = InterfaceAddress.parse(text)
            if wanted.if_needed and draft.has(address, typed=text):
                continue
            single = address.address.as_network()
            # Nobody is sent to what is refused, too.
            is_unused = surroundings.is_unused(single, container=before.name)
            suggestion = f"assign {single} instead" if is_unused else f"it comes with {address}"
            try:
                draft.assign(address, route=wanted.route, route_as=route_as)
            except Refused as refused:
                quoted = refused.quoting(text)
                is_too_wide = quoted.code == "contains-via" and route_as is None
                raise quoted.suggesting(suggestion) if is_too_wide and is_unused else quoted from None
            parsed.append(address)
            suggestions[address.network] = suggestion
        after = before.with_interface(interface.with_draft(draft))
        check_broadcasts(after)
        made = draft.routes.networks_beside(interface.routes)
        wide = [each for each in made if each.size > 1]
        made_here = frozenset(made)
        told = {network: suggestions[network] for network in wide if network in suggestions}
        for network, suggestion in told.items():
            _check_nobody_is_there(surroundings, network, suggestion, is_forced=wanted.overlaps_host)
        holder = before.holder(interface)
        surroundings.check_assigned(parsed, holder, is_forced=wanted.overlaps_host)
        surroundings.check_not_delegated(
            holder,
            (each for each in parsed if each.address.as_network() not in made_here and interface.is_routed(each)),
        )
        if wanted.delegates:
            surroundings.check_delegation(host, before, after)
        return Edited(
            host.with_container(after),
            after.name,
            messages=tuple(f"routed {network} ({network.size} addresses)" for network in wide),
            suggestions=told,
            is_delegation_allowed=wanted.delegates,
            is_overlap_allowed=wanted.overlaps_host,
        )

    def take(
        self, interface: RoutedInterface, addresses: Iterable[InterfaceAddress], *, keep_route: bool
    ) -> tuple[RoutedInterface, tuple[str, ...]]:
        draft = interface.draft()
        broken = draft.take(addresses, keep_route=keep_route)
        messages = tuple(f"removed route {each.network} via {each.next_hop}" for each in broken)
        return interface.with_draft(draft), messages

    def placed(
        self, interface: RoutedInterface, address: InterfaceAddress, *, before: InterfaceAddress | None
    ) -> RoutedInterface:
        draft = interface.draft()
        draft.place(address, before=before)
        return interface.with_draft(draft)


def _check_nobody_is_there(surroundings: Surroundings, network: Network, suggestion: str, *, is_forced: bool) -> None:
    """A network that is routed along with one of its addresses must be free: it was not named as a whole."""
    try:
        surroundings.check_free_on_host(network, is_forced=is_forced)
    except Conflict as conflict:
        raise conflict.suggesting(suggestion) from None
