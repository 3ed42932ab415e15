"""Networks that somebody drops on the host on purpose, and what yields to that.

A `blackhole`, `prohibit` or `unreachable` route to a network of a container is an operator, or a scrubber, who
defends the host against an attack on it. Where it has another metric than ours, the kernel would let ours win; where it
has the same, ours could not be added, and the container not be started. So ours yields to it, whatever the metrics, and
comes back when it goes.

A wider one yields to ours, as the kernel has it: routers keep such routes to the aggregates that they announce.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.blocks import Block
from osctld.core.plan.changes import Remove
from osctld.core.plan.kernel_state import (
    HOST,
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    KernelObject,
    KernelState,
    Route,
    Routes,
    alike,
)
from osctld.core.plan.text import describe, lines_of


class NullRoute(msgspec.Struct, frozen=True, order=True):
    """A route of somebody else's that drops what goes there; `kind` is its type as `ip route` spells it."""

    network: Network
    kind: str
    metric: int
    protocol: int

    def __str__(self) -> str:
        has_usual_metric = self.metric in (0, IPV6_DEFAULT_METRIC)
        return f"{self.kind} {self.network}" + ("" if has_usual_metric else f" metric {self.metric}")

    @property
    def removal(self) -> str:
        """The command that takes it away."""
        return f"ip{' -6' if self.network.version == 6 else ''} route del {self}"


class Yielded(msgspec.Struct, frozen=True):
    """A route of ours that yields to another one: a null route, or one with the same key."""

    route: Route
    to: NullRoute | Block | Route

    def __str__(self) -> str:
        return f"{self.route.network}{':' if isinstance(self.to, Route) else ' is'} {self.why}"

    @property
    def why(self) -> str:
        """What is there instead."""
        if isinstance(self.to, NullRoute):
            return f"null-routed on the host: {self.to}"
        if isinstance(self.to, Block):
            return f"blocked: {self.to}"
        return f"the host already has {describe(self.to)}, which is foreign"

    @property
    def command(self) -> str:
        """The command that makes room for ours."""
        return next(iter(lines_of(Remove(self.to)))) if isinstance(self.to, Route) else self.to.removal


def yielding(
    want: KernelState, nulls: Collection[NullRoute], blocks: Collection[Block] = ()
) -> tuple[KernelState, tuple[Yielded, ...]]:
    """What is left of the wanted state of one container, and what yields of it, the networks in their order.

    To a null route yields the route to exactly its network, and with that all to networks inside of it. To a block
    makes everything inside it yield: it says what is to be dropped, and is not an aggregate.
    """
    if not nulls and not blocks:
        return want, ()
    by_network: dict[PackedNetwork, NullRoute | Block] = {
        each.network.packed: each for each in sorted(nulls, reverse=True)
    }
    by_network.update((each.network.packed, each) for each in blocks)
    yielded = sorted(_yielded(want, by_network), key=lambda each: each.route.network)
    return without_routes(want, [each.route for each in yielded]), tuple(yielded)


def without_routes(want: KernelState, routes: Collection[Route]) -> KernelState:
    """The same without some routes of the host. All others stay packed."""
    if not routes:
        return want
    gone = {(each.way.place, each.network.packed) for each in routes}
    left: list[KernelObject | Routes] = [*want.others.values()]
    for place, table in want.routes.items():
        left.extend(alike({packed: way for packed, way in table.items() if (place, packed) not in gone}))
    return KernelState(left)


def with_gateways_on_link(want: KernelState, yielded: Collection[Yielded]) -> KernelState:
    """The same, with the routes marked `onlink` whose gateway is reached by a route that yields.

    In a wide interconnecting network the container end has an on-link route of its own. Without that the kernel would
    refuse every route by it: that to one network has yielded, and all others of the container would be lost with it.
    """
    ends = {
        (each.route.link, each.route.network.address)
        for each in yielded
        if each.route.gateway is None and each.route.network.size == 1
    }
    if not ends:
        return want
    changed = [
        Routes(msgspec.structs.replace(routes.way, is_onlink=True), routes.networks)
        for place, table in want.routes.items()
        if place[0] == HOST
        for routes in alike(table)
        if (routes.way.link, routes.way.gateway) in ends
    ]
    return want.with_objects(changed)


def _yielded(want: KernelState, by_network: Mapping[PackedNetwork, NullRoute | Block]) -> Iterator[Yielded]:
    tables = [routes for place, routes in want.routes.items() if place[:2] == (HOST, MAIN_TABLE)]
    exact = {packed for table in tables for packed in by_network.keys() & table.keys()}
    exact.update(packed for packed, each in by_network.items() if isinstance(each, Block))
    if not exact:
        return
    # Of very many routes: bytes are compared, and networks made of those alone that yield.
    around = [(len(packed), packed[:-1], by_network[packed].network.last.packed, packed) for packed in exact]
    for table in tables:
        for packed, way in table.items():
            for size, first, last, null in around:
                if len(packed) == size and packed[-1] >= null[-1] and first <= packed[:-1] <= last:
                    yield Yielded(way.route(Network.from_packed(packed)), by_network[null])
                    break
