"""Who holds which part of the address space: one authority for all containers of the host."""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from osctld.core.addresses import BITS, VERSION_OF_PACKED, VERSIONS, Network, PackedNetwork, any_inside
from osctld.core.errors import Conflict
from osctld.core.network_table import NetworkTable, by_length

#: From so many claims of one change on, all of the index is gone through once.
_MANY = 1000


class ClaimKind(StrEnum):
    VIA = "via"
    ROUTE = "route"
    ADDRESS = "address"


class Holder(msgspec.Struct, frozen=True, order=True):
    """An interface of a container, running or stopped."""

    container: str
    interface: str

    def __str__(self) -> str:
        return f"{self.interface} of {self.container}"


class Claim(msgspec.Struct, frozen=True, order=True):
    """A network that one interface holds."""

    network: Network
    kind: ClaimKind
    holder: Holder

    def __str__(self) -> str:
        match self.kind:
            case ClaimKind.VIA:
                return f"{self.network} is the interconnecting network of {self.holder}"
            case ClaimKind.ROUTE:
                return f"{self.network} is routed to {self.holder}"
            case ClaimKind.ADDRESS:
                return f"{self.network.address} is assigned to {self.holder}"


#: For what, and by whom, a network is held.
_Hold: TypeAlias = tuple[ClaimKind, Holder]


class ClaimedNetworks(msgspec.Struct, frozen=True):
    """Networks that one interface holds for one purpose, packed, no two equal: claims by the hundred thousand."""

    kind: ClaimKind
    holder: Holder
    networks: tuple[PackedNetwork, ...]

    def __iter__(self) -> Iterator[Claim]:
        return (Claim(Network.from_packed(each), self.kind, self.holder) for each in self.networks)


