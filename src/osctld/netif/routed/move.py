"""Addresses that go from one routed interface to another, with the routes that are theirs and in their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.errors import Refused
from osctld.netif.routed.interface import RoutedInterface
from osctld.netif.routed.networks import RoutedNetwork


class Moved(msgspec.Struct, frozen=True):
    """Both interfaces as they are afterwards; the same twice is never moved."""

    source: RoutedInterface
    target: RoutedInterface


def movable(source: RoutedInterface) -> list[InterfaceAddress]:
    """All assigned addresses, but the ends of interconnecting networks, which have a place in the order alone."""
    ends = {via.container_end for via in source.vias.values()}
    return [each for each in source.addresses if each.address not in ends]


def move(
    source: RoutedInterface, target: RoutedInterface, addresses: Iterable[InterfaceAddress], *, is_forced: bool
) -> Moved:
    """Move addresses to the end of another interface's order.

    A route goes along that has one of them inside or as next hop, if no address in it is left behind; automatic ones
    stay so. Raises Refused for an address whose route has to stay for another one, unless forced: then it gets one of
    its own at the target, inside that; for the next hop of such a route, forced or not; and for what the target cannot
    have.
    """
    chosen = set(addresses)
    going = [each for each in source.addresses if each in chosen]
    staying = [each for each in source.addresses if each not in chosen]
    for each in going:
        via = source.vias.get(each.version)
        if via is not None and each.address == via.container_end:
            raise Refused(
                f"{each.address} is an end of {via.network}, the interconnecting network of {source.name}",
                code="container-end",
                subject=str(each.address),
            )
    for route in source.routes:
        left_behind = [each.short for each in staying if route.network.includes(each)]
        if left_behind and any(route.next_hop == each.address for each in going):
            raise Refused(
                f"{route.next_hop}: the next hop of {route.network}, which stays with {source.name} for"
                f" {', '.join(left_behind)}",
                code="address-needs-route",
                subject=str(route.next_hop),
                holder=str(route.network),
            )
    routes = [each for each in source.routes if _goes_along(each, going, staying)]
    for each in going:
        around = source.routing(each)
        is_alone = any(route.network.includes(each) for route in routes)
        if around is not None and not is_alone and not is_forced:
            others = ", ".join(other.short for other in staying if around.includes(other)) or "its own"
            raise Refused(
                f"{each.short}: inside {around}, which stays with {source.name} for {others};"
                " --delegate routes it separately",
                code="address-needs-route",
                subject=str(each),
                holder=str(around),
            )
    left, made = source.draft(), target.draft()
    for route in routes:
        left.unroute(route.network, typed=str(route.network))
    left.take(going)
    for each in going:
        made.assign(each, route=False)
    hops = {each.address: each for each in going}
    for route in routes:
        made.adopt(route, next_hop=hops.get(route.next_hop) if route.next_hop is not None else None)
    for each in going:
        if source.is_routed(each) and made.routing(each) is None:
            made.adopt(RoutedNetwork(each.address.as_network(), is_automatic=True), next_hop=None)
    return Moved(source.with_draft(left), target.with_draft(made))


def _goes_along(route: RoutedNetwork, going: Sequence[InterfaceAddress], staying: Sequence[InterfaceAddress]) -> bool:
    is_theirs = any(route.next_hop == each.address for each in going) or any(map(route.network.includes, going))
    return is_theirs and not any(map(route.network.includes, staying))
