"""Our model of what a kernel does of its own accord when it is changed; it always assumes the worst.

Deleting an address deletes routes, a link takes everything on it along. The laws in tests/kernel hold the model against
the real kernel: it is never more hopeful.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

import msgspec

from osctld.core.changes import Add, Change, Remove, RenameLink, Replace, Restore
from osctld.core.kernel_state import (
    AssignedAddress,
    KernelObject,
    KernelState,
    Key,
    Link,
    Neighbour,
    PacketFilter,
    PrivateNetwork,
    Route,
    SiblingLinks,
    Sysctl,
    Veth,
)


def pretend(state: KernelState, changes: Iterable[Change]) -> KernelState:
    """The state that the changes lead to by our model of the kernel, which assumes the worst of side effects."""
    objects = dict(state)
    for change in changes:
        match change:
            case Add(new) | Restore(new):
                objects[new.key] = new
                if isinstance(new, Veth):
                    peer = peer_of(new)
                    objects.setdefault(peer.key, peer)
            case Replace(old, new):
                objects.pop(old.key, None)
                _take_along(objects, old, new)
                objects[new.key] = new
            case Remove(old):
                objects.pop(old.key, None)
                _take_along(objects, old, None)
            case RenameLink(old, new):
                objects = {each.key: each for each in (on_renamed(each, old, new.name) for each in objects.values())}
            case _:
                assert_never(change)
    return KernelState(objects.values())


def on_renamed(each: KernelObject, link: Link, name: str) -> KernelObject:
    """The object as it is after a link, which is the peer of a pair, was given another name."""
    match each:
        case Link() if (each.namespace, each.name) == (link.namespace, link.name):
            return msgspec.structs.replace(each, name=name)
        case Veth() if (each.peer_namespace, each.peer_name) == (link.namespace, link.name):
            return msgspec.structs.replace(each, peer_name=name)
        case AssignedAddress() | Route() | Neighbour() if (each.namespace, each.link) == (link.namespace, link.name):
            return msgspec.structs.replace(each, link=name)
        case Sysctl() if (each.namespace, each.link) == (link.namespace, link.name):
            return msgspec.structs.replace(each, link=name, path=each.path.replace(f"/{link.name}/", f"/{name}/"))
        case _:
            return each


def _take_along(objects: dict[Key, KernelObject], old: KernelObject, new: KernelObject | None) -> None:
    match old:
        case Veth() if new is None:
            lost = [key for key, each in objects.items() if goes_along(each, old)]
        case Veth() | Link() if isinstance(new, Veth | Link) and old.is_up and not new.is_up:
            # Link down drops routes, IPv6 addresses and neighbours; link up brings none of them back.
            lost = [
                key
                for key, each in objects.items()
                if isinstance(each, Route | Neighbour | AssignedAddress)
                and (each.namespace, each.link) == (old.namespace, old.name)
                and not (isinstance(each, AssignedAddress) and each.address.version == 4)
            ]
        case Veth() | Link() if isinstance(new, Veth | Link) and old.mac != new.mac:
            # With its own address a link forgets those of its neighbours, permanent ones too
            # (linux/net/core/neighbour.c, neigh_changeaddr).
            lost = [
                key
                for key, each in objects.items()
                if isinstance(each, Neighbour) and (each.namespace, each.link) == (old.namespace, old.name)
            ]
        case AssignedAddress():
            lost = [key for key, each in objects.items() if depends_on_address(each, old)]
        case _:
            lost = []
    for key in lost:
        gone = objects.pop(key, None)
        if isinstance(gone, AssignedAddress):
            # In turn: with the other addresses of its subnet go the routes whose preferred source they were.
            _take_along(objects, gone, None)
    if isinstance(old, AssignedAddress) and old.address.version == 4 and not _has_ipv4_address(objects, old):
        # With its last IPv4 address a link loses all IPv4 routes and neighbours, permanent ones too
        # (linux/net/ipv4/fib_frontend.c, fib_disable_ip).
        for key in [key for key, each in objects.items() if _is_ipv4_on_link(each, old)]:
            del objects[key]


def _has_ipv4_address(objects: Mapping[Key, KernelObject], gone: AssignedAddress) -> bool:
    place = (gone.namespace, gone.link)
    return any(
        isinstance(each, AssignedAddress) and each.address.version == 4 and (each.namespace, each.link) == place
        for each in objects.values()
    )


def _is_ipv4_on_link(each: KernelObject, gone: AssignedAddress) -> bool:
    match each:
        case Route():
            version = each.network.version
        case Neighbour():
            version = each.address.version
        case _:
            return False
    return version == 4 and (each.namespace, each.link) == (gone.namespace, gone.link)


def goes_along(each: KernelObject, link: Veth) -> bool:
    """Whether an object is worth nothing without a veth pair: everything on either end, and the other end itself."""
    ends = ((link.namespace, link.name), (link.peer_namespace, link.peer_name))
    match each:
        case Veth() | Link():
            return (each.namespace, each.name) in ends
        case AssignedAddress() | Route() | Neighbour() | Sysctl():
            return (each.namespace, each.link) in ends
        case SiblingLinks():
            # The element stays, and means nothing: a link of the same name has another number.
            return link.namespace == each.namespace and link.name in (each.link, each.sibling)
        case PrivateNetwork() | PacketFilter():
            return False
        case _:
            assert_never(each)


def depends_on_address(each: KernelObject, address: AssignedAddress) -> bool:
    """Whether deleting an address may delete the object too.

    IPv4 deletes the other addresses of the subnet when their primary goes (promote_secondaries=0), every route
    whose preferred source it was, and with the connected route all routes whose gateway lay in it. IPv6 keeps such
    routes but strips the preferred source.
    """
    network = address.address.network
    match each:
        case AssignedAddress():
            return (
                each.key != address.key
                and address.address.version == 4
                and (each.namespace, each.link) == (address.namespace, address.link)
                and each.address.network == network
            )
        case Route() if each.namespace == address.namespace:
            return each.source == address.address.address or (
                each.gateway is not None and each.link == address.link and network.includes(each.gateway)
            )
        case _:
            return False


def peer_of(veth: Veth) -> Link:
    """The other end of a pair as it is right after the pair was made."""
    return Link(veth.peer_namespace, veth.peer_name, veth.peer_mac, veth.mtu, is_up=False)
