"""Which static routes a router needs so that it reaches what is routed to the containers of this host.

A static route is configuration: it does not come and go with a container's life. Therefore stopped containers count
like running ones, and this host answers for them meanwhile. What is parked or on standby belongs elsewhere for now;
private interconnecting networks stay at home.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import SIZE_OF_PACKED, VERSIONS, Network, PackedNetwork
from osctld.core.address.aggregation import fewest
from osctld.core.address.next_hop import NextHop
from osctld.core.config.host import Container
from osctld.core.errors import Refused


class StaticRoutes(msgspec.Struct, frozen=True):
    """Routes to networks of one IP version, in their order, all of them through one next hop."""

    version: int
    next_hop: NextHop
    networks: Sequence[PackedNetwork]


class Wanted(msgspec.Struct, frozen=True):
    """The routes that a router needs; `left_out` says of how many the next hop is not known, by IP version."""

    routes: tuple[StaticRoutes, ...]
    left_out: Mapping[int, int]

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be told beside the routes."""
        return tuple(
            f"{count} IPv{version} route{'s are' if count > 1 else ' is'} left out: no IPv{version} next hop was given"
            for version, count in self.left_out.items()
        )


def static_routes(containers: Iterable[Container], next_hops: Mapping[int, NextHop]) -> Wanted:
    """The fewest routes that lead to all that is routed to these containers, by the next hop of each IP version.

    Raises Refused for a next hop that would itself be reached by one of the routes.
    """
    networks = fewest(packed for each in containers for packed in each.routed_networks())
    routes, left_out = [], {}
    for version in VERSIONS:
        of_version = _of_version(networks, version)
        if version in next_hops:
            if of_version:
                routes.append(StaticRoutes(version, next_hops[version], of_version))
        elif of_version:
            left_out[version] = len(of_version)
    _refuse_next_hop_inside(routes)
    return Wanted(tuple(routes), left_out)


def _of_version(networks: Collection[PackedNetwork], version: int) -> list[PackedNetwork]:
    size = SIZE_OF_PACKED[version]
    return sorted([each for each in networks if len(each) == size])


def _refuse_next_hop_inside(routes: Iterable[StaticRoutes]) -> None:
    networks = {each.version: set(each.networks) for each in routes}
    for hop in {each.next_hop: None for each in routes}:
        mine = networks.get(hop.version, set())
        bits = hop.address.as_network().length
        around = (hop.address.with_length(length).network for length in range(bits + 1))
        found = next((each for each in around if each.packed in mine), None)
        if found is not None:
            raise Refused(
                f"{hop}: lies in {found}, which is routed to a container; the router would look for it there",
                code="bad-next-hop",
                subject=str(hop),
                holder=str(found),
            )


# --- what has changed ---------------------------------------------------------------------------------------------


class Difference(msgspec.Struct, frozen=True):
    """What leads from some static routes to others. What only gets another next hop is in both."""

    removed: tuple[StaticRoutes, ...]
    added: tuple[StaticRoutes, ...]

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)

    def only_removed(self) -> Iterator[StaticRoutes]:
        """What is removed and not added with another next hop."""
        added = {packed for each in self.added for packed in each.networks}
        for each in self.removed:
            left = [packed for packed in each.networks if packed not in added]
            if left:
                yield msgspec.structs.replace(each, networks=left)


def difference(before: Iterable[StaticRoutes], after: Iterable[StaticRoutes]) -> Difference:
    """What has to be removed and added. Either has at most one next hop for each IP version."""
    old, new = ({each.version: each for each in routes} for routes in (before, after))
    removed, added = [], []
    for version in VERSIONS:
        was, is_now = old.get(version), new.get(version)
        removed += _beyond(was, is_now)
        added += _beyond(is_now, was)
    return Difference(tuple(removed), tuple(added))


def _beyond(these: StaticRoutes | None, those: StaticRoutes | None) -> list[StaticRoutes]:
    """The routes that only the former have."""
    if these is None:
        return []
    others = set(those.networks) if those is not None and those.next_hop == these.next_hop else set()
    left = [packed for packed in these.networks if packed not in others]
    return [msgspec.structs.replace(these, networks=left)] if left else []


def networks_of(routes: Iterable[StaticRoutes]) -> Iterator[tuple[Network, NextHop]]:
    """Routes one by one, for callers that need them so."""
    for each in routes:
        for packed in each.networks:
            yield Network.from_packed(packed), each.next_hop
