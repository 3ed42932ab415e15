"""Who holds which part of the address space: one authority for all containers of the host."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from osctld.core.addresses import BITS, Network
from osctld.core.errors import Conflict


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
        self._by_network: dict[Network, list[Claim]] = {}
        # Networks in the order of their first address, for those inside a given one; per version because the
        # numbers of IPv4 and IPv6 are not comparable.
        self._sorted: dict[int, list[Network]] = {4: [], 6: []}
        self._lengths: dict[int, dict[int, int]] = {4: {}, 6: {}}
        self.update(removed=(), added=claims)

    def __iter__(self) -> Iterator[Claim]:
        for claims in self._by_network.values():
            yield from claims

    def __len__(self) -> int:
        return sum(map(len, self._by_network.values()))

    def update(self, *, removed: Iterable[Claim], added: Iterable[Claim]) -> None:
        for claim in removed:
            self._remove(claim)
        fresh = [claim for claim in added if self._note(claim)]
        if len(fresh) > 1000:
            for version in BITS:
                self._sorted[version].extend(each.network for each in fresh if each.network.version == version)
                self._sorted[version].sort()
        else:
            for claim in fresh:
                insort(self._sorted[claim.network.version], claim.network)

    def overlapping(self, network: Network) -> Iterator[Claim]:
        """All claims that equal, contain or lie inside the network; the widest first."""
        version, bits = network.version, BITS[network.version]
        for length in sorted(self._lengths[version]):
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

    def check(
        self, *, removed: Iterable[Claim], added: Iterable[Claim], is_delegation_allowed: bool = False
    ) -> None:
        """Raise Conflict, naming the holder, when an added claim overlaps one of another interface.

        Claims about to be removed in the same change do not count, and neither do the holder's own: whether those
        make sense is the interface's business. With `is_delegation_allowed` a claim may lie inside a wider one of
        another; it may never be equal to one, nor contain one: then the other would get nothing any more.
        """
        leaving = set(removed)
        arriving = Claims()
        for claim in added:
            for there in (*self.overlapping(claim.network), *arriving.overlapping(claim.network)):
                is_delegation = is_delegation_allowed and there.network.length < claim.network.length
                if there.holder != claim.holder and there not in leaving and not is_delegation:
                    raise Conflict(
                        f"{_asked(claim)}: {there}",
                        code="address-held",
                        subject=str(claim.network),
                        holder=str(there.holder),
                    )
            arriving.update(removed=(), added=[claim])

    def _note(self, claim: Claim) -> bool:
        """Keep the claim; whether its network is new to the index."""
        claims = self._by_network.setdefault(claim.network, [])
        claims.append(claim)
        if len(claims) > 1:
            return False
        lengths = self._lengths[claim.network.version]
        lengths[claim.network.length] = lengths.get(claim.network.length, 0) + 1
        return True

    def _remove(self, claim: Claim) -> None:
        claims = self._by_network[claim.network]
        claims.remove(claim)
        if claims:
            return
        del self._by_network[claim.network]
        ordered = self._sorted[claim.network.version]
        del ordered[bisect_left(ordered, claim.network)]
        lengths = self._lengths[claim.network.version]
        lengths[claim.network.length] -= 1
        if not lengths[claim.network.length]:
            del lengths[claim.network.length]


def _asked(claim: Claim) -> str:
    is_one_address = claim.network.length == BITS[claim.network.version]
    return str(claim.network.address) if is_one_address else str(claim.network)
