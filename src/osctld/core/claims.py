"""Who holds which part of the address space: one authority for all containers of the host."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from osctld.core.addresses import BITS, Network
from osctld.core.errors import Conflict

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


class Claims:
    """An index of all claims, derived from the configuration and updated after each save.

    A look-up costs a few dictionary and one bisection step, however many claims there are. Claims of different
    holders never overlap unless that was forced, but those of one holder may nest.
    """

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self._by_network: dict[Network, tuple[Claim, ...]] = {}
        # Networks in the order of their first address, for those inside a given one; per version because the
        # numbers of IPv4 and IPv6 are not comparable.
        self._sorted: dict[int, list[Network]] = {4: [], 6: []}
        # How many networks there are of each prefix length, the shortest first.
        self._lengths: dict[int, dict[int, int]] = {4: {}, 6: {}}
        self.update(removed=(), added=claims)

    def __iter__(self) -> Iterator[Claim]:
        for claims in self._by_network.values():
            yield from claims

    def __len__(self) -> int:
        return sum(map(len, self._by_network.values()))

    def update(self, *, removed: Iterable[Claim], added: Iterable[Claim]) -> None:
        stale = [claim.network for claim in removed if self._remove(claim)]
        fresh = [claim.network for claim in added if self._note(claim)]
        for version in {each.version for each in (*stale, *fresh)}:
            ordered = self._sorted[version]
            going = [each for each in stale if each.version == version]
            coming = [each for each in fresh if each.version == version]
            # Many at once in one pass over all; a few each at its place.
            if len(going) > _MANY:
                gone = frozenset(going)
                ordered[:] = [each for each in ordered if each not in gone]
            else:
                for each in going:
                    del ordered[bisect_left(ordered, each)]
            if len(coming) > _MANY:
                ordered.extend(coming)
                ordered.sort()
            else:
                for each in coming:
                    insort(ordered, each)

    def overlapping(self, network: Network) -> Iterator[Claim]:
        """All claims that equal, contain or lie inside the network; the widest first."""
        version, bits = network.version, BITS[network.version]
        for length in self._lengths[version]:
            if length >= network.length:
                break
            host_bits = bits - length
            around = Network(version, network.number >> host_bits << host_bits, length)
            yield from self._by_network.get(around, ())
        inside = self._sorted[version]
        for index in range(bisect_left(inside, network), len(inside)):
            if not network.includes(inside[index]):
                break
            yield from self._by_network[inside[index]]

    def _has_overlapping(self, network: Network) -> bool:
        """Whether `overlapping` finds any: the question for each of very many networks, most of which are free."""
        version, bits = network.version, BITS[network.version]
        for length in self._lengths[version]:
            if length >= network.length:
                break
            host_bits = bits - length
            if Network(version, network.number >> host_bits << host_bits, length) in self._by_network:
                return True
        inside = self._sorted[version]
        at = bisect_left(inside, network)
        return at < len(inside) and network.includes(inside[at])

    def check(
        self, *, removed: Iterable[Claim], added: Iterable[Claim], is_delegation_allowed: bool = False
    ) -> None:
        """Raise Conflict, naming the holder, when an added claim overlaps one of another interface.

        Claims about to be removed in the same change do not count, and neither do the holder's own: whether those
        make sense is the interface's business. With `is_delegation_allowed` a claim may lie inside a wider one of
        another; it may never be equal to one, nor contain one: then the other would get nothing any more.
        """
        leaving, coming = set(removed), list(added)
        has_one_holder = len({claim.holder for claim in coming}) == 1
        arriving = Claims()
        for claim in coming:
            if has_one_holder and not self._has_overlapping(claim.network):
                continue
            for there in (*self.overlapping(claim.network), *arriving.overlapping(claim.network)):
                is_delegation = is_delegation_allowed and there.network.length < claim.network.length
                if there.holder != claim.holder and there not in leaving and not is_delegation:
                    raise Conflict(
                        f"{_asked(claim)}: {there}",
                        code="address-held",
                        subject=str(claim.network),
                        holder=str(there.holder),
                    )
            if not has_one_holder:
                arriving.update(removed=(), added=[claim])

    def _note(self, claim: Claim) -> bool:
        """Keep the claim; whether its network is new to the index."""
        network = claim.network
        there = self._by_network.get(network)
        if there is not None:
            self._by_network[network] = (*there, claim)
            return False
        self._by_network[network] = (claim,)
        lengths = self._lengths[network.version]
        if network.length in lengths:
            lengths[network.length] += 1
        else:
            self._lengths[network.version] = dict(sorted({**lengths, network.length: 1}.items()))
        return True

    def _remove(self, claim: Claim) -> bool:
        """Forget the claim; whether nobody holds its network any more. Raises KeyError when nobody held it."""
        network = claim.network
        there = self._by_network[network]
        if claim not in there:
            raise KeyError(claim)
        at = there.index(claim)
        left = there[:at] + there[at + 1 :]
        if left:
            self._by_network[network] = left
            return False
        del self._by_network[network]
        lengths = self._lengths[network.version]
        lengths[network.length] -= 1
        if not lengths[network.length]:
            del lengths[network.length]
        return True


class ClaimsChange(msgspec.Struct, frozen=True):
    """What a change of a container's configuration claims anew, and what it gives up, each in order."""

    removed: tuple[Claim, ...]
    added: tuple[Claim, ...]

    @classmethod
    def between(cls, before: Iterable[Claim], after: Iterable[Claim]) -> ClaimsChange:
        before, after = tuple(before), tuple(after)
        if not before or not after:
            return cls(before, after)
        # Dictionaries rather than sets: they keep the order.
        old, new = dict.fromkeys(before), dict.fromkeys(after)
        return cls(
            removed=tuple([claim for claim in old if claim not in new]),
            added=tuple([claim for claim in new if claim not in old]),
        )

    def to_be_checked(self) -> list[Claim]:
        """Those added that somebody else may hold: not what only passes to another name of the same interface."""
        passed_on = {(claim.network, claim.kind) for claim in self.removed}
        return [claim for claim in self.added if (claim.network, claim.kind) not in passed_on]


def _asked(claim: Claim) -> str:
    is_one_address = claim.network.length == BITS[claim.network.version]
    return str(claim.network.address) if is_one_address else str(claim.network)
