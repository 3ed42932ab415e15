"""Single steps of a routed interface's draft, as commands make them one after another."""

from __future__ import annotations

from collections.abc import Mapping

from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.address.via import Via
from osctld.netif.routed.interface import RoutedInterface


def with_vias(interface: RoutedInterface, vias: Mapping[int, Via]) -> RoutedInterface:
    draft = interface.draft()
    draft.change_vias(vias)
    return interface.with_draft(draft)


def with_address(
    interface: RoutedInterface, address: InterfaceAddress, *, route: bool = True, route_as: Network | None = None
) -> RoutedInterface:
    draft = interface.draft()
    draft.assign(address, route=route, route_as=route_as)
    return interface.with_draft(draft)


def without_address(
    interface: RoutedInterface, address: InterfaceAddress, *, keep_route: bool = False
) -> RoutedInterface:
    draft = interface.draft()
    draft.take([address], keep_route=keep_route)
    return interface.with_draft(draft)


def with_operator_route(
    interface: RoutedInterface, network: Network, *, typed: str, next_hop: InterfaceAddress | None = None
) -> RoutedInterface:
    draft = interface.draft()
    draft.route(network, typed=typed, next_hop=next_hop)
    return interface.with_draft(draft)


def without_route(interface: RoutedInterface, network: Network, *, typed: str) -> RoutedInterface:
    draft = interface.draft()
    draft.unroute(network, typed=typed)
    return interface.with_draft(draft)