class Claims:
    """An index of all claims, derived from the configuration and updated after each save.

    A look-up costs a few dictionary and one bisection step, however many claims there are. Claims of different
    holders never overlap unless that was forced, but those of one holder may nest.
    """

    def __init__(self, claims: Iterable[ClaimedNetworks] = ()) -> None:
        self._holds: NetworkTable[tuple[_Hold, ...]] = NetworkTable()
        # Networks in the order of their first address, for those inside a given one.
        self._sorted: dict[int, list[PackedNetwork]] = {version: [] for version in VERSIONS}
        self.update(removed=(), added=claims)

    def __iter__(self) -> Iterator[Claim]:
        for packed in self._holds:
            yield from self._of(packed)

    def __len__(self) -> int:
        return sum(map(len, self._holds.values.values()))

    def _of(self, packed: PackedNetwork) -> Iterator[Claim]:
        network = Network.from_packed(packed)
        return (Claim(network, kind, holder) for kind, holder in self._holds.get(packed) or ())

    def update(self, *, removed: Iterable[ClaimedNetworks], added: Iterable[ClaimedNetworks]) -> None:
        """Raises KeyError when what is to be removed is not held."""
        stale = [
            packed
            for each in removed
            for packed in each.networks
            if self._forget(packed, (each.kind, each.holder))
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
                fresh = self._note(networks, (each.kind, each.holder))
                ordered = self._sorted[version]
                if len(fresh) > _MANY:
                    ordered.extend(fresh)
                    ordered.sort()
                else:
                    for packed in fresh:
                        insort(ordered, packed)

    def _note(self, networks: Sequence[PackedNetwork], hold: _Hold) -> Sequence[PackedNetwork]:
        """Keep claims of networks of one length; return those that nobody held before."""
        if self._holds.put_new(networks, (hold,)):
            return networks
        fresh = [packed for packed in networks if packed not in self._holds]
        for packed in networks:
            self._holds.put(packed, (*(self._holds.get(packed) or ()), hold))
        return fresh

    def _forget(self, packed: PackedNetwork, hold: _Hold) -> bool:
        """Forget one claim; whether nobody holds its network any more. Raises KeyError when nobody held it."""
        there = self._holds.get(packed) or ()
        if hold not in there:
            raise KeyError(Claim(Network.from_packed(packed), *hold))
        if len(there) == 1:
            self._holds.pop(packed)
            return True
        at = there.index(hold)
        self._holds.put(packed, there[:at] + there[at + 1 :])
        return False

    # --- questions ------------------------------------------------------------------------------------------------

    def overlapping(self, network: Network) -> Iterator[Claim]:
        """All claims that equal, contain or lie inside the network; the widest first."""
        packed = network.packed
        for around in self._holds.including(network):
            if around != packed:
                yield from self._of(around)
        inside = self._sorted[network.version]
        for index in range(bisect_left(inside, packed), len(inside)):
            if not network.includes(Network.from_packed(inside[index])):
                break
            yield from self._of(inside[index])

    def _suspects(self, networks: Collection[PackedNetwork]) -> set[PackedNetwork]:
        """Those of the networks that `overlapping` finds any claim for: of very many, most are free."""
        found: set[PackedNetwork] = set()
        for (version, length), alike in by_length(networks).items():
            if not self._holds.keys().isdisjoint(alike):
                found.update([packed for packed in alike if packed in self._holds])
            others = sum(count for each, count in self._holds.lengths(version).items() if each != length)
            if not others:
                continue
            if others < len(alike):
                # Fewer are there than asked about: look from each of them.
                found.update(self._overlapped_by_any(version, length, sorted(alike)))
                continue
            there = self._sorted[version]
            for packed in alike:
                network = Network.from_packed(packed)
                if next(self._holds.including(network), None) is not None or any_inside(there, network):
                    found.add(packed)
        return found

    def _overlapped_by_any(
        self, version: int, length: int, ordered: Sequence[PackedNetwork]
    ) -> Iterator[PackedNetwork]:
        """Those of these networks, of one length and in order, that overlap a claim of another length."""
        for packed in self._holds:
            if VERSION_OF_PACKED[len(packed)] != version or packed[-1] == length:
                continue
            there = Network.from_packed(packed)
            around = there if there.length < length else there.address.with_length(length).network
            for index in range(bisect_left(ordered, around.packed), len(ordered)):
                if not around.includes(Network.from_packed(ordered[index])):
                    break
                yield ordered[index]

    def check(
        self,
        *,
        removed: Iterable[ClaimedNetworks],
        added: Iterable[ClaimedNetworks],
        is_delegation_allowed: bool = False,
    ) -> None:
        """Raise Conflict, naming the holder, when an added claim overlaps one of another interface.

        Claims about to be removed in the same change do not count, and neither do the holder's own: whether those
        make sense is the interface's business. With `is_delegation_allowed` a claim may lie inside a wider one of
        another; it may never be equal to one, nor contain one: then the other would get nothing any more. Inside of
        what the same interface held there already, and gives up in this change, it may be anyhow.
        """
        coming = list(added)
        given_up: NetworkTable[Holder] | None = None
        has_one_holder = len({each.holder for each in coming}) == 1
        arriving = Claims()
        for each in coming:
            suspects = self._suspects(each.networks)
            if arriving:
                suspects |= arriving._suspects(each.networks)
            for claim in each if suspects else ():
                if claim.network.packed not in suspects:
                    continue
                for there in (*self.overlapping(claim.network), *arriving.overlapping(claim.network)):
                    is_delegation = is_delegation_allowed and there.network.length < claim.network.length
                    if there.holder != claim.holder and not is_delegation and not _are_among(removed, there):
                        if given_up is None:
                            given_up = _by_network(removed)
                        if _is_less_than_before(claim, there, given_up):
                            continue
                        raise Conflict(
                            f"{_asked(claim)}: {there}",
                            code="address-held",
                            subject=str(claim.network),
                            holder=str(there.holder),
                        )
            if not has_one_holder:
                arriving.update(removed=(), added=[each])


class ClaimsChange(msgspec.Struct, frozen=True):
    """What a change of a container's configuration claims anew, and what it gives up, each in order."""

    removed: tuple[ClaimedNetworks, ...]
    added: tuple[ClaimedNetworks, ...]

    @classmethod
    def between(cls, before: Iterable[ClaimedNetworks], after: Iterable[ClaimedNetworks]) -> ClaimsChange:
        before, after = tuple(before), tuple(after)
        return cls(removed=_without(before, after), added=_without(after, before))

    def to_be_checked(self) -> tuple[ClaimedNetworks, ...]:
        """Those added that somebody else may hold: not what only passes to another name of the same interface."""
        return tuple(
            msgspec.structs.replace(each, networks=_not_in(each.networks, passed_on))
            for each in self.added
            for passed_on in [_networks_of(other for other in self.removed if other.kind is each.kind)]
        )


def _without(some: Iterable[ClaimedNetworks], others: Iterable[ClaimedNetworks]) -> tuple[ClaimedNetworks, ...]:
    """What is claimed in `some` and not in the others, for the same purpose by the same interface."""
    theirs = {(each.kind, each.holder): each.networks for each in others}
    left = (
        msgspec.structs.replace(each, networks=_not_in(each.networks, theirs.get((each.kind, each.holder), ())))
        for each in some
    )
    return tuple(each for each in left if each.networks)


def _networks_of(claims: Iterable[ClaimedNetworks]) -> Collection[PackedNetwork]:
    return frozenset(itertools.chain.from_iterable(each.networks for each in claims))


def _not_in(networks: tuple[PackedNetwork, ...], others: Collection[PackedNetwork]) -> tuple[PackedNetwork, ...]:
    if not networks or not others:
        return networks
    known = frozenset(others)
    return tuple([each for each in networks if each not in known])


def _are_among(claims: Iterable[ClaimedNetworks], one: Claim) -> bool:
    return any(
        (each.kind, each.holder) == (one.kind, one.holder) and one.network.packed in each.networks for each in claims
    )


def _by_network(claims: Iterable[ClaimedNetworks]) -> NetworkTable[Holder]:
    table: NetworkTable[Holder] = NetworkTable()
    for each in claims:
        for packed in each.networks:
            table.put(packed, each.holder)
    return table


def _is_less_than_before(claim: Claim, there: Claim, given_up: NetworkTable[Holder]) -> bool:
    """Whether a claim is all or a part of something that its holder held inside of what is there."""
    return any(
        packed[-1] > there.network.length and given_up.get(packed) == claim.holder
        for packed in given_up.including(claim.network)
    )


def _asked(claim: Claim) -> str:
    is_one_address = claim.network.length == BITS[claim.network.version]
    return str(claim.network.address) if is_one_address else str(claim.network)
