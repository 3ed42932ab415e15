"""An index of networks, each with values, and the questions which of them equal, contain or lie inside a network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from osctld.core.address.addresses import VERSION_OF_PACKED, VERSIONS, Network, PackedNetwork, any_inside
from osctld.core.address.network_table import NetworkTable, by_length

T = TypeVar("T")


class Overlaps(Generic[T]):
    """Networks with one or more values each.

    A question costs a few dictionary steps and one bisection, however many networks there are.
    """

    def __init__(self, values: Iterable[tuple[PackedNetwork, T]] = ()) -> None:
        self._table: NetworkTable[tuple[T, ...]] = NetworkTable()
        # Networks in the order of their first address, for those inside a given one.
        self._sorted: dict[int, list[PackedNetwork]] = {version: [] for version in VERSIONS}
        for packed, value in values:
            there = self._table.get(packed)
            if there is None:
                self._sorted[VERSION_OF_PACKED[len(packed)]].append(packed)
            self._table.put(packed, (*(there or ()), value))
        for each in self._sorted.values():
            each.sort()

    def __len__(self) -> int:
        return sum(map(len, self._table.values.values()))

    def overlapped_by(self, network: Network) -> Iterator[PackedNetwork]:
        """The networks that equal, contain or lie inside the given one; the widest first."""
        packed = network.packed
        for around in self._table.including(network):
            if around != packed:
                yield around
        inside = self._sorted[network.version]
        for index in range(bisect_left(inside, packed), len(inside)):
            if not network.includes(Network.from_packed(inside[index])):
                break
            yield inside[index]

    def values_over(self, network: Network) -> Iterator[T]:
        """The values of those networks."""
        for packed in self.overlapped_by(network):
            yield from self._table.values[packed]

    def suspects(self, networks: Collection[PackedNetwork]) -> set[PackedNetwork]:
        """Those of the networks that overlap any that is here: of very many, most do not."""
        found: set[PackedNetwork] = set()
        for (version, length), alike in by_length(networks).items():
            if not self._table.keys().isdisjoint(alike):
                found.update([packed for packed in alike if packed in self._table])
            others = sum(count for each, count in self._table.lengths(version).items() if each != length)
            if not others:
                continue
            if others < len(alike):
                # Fewer are there than asked about: look from each of them.
                found.update(self._overlapped_by_any(version, length, sorted(alike)))
                continue
            there = self._sorted[version]
            for packed in alike:
                network = Network.from_packed(packed)
                if next(self._table.including(network), None) is not None or any_inside(there, network):
                    found.add(packed)
        return found

    def _overlapped_by_any(
        self, version: int, length: int, ordered: Sequence[PackedNetwork]
    ) -> Iterator[PackedNetwork]:
        """Those of these networks, of one length and in order, that overlap one of another length that is here."""
        for packed in self._table:
            if VERSION_OF_PACKED[len(packed)] != version or packed[-1] == length:
                continue
            there = Network.from_packed(packed)
            around = there if there.length < length else there.address.with_length(length).network
            for index in range(bisect_left(ordered, around.packed), len(ordered)):
                if not around.includes(Network.from_packed(ordered[index])):
                    break
                yield ordered[index]
