"""By which rules a network may be held: each of them a sentence, which is its docstring, and a function.

A holder is either an interface of a container, running or stopped, or the host itself. Rules about the host are applied
one after another in the order of `HOST_RULES`, and the first that objects is reported. What somebody held before a rule
came to object to it stays: `older_holdings` finds it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

import msgspec

from osctld.core.address.addresses import BITS, InterfaceAddress, Network
from osctld.core.address.network_table import NetworkTable
from osctld.core.authority.claims import Claim, ClaimedNetworks, ClaimKind, Claims, ClaimsChange, Holder
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use
from osctld.core.errors import Conflict


class Holdings(Protocol):
    """Who holds what, read-only."""

    def overlapping(self, network: Network, /) -> Iterator[Claim]:
        """All claims that equal, contain or lie inside the network; the widest first."""


class Needs(Protocol):
    """An interface, as far as it is known here."""

    def reason_not_delegable(self, network: Network, /) -> str | None:
        """What it needs itself of a part of its networks, so that the part cannot go to another; None: nothing."""


# All of them are asked in the same way, whether or not they look at every argument.

# --- rules about the host -----------------------------------------------------------------------------------------


def takes_an_address_of_the_host(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """An address of the host stays the host's: nothing that equals or contains it is held by anybody."""
    return there.use is Use.ADDRESS and wanted.network.includes(there.network)


