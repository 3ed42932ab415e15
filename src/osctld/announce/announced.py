"""Which of the host's routes are announced: those that are copied to the announcement table.

A routing daemon reads that table and nothing else, so what is not in it cannot leave. A route is announced if the
container it leads to is running, if its protocol says so, and if it lies in one of the networks that the settings
allow. Interconnecting networks have the other protocol, and stay at home.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from osctld.core.address.addresses import BITS, VERSION_OF_PACKED, VERSIONS, Network, PackedNetwork
from osctld.core.config.announcing import NeighborSettings, networks_of
from osctld.core.config.settings import Settings
from osctld.core.plan.kernel_state import HOST, KernelState, Routes, Way, alike


class Within:
    """Whether networks lie in some others, for very many of the former."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._around: dict[int, list[tuple[int, int, int]]] = {version: [] for version in VERSIONS}
        for each in networks:
            shift = BITS[each.version] - each.length
            self._around[each.version].append((each.length, shift, each.number >> shift))

    def __contains__(self, packed: PackedNetwork) -> bool:
        around = self._around[VERSION_OF_PACKED[len(packed)]]
        number, length = int.from_bytes(packed[:-1], "big"), packed[-1]
        return any(length >= least and number >> shift == prefix for least, shift, prefix in around)

    def of(self, packed: Iterable[PackedNetwork]) -> list[PackedNetwork]:
        return [each for each in packed if each in self]


def copies(desired: KernelState, settings: Settings) -> KernelState:
    """The routes in the announcement table that go with the desired objects of a running container."""
    within = Within(networks_of(settings.announce.networks))
    return KernelState(_copies(desired, settings, within))


def _copies(desired: KernelState, settings: Settings, within: Within) -> Iterator[Routes]:
    announced, table = settings.routes.announce_protocol, settings.announce.table
    copied: dict[Way, Way] = {}
    for (namespace, _, _), routes in desired.routes.items():
        if namespace != HOST:
            continue
        for each in alike(routes):
            if each.way.protocol != announced:
                continue
            way = copied.get(each.way)
            if way is None:
                way = copied[each.way] = msgspec.structs.replace(each.way, table=table)
            networks = within.of(each.networks)
            if networks:
                yield Routes(way, networks)


def packed_of(state: KernelState) -> Iterator[PackedNetwork]:
    """The networks to which a state has routes."""
    for routes in state.routes.values():
        yield from routes


def of_version(networks: Iterable[PackedNetwork], version: int) -> list[PackedNetwork]:
    size = BITS[version] // 8 + 1
    return [each for each in networks if len(each) == size]


class Limits:
    """How much each neighbour is to be told at most; a network that would exceed one of them is told to nobody."""

    def __init__(self, neighbors: Mapping[str, NeighborSettings], allowed: Iterable[Network]) -> None:
        everything = tuple(allowed)
        self._limits = [
            (name, version, each.limit, Within(networks_of(each.networks) if each.networks else everything))
            for name, each in sorted(neighbors.items())
            for version in each.versions
        ]
        self._least = {
            version: min((limit for _, its_version, limit, _ in self._limits if its_version == version), default=None)
            for version in VERSIONS
        }

    def may_be_exceeded_by(self, count: int) -> bool:
        """Whether so many networks, of whatever version, could be too many."""
        return any(least is not None and count > least for least in self._least.values())

    def withheld(
        self, wanted: Collection[PackedNetwork], announced: Collection[PackedNetwork]
    ) -> dict[PackedNetwork, str]:
        """The networks that are too many, each with the neighbour whose limit says so.

        What is announced already comes first, then the networks in their order.
        """
        found: dict[PackedNetwork, str] = {}
        for version in VERSIONS:
            least = self._least[version]
            those = of_version(wanted, version)
            if least is None or len(those) <= least:
                continue
            for name, its_version, limit, within in self._limits:
                if its_version == version:
                    told = sorted(within.of(those), key=lambda each: (each not in announced, each))
                    found.update(dict.fromkeys(told[limit:], name))
        return found
