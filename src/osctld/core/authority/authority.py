"""The authority on addresses: whether a holder may have what a change newly claims.

This host is one, and answers at once. Another one may stand above it, for many hosts; it is asked outside of the
writer's turn (`osctld.daemon.reservations`), and reserves what it grants until the change was saved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import msgspec

from osctld.core.address.addresses import BITS, Network
from osctld.core.authority import rules
from osctld.core.authority.claims import Claim, ClaimKind, Claims, ClaimsChange, Holder
from osctld.core.authority.host_networks import HostNetwork, HostSpace


class Need(msgspec.Struct, frozen=True):
    """A network that an interface is to hold: what an authority is asked for. Whoever holds it is known by UUID."""

    network: Network
    kind: ClaimKind
    holder: Holder
    #: The bridge of this host on which an address is used; empty for what the host routes.
    link: str = ""


class Reservation(msgspec.Struct, frozen=True):
    """What an authority granted, until it is told the outcome. `epoch` increases with each grant."""

    name: str
    epoch: int


class Authority(Protocol):
    """The port to an authority above this host. Each raises Unavailable when it does not answer."""

    async def claim(self, needs: Collection[Need], /, *, reserves: bool) -> Reservation | None:
        """Reserve these networks, or ask whether they could be. Raises Conflict, naming the holder."""

    async def keep(self, reservation: Reservation, /) -> None:
        """What was reserved is held from now on."""

    async def give_back(self, reservation: Reservation, /) -> None:
        """Nothing came of it."""

    async def release(self, needs: Collection[Need], /) -> None:
        """These are no longer held."""

    async def settle(self, needs: Collection[Need], /) -> Collection[Need]:
        """This is all that the host holds; those that others hold meanwhile."""


def needs_of(change: ClaimsChange) -> frozenset[Need]:
    """What a change has to be granted: not what only passes to another name of its interface, but what passes to
    another interface."""
    return frozenset(_needs(change.regardless_of_names().added))


def needs_held(claims: Iterable[Claim]) -> frozenset[Need]:
    return frozenset(map(_need, claims))


def released_by(change: ClaimsChange) -> frozenset[Need]:
    """What is no longer held after a change."""
    return frozenset(_needs(change.regardless_of_names().removed))


def _needs(claims: Iterable[Iterable[Claim]]) -> Iterator[Need]:
    return (_need(each) for claimed in claims for each in claimed)


def _need(claim: Claim) -> Need:
    return Need(claim.network, claim.kind, claim.holder, claim.link)


class Asking(msgspec.Struct, frozen=True):
    """What a change gives up and newly claims, and under which conditions.

    `declared`: links whose networks containers may use parts of. `delegates` and `overlaps_host`: what of that
    was allowed by name.
    """

    change: ClaimsChange
    declared: Collection[str] = ()
    delegates: bool = False
    overlaps_host: bool = False


def check(asking: Asking, *, holdings: Claims, space: HostSpace) -> None:
    """Raise Conflict, naming the holder, when something of it is another's or the host's."""
    rules.check_others(
        holdings,
        removed=asking.change.removed,
        added=asking.change.to_be_checked(),
        is_delegation_allowed=asking.delegates,
    )
    rules.check_host(asking.change, space, declared=asking.declared, is_forced=asking.overlaps_host)


#: If more networks are claimed at once, routes of routing daemons to them are not mentioned.
_FEW = 16


def to_be_mentioned(asking: Asking) -> tuple[Network, ...]:
    """The networks of which it is worth a word that a routing daemon brought a route to them: of few, all."""
    added = [each for each in asking.change.added if each.networks]
    if sum(len(each.networks) for each in added) > _FEW:
        return ()
    return tuple(Network.from_packed(packed) for each in added for packed in each.networks)


def mentions(networks: Iterable[Network], found: Iterable[HostNetwork]) -> tuple[str, ...]:
    """Messages about routes of routing daemons, which conflict with nothing."""
    asked = list(networks)
    return tuple(
        f"{_named(network)}: {there}" for there in found for network in asked if there.network.overlaps(network)
    )


def _named(network: Network) -> str:
    return str(network.address) if network.length == BITS[network.version] else str(network)