def takes_an_edge(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """The network address and the broadcast address of an IPv4 network that the host is in mean all of its members."""
    return there.use is Use.EDGE and wanted.network.includes(there.network)


def takes_a_next_hop(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """A router that one of the host's routes leads to, in whatever table, would no longer be reachable."""
    return there.use is Use.NEXT_HOP and wanted.network.includes(there.network)


def takes_a_network_of_the_host(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """A network that the host is connected to, or has a static route to, is never held as a whole."""
    return there.use in _NETWORKS and wanted.network.includes(there.network) and not _is_by_its_bridge(wanted, there)


def lies_in_a_static_route(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """Where a static route other than the default leads, somebody was meant: not even a part of it is taken, but on the
    bridge that it leads to."""
    is_part = there.use is Use.STATIC and there.network.includes(wanted.network)
    return is_part and not _is_by_its_bridge(wanted, there)


def lies_in_an_undeclared_network(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:
    """A part of a network that the host is in belongs to a neighbour, unless its link was declared for containers."""
    is_part = there.use is Use.CONNECTED and there.network.includes(wanted.network)
    return is_part and not wanted.link and there.link not in declared


def lies_in_the_network_of_another_link(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """An address on a bridge is in no network that the host is in by another link: there the host would look for it."""
    is_part = there.use is Use.CONNECTED and there.network.includes(wanted.network)
    return is_part and bool(wanted.link) and not _is_by_its_bridge(wanted, there)


def _is_by_its_bridge(wanted: Claim, there: HostNetwork) -> bool:
    """Whether the host looks for an address on the bridge where it is."""
    return bool(wanted.link) and wanted.link == there.link


def is_a_via_beside_the_host(wanted: Claim, there: HostNetwork, declared: Collection[str]) -> bool:  # noqa: ARG001
    """An interconnecting network has nothing in common with what the host uses, a declared link or not."""
    return wanted.kind is ClaimKind.VIA and there.use is not Use.LEARNED and wanted.network.overlaps(there.network)


#: What nobody may hold, forced or not.
_ABSOLUTE = (Use.ADDRESS, Use.EDGE)
#: What has parts.
_NETWORKS = (Use.CONNECTED, Use.STATIC)


class HostRule(msgspec.Struct, frozen=True):
    """A rule about the host. One that `yields` is passed over with --overlap-host."""

    objects: Callable[[Claim, HostNetwork, Collection[str]], bool]
    yields: bool = True
    #: What is said behind the cause; `{link}` stands for the host's link.
    remedy: str = "; --overlap-host permits it"

    @property
    def sentence(self) -> str:
        return " ".join((self.objects.__doc__ or "").split())


HOST_RULES = (
    HostRule(takes_an_address_of_the_host, yields=False, remedy=""),
    HostRule(takes_an_edge, yields=False, remedy=""),
    HostRule(takes_a_next_hop),
    HostRule(takes_a_network_of_the_host),
    HostRule(is_a_via_beside_the_host),
    HostRule(lies_in_a_static_route),
    HostRule(lies_in_an_undeclared_network, remedy="; osctl net uplink add {link} permits it"),
    HostRule(lies_in_the_network_of_another_link),
)


def is_mentioned(wanted: Claim, there: HostNetwork) -> bool:
    """Routes that a routing daemon learned come and go: they conflict with nothing, but are mentioned."""
    return there.use is Use.LEARNED and there.network.length > 0 and there.network.overlaps(wanted.network)


class Objection(msgspec.Struct, frozen=True):
    """Why a network is not to be held: a rule, and what the host uses."""

    wanted: Claim
    there: HostNetwork
    rule: HostRule

    @property
    def cause(self) -> str:
        """The cause of the conflict; the network itself is not repeated."""
        asked = named(self.wanted.network)
        return f"{asked} is {self.there.is_what}" if asked == self.there.subject else f"{asked}: {self.there}"

    def conflict(self) -> Conflict:
        return Conflict(
            self.cause + self.rule.remedy.format(link=self.there.link),
            code="host-uses",
            subject=str(self.wanted.network),
            holder=str(self.there),
        )


def objections(
    wanted: Claim, space: HostSpace, *, declared: Collection[str] = (), is_forced: bool = False
) -> list[Objection]:
    """All that the host has to say against a claim, the first what no option passes over."""
    present = list(space.overlapping(wanted.network))
    return [
        Objection(wanted, there, rule)
        for rule in HOST_RULES
        if not (is_forced and rule.yields)
        for there in present
        if rule.objects(wanted, there, declared)
    ]


def check_host(
    change: ClaimsChange, space: HostSpace, *, declared: Collection[str] = (), is_forced: bool = False
) -> None:
    """Raise Conflict if the host uses something that a change newly claims.

    What lies in something that is given up in the same change was a container's before.
    """
    for each in change.to_be_checked():
        given_up: NetworkTable[Holder] | None = None
        suspects = space.suspects(each.networks)
        for packed in each.networks if suspects else ():
            if packed not in suspects:
                continue
            claim = Claim(Network.from_packed(packed), *each.hold)
            found = objections(claim, space, declared=declared, is_forced=is_forced)
            if not found:
                continue
            if given_up is None:
                # On another bridge, it is something else that the host may say of it.
                given_up = by_network(other for other in change.removed if other.link == each.link)
            if next(given_up.including(claim.network), None) is None:
                raise found[0].conflict()


def check_assigned(
    addresses: Iterable[InterfaceAddress], holder: Holder, space: HostSpace, *, is_forced: bool = False
) -> None:
    """Raise Conflict when an address is the host's, though it lies in what its holder holds already."""
    for address in addresses:
        claim = Claim(address.address.as_network(), ClaimKind.ADDRESS, holder)
        for found in objections(claim, space, declared=space.links, is_forced=is_forced):
            if found.there.use in (Use.ADDRESS, Use.EDGE, Use.NEXT_HOP):
                raise found.conflict()


def check_free_on_host(network: Network, space: HostSpace, *, is_forced: bool = False) -> None:
    """Raise Conflict if the host uses any part of a network that was not named in the request."""
    found = [each for each in space.overlapping(network) if each.use is not Use.LEARNED]
    for there in sorted(found, key=lambda each: each.use not in _ABSOLUTE):
        if there.use in _ABSOLUTE or not is_forced:
            raise Conflict(f"{network}: {there}", code="host-uses", subject=str(network), holder=str(there))


class OlderHolding(msgspec.Struct, frozen=True):
    """A holding that would be refused today; `count` is the number of such holdings with the same cause and holder."""

    objection: Objection
    count: int

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that resolve it on the host's side, if known.

        None on the container's side: whether the container or the host keeps the addresses, and what of a network is
        given up, is the operator's decision.
        """
        there = self.objection.there
        if "{link}" in self.objection.rule.remedy:
            return (f"osctl net uplink add {there.link}",)
        if there.use is Use.ADDRESS:
            return (f"ip addr del {there.more or there.network} dev {there.link}",)
        if there.use is Use.STATIC and there.link:
            family, protocol = "" if there.network.version == 4 else " -6", f" proto {there.more}" if there.more else ""
            return (f"ip{family} route del {there.network} dev {there.link}{protocol}",)
        return ()


def older_holdings(holdings: Holdings, space: HostSpace, *, declared: Collection[str] = ()) -> Iterator[OlderHolding]:
    """What is held in spite of a rule, because it was held before the host used it, or was forced."""
    # The kernel routes an address of the host with its full length, too: that is the same once more.
    addresses: set[tuple[Network, str]] = set()
    for there in space:
        if there.use is Use.ADDRESS:
            addresses.add((there.network, there.link))
        elif there.use is Use.CONNECTED and (there.network, there.link) in addresses:
            continue
        found: dict[Holder, tuple[Objection, int]] = {}
        for claim in holdings.overlapping(there.network):
            for rule in HOST_RULES:
                if rule.objects(claim, there, declared):
                    first, count = found.get(claim.holder, (Objection(claim, there, rule), 0))
                    found[claim.holder] = (first, count + 1)
                    break
        for objection, count in found.values():
            yield OlderHolding(objection, count)


# --- rules among interfaces ---------------------------------------------------------------------------------------


def is_held_by_another(wanted: Claim, there: Claim, *, is_forced: bool = False) -> bool:
    """What one interface holds no other holds: not the same, no part of it, nothing that contains it. With --delegate
    a part of a wider network is given on to another, but never all of it. On different bridges the same address may be
    used twice, for nobody on the one sees the other; the host routes none of the two."""
    if there.holder == wanted.holder or not wanted.may_meet(there):
        return False
    is_delegation = is_forced and there.network.length < wanted.network.length
    return wanted.network.overlaps(there.network) and not is_delegation


def needed_by_its_holder(wanted: Claim, there: Claim, holder: Needs) -> str | None:
    """What a holder needs of its network itself is not given on: the ends of a via, all of a private via, addresses
    that are assigned."""
    if there.holder == wanted.holder or there.network == wanted.network:
        return None
    return holder.reason_not_delegable(wanted.network)


def is_given_on(address: Network, holder: Holder, holdings: Holdings) -> Claim | None:
    """An address that was given on to another is not assigned by the holder of the network around it."""
    # The last that includes the address is the most specific: the host's kernel follows that.
    holders = list(holdings.overlapping(address))
    return holders[-1] if holders and holders[-1].holder != holder else None


def comes_to_need(there: Claim, holder: Holder, network: Network, interface: Needs) -> str | None:
    """A via does not come to need what was given on of its network."""
    if there.holder == holder or there.network == network or not network.includes(there.network):
        return None
    return interface.reason_not_delegable(there.network)


def check_others(
    holdings: Claims,
    *,
    removed: Iterable[ClaimedNetworks],
    added: Iterable[ClaimedNetworks],
    is_delegation_allowed: bool = False,
) -> None:
    """Raise Conflict, naming the holder, when an added claim overlaps one of another interface.

    Claims about to be removed in the same change do not count, and neither do the holder's own: whether those
    make sense is the interface's business. Inside of what the same interface held there already, and gives up in this
    change, a claim may be anyhow.
    """
    removed, coming = tuple(removed), list(added)
    given_up: NetworkTable[Holder] | None = None
    has_one_holder = len({each.holder for each in coming}) == 1
    arriving = Claims()
    for each in coming:
        suspects = holdings.suspects(each.networks)
        if arriving:
            suspects |= arriving.suspects(each.networks)
        for packed in each.networks if suspects else ():
            if packed not in suspects:
                continue
            claim = Claim(Network.from_packed(packed), *each.hold)
            for there in itertools.chain(holdings.overlapping(claim.network), arriving.overlapping(claim.network)):
                if not is_held_by_another(claim, there, is_forced=is_delegation_allowed) or _are_among(removed, there):
                    continue
                if given_up is None:
                    given_up = by_network(removed)
                if not _is_less_than_before(claim, there, given_up):
                    raise held_by(there, claim.network)
        if not has_one_holder:
            arriving.update(removed=(), added=[each])


def held_by(there: Claim, asked: Network) -> Conflict:
    """The refusal of a network that another holds."""
    return Conflict(f"{named(asked)}: {there}", code="address-held", subject=str(asked), holder=str(there.holder))


def by_network(claims: Iterable[ClaimedNetworks]) -> NetworkTable[Holder]:
    table: NetworkTable[Holder] = NetworkTable()
    for each in claims:
        for packed in each.networks:
            table.put(packed, each.holder)
    return table


def named(network: Network) -> str:
    """A network as a person names it: one of a single address by that."""
    return str(network.address) if network.length == BITS[network.version] else str(network)


def _are_among(claims: Iterable[ClaimedNetworks], one: Claim) -> bool:
    return any(
        each.hold == (one.kind, one.holder, one.link) and one.network.packed in each.networks for each in claims
    )


def _is_less_than_before(claim: Claim, there: Claim, given_up: NetworkTable[Holder]) -> bool:
    """Whether a claim is all or a part of something that its holder held inside of what is there."""
    return any(
        packed[-1] > there.network.length and given_up.get(packed) == claim.holder
        for packed in given_up.including(claim.network)
    )
