"""Who holds which part of the address space: one authority for all containers of the host."""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.address.network_table import by_length
from osctld.core.authority.overlaps import Overlaps

#: From this number of claims in one change, the whole index is scanned once.
_MANY = 1000


class ClaimKind(StrEnum):
    VIA = "via"
    ROUTE = "route"
    ADDRESS = "address"


class Holder(msgspec.Struct, frozen=True, order=True):
    """An interface of a container, running or stopped: its UUID and its container's, and the names of both, which are
    labels."""

    container: str
    interface: str
    uuid: str = ""
    container_uuid: str = ""

    def __str__(self) -> str:
        return f"{self.interface} of {self.container}"


class Claim(msgspec.Struct, frozen=True, order=True):
    """A network that one interface holds.

    `link` is the bridge on which an address is used, by those who are attached to it; empty for what the host routes.
    """

    network: Network
    kind: ClaimKind
    holder: Holder
    link: str = ""

    def __str__(self) -> str:
        match self.kind:
            case ClaimKind.VIA:
                return f"{self.network} is the interconnecting network of {self.holder}"
            case ClaimKind.ROUTE:
                return f"{self.network} is routed to {self.holder}"
            case ClaimKind.ADDRESS:
                on_link = f", on {self.link}" if self.link else ""
                return f"{self.network.address} is assigned to {self.holder}{on_link}"

    def may_meet(self, other: Claim) -> bool:
        """Whether a packet for the one could get to the other: not on two different bridges."""
        return not self.link or not other.link or self.link == other.link


#: For what, by whom, and on which link a network is held.
_Hold: TypeAlias = tuple[ClaimKind, Holder, str]


class ClaimedNetworks(msgspec.Struct, frozen=True):
    """Networks that one interface holds for one purpose, packed, no two equal: claims by the hundred thousand."""

    kind: ClaimKind
    holder: Holder
    networks: tuple[PackedNetwork, ...]
    link: str = ""

    def __iter__(self) -> Iterator[Claim]:
        return (Claim(Network.from_packed(each), self.kind, self.holder, self.link) for each in self.networks)

    @property
    def hold(self) -> _Hold:
        return self.kind, self.holder, self.link


class Claims(Overlaps[_Hold]):
    """An index of all claims, derived from the configuration and updated after each save.

    A look-up costs a few dictionary and one bisection step, however many claims there are. Claims of different
    holders never overlap unless that was forced, but those of one holder may nest.
    """

    def __init__(self, claims: Iterable[ClaimedNetworks] = ()) -> None:
        super().__init__()
        self.update(removed=(), added=claims)

    @property
    def network_count(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Claim]:
        for packed in self._table:
            yield from self._of(packed)

    def _of(self, packed: PackedNetwork) -> Iterator[Claim]:
        network = Network.from_packed(packed)
        return (Claim(network, *hold) for hold in self._table.get(packed) or ())

    def update(self, *, removed: Iterable[ClaimedNetworks], added: Iterable[ClaimedNetworks]) -> None:
        """Raises KeyError if something to be removed is not held."""
        stale = [
            packed for each in removed for packed in each.networks if self._forget(packed, each.hold)
        ]
        for (version, _), networks in by_length(stale).items():
            ordered = self._sorted[version]
            # Many at once in one pass over all; a few each at its place.
            if len(networks) > _MANY:
                gone = frozenset(networks)
                ordered[:] = [packed for packed in ordered if packed not in gone]
            else:
                for packed in networks:
                    del ordered[bisect_left(ordered, packed)]
        for each in added:
            for (version, _), networks in by_length(each.networks).items():
                fresh = self._note(networks, each.hold)
                ordered = self._sorted[version]
                if len(fresh) > _MANY:
                    ordered.extend(fresh)
                    ordered.sort()
                else:
                    for packed in fresh:
                        insort(ordered, packed)

    def _note(self, networks: Sequence[PackedNetwork], hold: _Hold) -> Sequence[PackedNetwork]:
        """Add claims of networks of one length; return those that nobody held before."""
        if self._table.put_new(networks, (hold,)):
            return networks
        fresh = [packed for packed in networks if packed not in self._table]
        for packed in networks:
            self._table.put(packed, (*(self._table.get(packed) or ()), hold))
        return fresh

    def _forget(self, packed: PackedNetwork, hold: _Hold) -> bool:
        """Remove one claim; return whether nobody holds its network any longer. Raises KeyError if nobody held it."""
        there = self._table.get(packed) or ()
        if hold not in there:
            raise KeyError(Claim(Network.from_packed(packed), *hold))
        if len(there) == 1:
            self._table.pop(packed)
            return True
        at = there.index(hold)
        self._table.put(packed, there[:at] + there[at + 1 :])
        return False

    # --- questions ------------------------------------------------------------------------------------------------

    def overlapping(self, network: Network) -> Iterator[Claim]:
        """All claims that equal, contain or lie inside the network; the widest first."""
        for packed in self.overlapped_by(network):
            yield from self._of(packed)


