"""What becomes of differences inside a guest that none of our commands made.

The host side is always brought to what is wanted. Inside, the tenant may have changed what we wrote: a plan leaves
that alone unless the interface's policy is to enforce, the change is about it, or the change cannot be without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import Address
from osctld.core.config.host import GuestPolicy
from osctld.core.errors import Refused
from osctld.core.plan.address_order import Subnet, first_differences, has_several, order_of
from osctld.core.plan.changes import Change, Remove, subject_of
from osctld.core.plan.kernel_model import on_renamed, peer_of, version_of
from osctld.core.plan.kernel_state import (
    HOST,
    LEAST_IPV6_MTU,
    AssignedAddress,
    KernelObject,
    KernelState,
    Link,
    Neighbour,
    Route,
    Sysctl,
    Veth,
)
from osctld.core.plan.text import describe, describe_in_place


class Aim(msgspec.Struct, frozen=True):
    """The target of a plan, and the differences from the configuration that it leaves: as they should be, not as they
    are."""

    want: KernelState
    drift: tuple[KernelObject, ...] = ()


def aim(
    want: KernelState,
    have: KernelState,
    *,
    before: KernelState,
    unsettled: KernelState | None,
    policies: Mapping[str, GuestPolicy],
    without_ipv6: Collection[str] = (),
    known: KernelState | None = None,
) -> Aim:
    """Return the target of a change from `before` to `want` in a kernel that holds `have` of ours.

    `unsettled` is what a change wanted that was neither kept nor undone: what it touched was not changed by a tenant.
    `policies` go by the interface's wanted name inside, `without_ipv6`, where the tenant switched IPv6 off, by the name
    that it has. What was there of it is out of our reach, and must not keep anybody from taking an address away; what
    is new is refused by the kernel. `known` is what no change has to be refused for, where that is more than `before`.
    """
    known = before if known is None else known
    lost = _out_of_reach(want, have, before=known, without_ipv6=without_ipv6) if without_ipv6 else ()
    if lost:
        rest = want.without_keys(each.key for each in lost)
        within = aim(rest, have, before=before, unsettled=unsettled, policies=policies)
        told = [each for each in lost if policies.get(_interface_of(each)) is not GuestPolicy.ONCE]
        return Aim(within.want, (*within.drift, *told))
    aimed = (
        Aim(want)
        if unsettled is None and have == before
        else _aim_at_objects(want, have, before=before, unsettled=unsettled, policies=policies)
    )
    return _in_the_tenants_order(aimed, have, before=before, unsettled=unsettled, policies=policies)


def aim_at_all(want: KernelState, have: KernelState, *, before: KernelState, without_ipv6: Collection[str]) -> Aim:
    """Everything possible: if the tenant disabled IPv6, IPv6 objects stay absent, which is reported."""
    lost = _out_of_reach(want, have, before=before, without_ipv6=without_ipv6) if without_ipv6 else []
    return Aim(want.without_keys(each.key for each in lost), tuple(lost))


def beside_others(want: KernelState, foreign: KernelState) -> KernelState:
    """The same with addresses in guests that have the scope of a tenant's address in their IPv4 subnet.

    The kernel takes no two of different scopes there, and what the tenant has added stays as it is.
    """
    scopes = {
        (each.namespace, each.link, each.address.network): each.is_source
        for each in foreign.others.values()
        if isinstance(each, AssignedAddress) and each.namespace != HOST and each.address.version == 4
    }
    changed = []
    for each in want.others.values() if scopes else ():
        if isinstance(each, AssignedAddress) and each.namespace != HOST:
            is_source = scopes.get((each.namespace, each.link, each.address.network), each.is_source)
            if is_source != each.is_source:
                changed.append(msgspec.structs.replace(each, is_source=is_source))
    return want.with_objects(changed) if changed else want


def too_small_for_ipv6(have: KernelState) -> frozenset[str]:
    """The links in guests on which there is no IPv6, because the tenant made their MTU too small."""
    links = (each for each in have.others.values() if isinstance(each, Link) and each.namespace != HOST)
    return frozenset(each.name for each in links if each.mtu < LEAST_IPV6_MTU)


def refuse_ipv6_in_vain(changes: Iterable[Change], end: KernelState, *, without_ipv6: Collection[str]) -> None:
    """Refuse what would put IPv6 on a link in a guest that has none: the tenant's MTU is too small, or it is off.

    `end` is what the changes lead to. The kernel would say `Permission denied`, or `Invalid argument`.
    """
    mtus = {each.name: each.mtu for each in end.others.values() if isinstance(each, Link) and each.namespace != HOST}
    for change in changes:
        subject = subject_of(change)
        if isinstance(change, Remove) or subject.namespace == HOST or not isinstance(subject, AssignedAddress | Route):
            continue
        if version_of(subject) != 6:
            continue
        if subject.link in without_ipv6:
            why = f"IPv6 is disabled there by net.ipv6.conf.{subject.link}.disable_ipv6"
        elif mtus.get(subject.link, LEAST_IPV6_MTU) < LEAST_IPV6_MTU:
            why = f"{subject.link} has an MTU of {mtus[subject.link]} there, and IPv6 requires {LEAST_IPV6_MTU}"
        else:
            continue
        raise Refused(f"{describe_in_place(subject)}: {why}", code="no-ipv6-inside", subject=describe(subject))


def _out_of_reach(
    want: KernelState, have: KernelState, *, before: KernelState, without_ipv6: Collection[str]
) -> list[KernelObject]:
    """What was already wanted in guests but cannot be there as it should, because there is no IPv6.

    Interfaces may be about to get other names than they have, and than they had before.
    """
    links: dict[str, tuple[Link, str]] = {}
    for key, wanted in want.others.items():
        present, saved = have.get(key), before.get(key)
        if isinstance(wanted, Veth) and isinstance(present, Veth) and present.peer_name in without_ipv6:
            links[wanted.peer_name] = peer_of(wanted), saved.peer_name if isinstance(saved, Veth) else wanted.peer_name
    return [
        each
        for key, each in want.items()
        if each.namespace != HOST
        and version_of(each) == 6
        and _interface_of(each) in links
        and on_renamed(each, *links[_interface_of(each)]).key in before
        and have.get(key) != each
    ]


def _aim_at_objects(
    want: KernelState,
    have: KernelState,
    *,
    before: KernelState,
    unsettled: KernelState | None,
    policies: Mapping[str, GuestPolicy],
) -> Aim:
    begun = _touched(before, unsettled) if unsettled is not None else frozenset()
    differing = {
        key: wanted
        for key, wanted in want.items()
        if have.get(key) != wanted
        and before.get(key) == wanted
        and (unsettled is None or unsettled.get(key) == wanted)
        and not (key not in have and _interface_of(wanted) in begun)
        and (isinstance(wanted, Veth) or wanted.namespace != HOST)
        and policies.get(_interface_of(wanted)) is not GuestPolicy.ENFORCE
    }
    if not differing:
        return Aim(want)
    changing = [
        wanted
        for key, wanted in want.items()
        if key not in differing and have.get(key) != wanted and wanted.namespace != HOST
    ]
    named = {
        wanted.peer_name
        for key, wanted in want.others.items()
        if isinstance(wanted, Veth) and key not in differing and _has_other_name(wanted, have)
    }
    for each in _needed(differing.values(), changing, named, have):
        del differing[each.key]
    kept: list[KernelObject] = []
    gone = []
    drift: list[KernelObject] = []
    for key, wanted in differing.items():
        present = have.get(key)
        if isinstance(wanted, Veth):
            if not isinstance(present, Veth):
                continue
            left = msgspec.structs.replace(
                wanted,
                peer_namespace=present.peer_namespace,
                peer_name=present.peer_name,
                peer_mac=present.peer_mac,
            )
            if left == wanted:
                continue  # what differs is the host's side of it
            kept.append(left)
        elif present is None:
            gone.append(key)
        else:
            kept.append(present)
        if policies.get(_interface_of(wanted)) is not GuestPolicy.ONCE:
            drift.append(wanted)
    return Aim(want.without_keys(gone).with_objects(kept), tuple(drift))


def _in_the_tenants_order(
    aimed: Aim,
    have: KernelState,
    *,
    before: KernelState,
    unsettled: KernelState | None,
    policies: Mapping[str, GuestPolicy],
) -> Aim:
    """Leave the IPv4 addresses of a subnet in an order that only the tenant can have made; new ones come last."""
    wanted = order_of(aimed.want.others.values())
    if not has_several(wanted):
        return aimed
    found, saved = order_of(have.others.values()), order_of(before.others.values())
    begun = _touched(before, unsettled) if unsettled is not None else frozenset()
    left: dict[Subnet, Sequence[Address]] = {}
    for subnet, addresses in wanted.items():
        there = found.get(subnet, ())
        is_unchanged = _agree(addresses, saved.get(subnet, ())) and subnet[1] not in begun
        if is_unchanged and not _agree(there, addresses) and policies.get(subnet[1]) is not GuestPolicy.ENFORCE:
            known = set(addresses)
            kept = [each for each in there if each in known]
            left[subnet] = [*kept, *(each for each in addresses if each not in kept)]
    if not left:
        return aimed
    objects = {
        (each.namespace, each.link, each.address.network, each.address.address): each
        for each in aimed.want.others.values()
        if isinstance(each, AssignedAddress)
    }
    moved = [objects[(*subnet, address)] for subnet, addresses in left.items() for address in addresses]
    out_of_place = [
        objects[(*subnet, address)]
        for subnet, first in first_differences({each: wanted[each] for each in left}, [left]).items()
        for address in wanted[subnet][first:]
        if policies.get(subnet[1]) is not GuestPolicy.ONCE
    ]
    told = {each.key for each in aimed.drift}
    return Aim(
        aimed.want.without_keys(each.key for each in moved).with_objects(moved),
        (*aimed.drift, *(each for each in out_of_place if each.key not in told)),
    )


def _agree(one: Sequence[Address], other: Sequence[Address]) -> bool:
    """Whether what is in both orders stands in the same order."""
    in_both = set(one).intersection(other)
    return [each for each in one if each in in_both] == [each for each in other if each in in_both]


def _touched(before: KernelState, unsettled: KernelState) -> frozenset[str]:
    """The interfaces that a change was about: of those the kernel may have taken along what the change left alone."""
    orders = order_of(before.objects), order_of(unsettled.objects)
    return frozenset(
        [
            *(
                _interface_of(each)
                for one, other in ((before, unsettled), (unsettled, before))
                for key, each in one.items()
                if other.get(key) != each
            ),
            *(subnet[1] for subnet, order in orders[0].items() if orders[1].get(subnet) != order),
        ]
    )


def _interface_of(each: KernelObject) -> str:
    """The name inside of the interface that an object belongs to."""
    match each:
        case Veth():
            return each.peer_name
        case Link():
            return each.name
        case AssignedAddress() | Route() | Neighbour():
            return each.link
        case Sysctl() if each.namespace != HOST:
            return each.link
        case _:
            return ""


def _has_other_name(wanted: Veth, have: KernelState) -> bool:
    """Whether the other end of a pair is missing, or there by another name."""
    present = have.get(wanted.key)
    return not (isinstance(present, Veth) and present.peer_name == wanted.peer_name)


def _needed(
    differing: Iterable[KernelObject], changing: Iterable[KernelObject], named: Collection[str], have: KernelState
) -> list[KernelObject]:
    """Differences that must be repaired nevertheless, because the change makes no sense otherwise.

    A link that is down, has left or has another name, with all that is on it, for one that goes down takes its routes
    and IPv6 addresses along; a pair that is gone and is recreated, likewise, because half a link is of no use; and an
    address that a changed route has as its source or is reached by.
    """
    those = list(differing)
    changed = list(changing)
    touched = {_interface_of(each) for each in changed}
    lost: set[str] = set()
    for each in those:
        present = have.get(each.key)
        if (isinstance(each, Link) and not (isinstance(present, Link) and present.is_up)) or (
            isinstance(each, Veth) and _has_other_name(each, have)
        ):
            lost.add(_interface_of(each))
    lost &= touched
    lost |= {*named}
    # A link that gets its name back may have that of another one, which then gets its own back as well.
    others = {_interface_of(each) for each in those if isinstance(each, Veth) and _has_other_name(each, have)}
    if named or lost & others:
        lost |= others
    lost |= {_interface_of(each) for each in those if isinstance(each, Veth) and each.key not in have}
    return [
        each
        for each in those
        if _interface_of(each) in lost
        or (
            isinstance(each, AssignedAddress)
            and any(isinstance(other, Route) and _names(other, each) for other in changed)
        )
    ]


def _names(route: Route, assigned: AssignedAddress) -> bool:
    """Whether a route has an address as its source, or goes to a gateway that it makes reachable."""
    address = assigned.address
    return route.namespace == assigned.namespace and (
        route.source == address.address
        or (route.gateway is not None and route.link == assigned.link and address.network.includes(route.gateway))
    )
