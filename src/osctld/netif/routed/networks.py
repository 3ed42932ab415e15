"""The networks that are routed to an interface, few or a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import msgspec

from osctld.core.address.addresses import SIZE_OF_PACKED, Address, Network, PackedNetwork
from osctld.core.address.network_table import NetworkTable, runs


class RoutedNetwork(msgspec.Struct, frozen=True):
    """A network routed to the container. Automatic ones came with an address and go with it.

    `next_hop` is an assigned address that the operator chose as gateway; None stands for the container end.
    """

    network: Network
    is_automatic: bool
    next_hop: Address | None = None

    @classmethod
    def of(cls, packed: PackedNetwork, how: Routing) -> RoutedNetwork:
        return cls(Network.from_packed(packed), how.is_automatic, how.next_hop)


class Routing(msgspec.Struct, frozen=True):
    """What is known of a routed network beside which it is; see RoutedNetwork."""

    is_automatic: bool
    next_hop: Address | None = None


class RoutedNetworks(Sequence[RoutedNetwork]):
    """Routed networks in the order in which they were made, no two equal. Immutable.

    As a sequence it makes a value of each when it is asked for; `table` has them as they are kept.
    """

    __slots__ = ("table",)

    def __init__(self, table: NetworkTable[Routing] | None = None) -> None:
        """The table is taken over: the caller must not change it any longer."""
        self.table: NetworkTable[Routing] = table if table is not None else NetworkTable()

    @classmethod
    def of(cls, routes: Iterable[RoutedNetwork]) -> RoutedNetworks:
        table: NetworkTable[Routing] = NetworkTable()
        for each in routes:
            table.put(each.network.packed, Routing(each.is_automatic, each.next_hop))
        return cls(table)

    def runs(self) -> Iterator[tuple[Routing, Sequence[PackedNetwork]]]:
        """All in their order, those that stand together and differ in their networks alone at once."""
        return runs(list(self.table), self.table.values.values())

    def by_next_hop(self, version: int) -> Mapping[Address | None, Sequence[PackedNetwork]]:
        """The networks of one IP version, those of each next hop in their order."""
        size = SIZE_OF_PACKED[version]
        found: dict[Address | None, list[PackedNetwork]] = {}
        for how, networks in self.runs():
            some = [packed for packed in networks if len(packed) == size]
            if some:
                found.setdefault(how.next_hop, []).extend(some)
        return found

    def networks_beside(self, others: RoutedNetworks) -> list[Network]:
        """The networks that are routed here and not among the others."""
        return [Network.from_packed(packed) for packed in self.table if packed not in others.table.values]

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[RoutedNetwork]:
        return (RoutedNetwork.of(packed, how) for packed, how in self.table.values.items())

    @overload
    def __getitem__(self, at: int) -> RoutedNetwork: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[RoutedNetwork]: ...
    def __getitem__(self, at: int | slice) -> RoutedNetwork | Sequence[RoutedNetwork]:
        return tuple(self)[at]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RoutedNetworks):
            return NotImplemented
        mine, theirs = self.table.values, other.table.values
        return mine == theirs and list(mine) == list(theirs)

    def __hash__(self) -> int:
        return hash(tuple(self.table.values.items()))

    def __repr__(self) -> str:
        return f"RoutedNetworks.of({list(self)!r})"
