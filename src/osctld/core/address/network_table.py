"""Networks with something known of each, and the question which of them include something."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from typing import Generic, TypeVar

from osctld.core.address.addresses import (
    BITS,
    VERSION_OF_PACKED,
    VERSIONS,
    Address,
    InterfaceAddress,
    Network,
    PackedNetwork,
)

T = TypeVar("T")


class NetworkTable(Generic[T]):
    """Packed networks in the order in which they came, each with a value.

    To ask what includes something costs one step for each prefix length that occurs, however many networks there are.
    """

    __slots__ = ("_lengths", "_values")

    def __init__(self) -> None:
        self._values: dict[PackedNetwork, T] = {}
        # How many networks there are of each prefix length, the shortest first.
        self._lengths: dict[int, dict[int, int]] = {version: {} for version in VERSIONS}

    def copy(self) -> NetworkTable[T]:
        twin: NetworkTable[T] = NetworkTable()
        twin._values = dict(self._values)
        twin._lengths = {version: dict(counts) for version, counts in self._lengths.items()}
        return twin

    @property
    def values(self) -> Mapping[PackedNetwork, T]:
        """Read only: what changes it has to go by the methods below."""
        return self._values

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, packed: PackedNetwork) -> bool:
        return packed in self._values

    def __iter__(self) -> Iterator[PackedNetwork]:
        return iter(self._values)

    def keys(self) -> KeysView[PackedNetwork]:
        return self._values.keys()

    def get(self, packed: PackedNetwork) -> T | None:
        return self._values.get(packed)

    def lengths(self, version: int) -> Mapping[int, int]:
        """How many networks there are of each prefix length, the shortest first."""
        return self._lengths[version]

    # --- changes --------------------------------------------------------------------------------------------------

    def put(self, packed: PackedNetwork, value: T) -> None:
        """A network that is there already keeps its place."""
        if packed not in self._values:
            self._count(VERSION_OF_PACKED[len(packed)], packed[-1], 1)
        self._values[packed] = value

    def put_new(self, alike: Sequence[PackedNetwork], value: T) -> bool:
        """Put new networks, all of one version and prefix length.

        False when one is there already or stands among them twice; then nothing was done.
        """
        coming = dict.fromkeys(alike, value)
        if len(coming) != len(alike) or not self._values.keys().isdisjoint(coming):
            return False
        if alike:
            self._count(VERSION_OF_PACKED[len(alike[0])], alike[0][-1], len(alike))
            self._values.update(coming)
        return True

    def pop(self, packed: PackedNetwork) -> T:
        """Raises KeyError when it is not there."""
        value = self._values.pop(packed)
        self._count(VERSION_OF_PACKED[len(packed)], packed[-1], -1)
        return value

    def _count(self, version: int, length: int, difference: int) -> None:
        counts = self._lengths[version]
        count = counts.get(length, 0) + difference
        if not count:
            del counts[length]
        elif length in counts:
            counts[length] = count
        else:
            self._lengths[version] = dict(sorted({**counts, length: count}.items()))

    # --- questions ------------------------------------------------------------------------------------------------

    def including(self, what: Address | Network | InterfaceAddress) -> Iterator[PackedNetwork]:
        """The networks that include all of `what`, the widest first; see `Network.includes`."""
        bits = BITS[what.version]
        longest = what.length if isinstance(what, Network) else bits
        for length in self._lengths[what.version]:
            if length > longest:
                return
            packed = (what.number >> (bits - length) << (bits - length)).to_bytes(bits >> 3, "big") + bytes((length,))
            if packed in self._values:
                yield packed

    def widest(self, what: Address | Network | InterfaceAddress) -> Network | None:
        """The widest network that includes all of `what`; None when none does."""
        found = next(self.including(what), None)
        return Network.from_packed(found) if found is not None else None


def runs(networks: Sequence[PackedNetwork], values: Iterable[T]) -> Iterator[tuple[T, Sequence[PackedNetwork]]]:
    """Networks in order, beside each its value: those that stand together with equal values at once."""
    end = 0
    for value, equal in itertools.groupby(values):
        start, end = end, end + len(list(equal))
        yield value, networks[start:end]


def packed_addresses(networks: Sequence[PackedNetwork]) -> bytes:
    """The addresses of networks of one version, end to end."""
    size = len(networks[0])
    joined = bytearray(b"".join(networks))
    del joined[size - 1 :: size]
    return bytes(joined)


def by_length(packed: Iterable[PackedNetwork]) -> Mapping[tuple[int, int], Sequence[PackedNetwork]]:
    """Networks by version and prefix length, each kind in the order in which they came."""
    networks = list(packed)
    sizes = set(map(len, networks))
    if len(sizes) == 1:
        (size,) = sizes
        lengths = set(b"".join(networks)[size - 1 :: size])
        if len(lengths) == 1:
            return {(VERSION_OF_PACKED[size], lengths.pop()): networks}
    found: dict[tuple[int, int], list[PackedNetwork]] = {}
    for each in networks:
        found.setdefault((VERSION_OF_PACKED[len(each)], each[-1]), []).append(each)
    return found
