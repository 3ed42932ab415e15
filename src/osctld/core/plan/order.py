"""In which order the changes of a plan are made.

Make before break. The guest knows an address before the host sends packets for it, and the host stops sending before
the guest forgets it. Changes of one namespace stand together, so that each is one send.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, assert_never

import msgspec

from osctld.core.plan.changes import Add, Change, Remove, Replace, Restore, subject_of
from osctld.core.plan.kernel_model import link_local_of
from osctld.core.plan.kernel_state import (
    HOST,
    LEAST_IPV6_MTU,
    AssignedAddress,
    KernelObject,
    Link,
    Neighbour,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    Route,
    SiblingLinks,
    StoppedNetwork,
    Sysctl,
    Veth,
    Way,
)

#: Changes of a lower one come first.
Stage: TypeAlias = tuple[int, int]

_ADD_LINK = (10, 0)
_PACKET_FILTER = (11, 0)
_SET_SYSCTL = (20, 0)
_SET_HOST_LINK = (30, 0)
_SET_SYSCTL_LATE = (30, 1)
_REMOVE_LINK_LOCAL = (30, 2)
# Before the guest's end is up: without it, nothing that arrives on a link is let in.
_ADD_ELEMENT = (31, 0)
_PRESENT_IN_GUEST = 40
_PRESENT_ON_HOST = 50
_ABSENT_ON_HOST = 80
_ABSENT_IN_GUEST = 90
# When nothing arrives on a link any longer, and its name still denotes its number.
_REMOVE_ELEMENT = (98, 0)
_REMOVE_LINK = (99, 0)


def in_order(staged: Iterable[tuple[Stage, Change]]) -> list[Change]:
    """Changes by their stages; within one, in the order in which things were asked for."""
    ordered = _without_overlaps(_with_ipv6_in_its_time(staged))
    ordered.sort(key=lambda pair: pair[0])
    return [change for _, change in ordered]


def stage_of_presence(each: KernelObject, kind: type[Add] | type[Replace]) -> Stage:
    """When an object is added, or replaces the existing one with its key."""
    stage = _PRESENT_ON_HOST if each.namespace == HOST else _PRESENT_IN_GUEST
    match each:
        case Route():
            return stage_of_route_presence(each)
        case Veth():
            return _SET_HOST_LINK if kind is Replace else _ADD_LINK
        case Link():
            return (stage, 0)
        case AssignedAddress():
            return (stage, 1)
        case Neighbour():
            return (stage, 2)
        case Sysctl():
            return _SET_SYSCTL if each.namespace == HOST else (stage, 1)
        case SiblingLinks() | PrivateNetwork() | PermittedSource() | StoppedNetwork():
            return _ADD_ELEMENT
        case PacketFilter():
            return _PACKET_FILTER
        case _:
            assert_never(each)


def stage_of_replacement(old: KernelObject, new: KernelObject) -> Stage:
    """When an object takes the place of another one.

    An address that is to be chosen no more is so when the routes name another one: until then somebody sends from it.
    """
    stage, step = stage_of_presence(new, Replace)
    if isinstance(old, AssignedAddress) and old.is_source and msgspec.structs.replace(old, is_source=False) == new:
        return (stage, 6)
    return (stage, step)


def stage_of_route_presence(each: Route | Way) -> Stage:
    """The same for a route, or for all that lead the same way."""
    stage = _PRESENT_ON_HOST if each.namespace == HOST else _PRESENT_IN_GUEST
    if each.is_onlink:
        # For IPv6 the kernel asks where it would send packets for the gateway: to be the link itself by then.
        return (stage, 5)
    return (stage, 3 if each.gateway is None else 4)


def stage_of_absence(each: KernelObject) -> Stage:
    """When an object is removed."""
    stage = _ABSENT_ON_HOST if each.namespace == HOST else _ABSENT_IN_GUEST
    match each:
        case Route():
            return stage_of_route_absence(each)
        case Neighbour():
            return (stage, 2)
        case AssignedAddress():
            return (stage, 3)
        case Link() | Sysctl():
            return (stage, 4)
        case SiblingLinks() | PrivateNetwork() | PermittedSource() | StoppedNetwork():
            return _REMOVE_ELEMENT
        case PacketFilter():
            return (stage, 5)
        case Veth():
            return _REMOVE_LINK
        case _:
            assert_never(each)


def stage_of_route_absence(each: Route | Way) -> Stage:
    """When a route is removed, or all that lead the same way."""
    stage = _ABSENT_ON_HOST if each.namespace == HOST else _ABSENT_IN_GUEST
    return (stage, 1 if each.gateway is None else 0)


def _with_ipv6_in_its_time(ordered: Iterable[tuple[Stage, Change]]) -> list[tuple[Stage, Change]]:
    """Settings come before their link is up; but a link that gets IPv6 with a larger MTU has none of them before.

    So the kernel may give a link that is up an address of its own: it is removed at once.
    """
    changes = list(ordered)
    late = {
        each.new.name: each.new
        for _, each in changes
        if isinstance(each, Replace)
        and isinstance(each.old, Veth)
        and isinstance(each.new, Veth)
        and each.old.mtu < LEAST_IPV6_MTU <= each.new.mtu
    }
    if not late:
        return changes

    def is_late(change: Change) -> bool:
        subject = subject_of(change)
        return isinstance(subject, Sysctl) and subject.link in late and subject.path.startswith("ipv6/")

    return [
        *((_SET_SYSCTL_LATE if is_late(change) else stage, change) for stage, change in changes),
        *((_REMOVE_LINK_LOCAL, Remove(link_local_of(link))) for link in late.values() if link.is_up),
    ]


def _without_overlaps(ordered: Sequence[tuple[Stage, Change]]) -> list[tuple[Stage, Change]]:
    """Of elements that cannot be there together the old goes right before the new comes.

    Side by side they are one transaction, so that no packet sees the moment between.
    """
    coming = [
        each.object
        for _, each in ordered
        if isinstance(each, Add | Restore) and isinstance(each.object, PrivateNetwork | PermittedSource)
    ]
    if not coming:
        return list(ordered)
    first, rest = [], []
    for stage, each in ordered:
        is_in_the_way = (
            isinstance(each, Remove)
            and isinstance(each.object, PrivateNetwork | PermittedSource)
            and any(_exclude_each_other(each.object, other) for other in coming)
        )
        if is_in_the_way:
            first.append((_ADD_ELEMENT, each))
        else:
            rest.append((stage, each))
    return [*first, *rest]


def _exclude_each_other(one: PrivateNetwork | PermittedSource, other: PrivateNetwork | PermittedSource) -> bool:
    """Whether they overlap in one set: private networks of any links, sources of one link."""
    is_one_set = isinstance(one, PrivateNetwork) == isinstance(other, PrivateNetwork)
    is_one_link = isinstance(one, PrivateNetwork) or one.link == other.link
    return is_one_set and is_one_link and one.network.overlaps(other.network)