class ClaimsChange(msgspec.Struct, frozen=True):
    """What a change of a container's configuration newly claims and gives up, each in order."""

    removed: tuple[ClaimedNetworks, ...]
    added: tuple[ClaimedNetworks, ...]

    @classmethod
    def between(cls, before: Iterable[ClaimedNetworks], after: Iterable[ClaimedNetworks]) -> ClaimsChange:
        before, after = tuple(before), tuple(after)
        return cls(removed=_without(before, after), added=_without(after, before))

    @classmethod
    def together(cls, changes: Iterable[ClaimsChange]) -> ClaimsChange:
        """Several changes as one."""
        all_of_them = tuple(changes)
        return cls(
            removed=tuple(itertools.chain.from_iterable(each.removed for each in all_of_them)),
            added=tuple(itertools.chain.from_iterable(each.added for each in all_of_them)),
        )

    def regardless_of_names(self) -> ClaimsChange:
        """The same without what only passes to another name of its holder."""
        if not self.removed or not self.added:
            return self
        removed, added = self.removed, self.added
        return ClaimsChange(_without(removed, added, _identity), _without(added, removed, _identity))

    def regardless_of_links(self) -> ClaimsChange:
        """The same without what only passes to another name or to another link of its holder."""
        if not self.removed or not self.added:
            return self
        removed, added = self.removed, self.added
        return ClaimsChange(_without(removed, added, _kept_as), _without(added, removed, _kept_as))

    def to_be_checked(self) -> tuple[ClaimedNetworks, ...]:
        """Those added that somebody else may hold: not what only passes to another name of the same interface."""
        return tuple(
            msgspec.structs.replace(each, networks=_not_in(each.networks, passed_on))
            for each in self.added
            for passed_on in [
                _networks_of(other for other in self.removed if (other.kind, other.link) == (each.kind, each.link))
            ]
        )


def _hold(claims: ClaimedNetworks) -> object:
    return claims.hold


def _identity(claims: ClaimedNetworks) -> object:
    return claims.kind, claims.holder.uuid, claims.link


def _kept_as(claims: ClaimedNetworks) -> object:
    return claims.kind, claims.holder.uuid


def _without(
    some: Iterable[ClaimedNetworks],
    others: Iterable[ClaimedNetworks],
    key: Callable[[ClaimedNetworks], object] = _hold,
) -> tuple[ClaimedNetworks, ...]:
    """What is claimed in `some` and not in the others, for the same purpose by the same interface on the same link."""
    theirs = {key(each): each.networks for each in others}
    left = (msgspec.structs.replace(each, networks=_not_in(each.networks, theirs.get(key(each), ()))) for each in some)
    return tuple(each for each in left if each.networks)


def _networks_of(claims: Iterable[ClaimedNetworks]) -> Collection[PackedNetwork]:
    return frozenset(itertools.chain.from_iterable(each.networks for each in claims))


def _not_in(networks: tuple[PackedNetwork, ...], others: Collection[PackedNetwork]) -> tuple[PackedNetwork, ...]:
    if not networks or not others:
        return networks
    known = frozenset(others)
    return tuple([each for each in networks if each not in known])
