"""Many networks as the fewest that say the same."""

from __future__ import annotations

from collections.abc import Iterable

from osctld.core.address.addresses import BITS, VERSION_OF_PACKED, PackedNetwork


def fewest(networks: Iterable[PackedNetwork]) -> frozenset[PackedNetwork]:
    """The fewest networks that hold the addresses of all these, and no others: no two of them overlap.

    By whole sets of one prefix length: no line is run for each of very many.
    """
    packed = frozenset(networks)
    found: set[PackedNetwork] = set()
    for size, version in VERSION_OF_PACKED.items():
        of_version = [each for each in packed if len(each) == size]
        if of_version:
            found.update(_fewest(of_version, BITS[version]))
    return frozenset(found)


def _fewest(networks: Iterable[PackedNetwork], bits: int) -> Iterable[PackedNetwork]:
    """Of one version. A network of a length is known by its first bits as a number."""
    by_length: dict[int, set[int]] = {}
    for length in {each[-1] for each in networks}:
        beyond = bits - length
        by_length[length] = {int.from_bytes(each[:-1], "big") >> beyond for each in networks if each[-1] == length}
    lengths = sorted(by_length)
    for place, length in enumerate(lengths):
        for wider in lengths[:place]:
            around, shift = by_length[wider], length - wider
            by_length[length] = {each for each in by_length[length] if each >> shift not in around}
    for length in range(max(lengths), 1, -1):
        here = by_length.get(length)
        halves = {each for each in here if each ^ 1 in here} if here else None
        if here is not None and halves:
            here -= halves
            by_length.setdefault(length - 1, set()).update({each >> 1 for each in halves})
    octets = bits >> 3
    for length, here in by_length.items():
        tail, beyond = bytes((length,)), bits - length
        yield from [(each << beyond).to_bytes(octets, "big") + tail for each in here]
