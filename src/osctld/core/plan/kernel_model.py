"""Our model of what a kernel does of its own accord when it is changed; it always assumes the worst.

Deleting an address deletes routes, a link takes everything on it along. The laws in tests/kernel hold the model against
the real kernel: it is never more hopeful.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias, assert_never

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.plan.changes import Add, Change, Remove, RenameLink, Replace, Restore, is_made_in_place
from osctld.core.plan.kernel_state import (
    LEAST_IPV6_MTU,
    AssignedAddress,
    KernelObject,
    KernelState,
    Key,
    Link,
    Namespace,
    Neighbour,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    Route,
    SiblingLinks,
    StoppedNetwork,
    Sysctl,
    Veth,
)


def pretend(state: KernelState, changes: Iterable[Change]) -> KernelState:
    """The state that the changes lead to by our model of the kernel, which assumes the worst of side effects."""
    imagined = _Imagination(state)
    for change in changes:
        match change:
            case Add(new) | Restore(new):
                imagined.put(new)
                if isinstance(new, Veth):
                    peer = peer_of(new)
                    if peer.key not in imagined.objects:
                        imagined.put(peer)
            case Replace(old, new):
                imagined.drop(old.key)
                if not is_made_in_place(change):
                    imagined.take_along(old, new)
                imagined.put(new)
            case Remove(old):
                imagined.drop(old.key)
                imagined.take_along(old, None)
            case RenameLink(old, new):
                imagined = _Imagination(
                    KernelState(on_renamed(each, old, new.name) for each in imagined.objects.values())
                )
            case _:
                assert_never(change)
    return KernelState.keyed(imagined.objects)


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


#: A place is a namespace and a link.
_Place: TypeAlias = tuple[Namespace, str]
_Keys: TypeAlias = dict[Key, None]


class _Imagination:
    """Objects, and which of them what else depends on: looked up, because plans remove them by the thousand.

    The look-ups are made when something is first taken along; most plans take nothing.
    """

    def __init__(self, state: KernelState) -> None:
        self.objects: dict[Key, KernelObject] = dict(state.items())
        self._is_indexed = False
        self._on_link: dict[_Place, _Keys] = {}
        #: IPv4 addresses by place, and by place and network.
        self._addresses: dict[_Place, _Keys] = {}
        self._subnets: dict[tuple[Namespace, str, Network], _Keys] = {}
        #: Routes by preferred source, and by place and gateway.
        self._sources: dict[tuple[Namespace, Address], _Keys] = {}
        self._gateways: dict[_Place, dict[Address, _Keys]] = {}

    def put(self, each: KernelObject) -> None:
        key = each.key
        if self._is_indexed:
            self.drop(key)
            for keys in self._indexes_of(each):
                keys[key] = None
        self.objects[key] = each

    def drop(self, key: Key) -> KernelObject | None:
        gone = self.objects.pop(key, None)
        if gone is not None and self._is_indexed:
            for keys in self._indexes_of(gone):
                keys.pop(key, None)
        return gone

    def _indexes_of(self, each: KernelObject) -> Iterator[_Keys]:
        match each:
            case Veth() | Link():
                yield self._on_link.setdefault((each.namespace, each.name), {})
            case AssignedAddress():
                place = (each.namespace, each.link)
                yield self._on_link.setdefault(place, {})
                if each.address.version == 4:
                    yield self._addresses.setdefault(place, {})
                    yield self._subnets.setdefault((*place, each.address.network), {})
            case Route():
                place = (each.namespace, each.link)
                yield self._on_link.setdefault(place, {})
                if each.source is not None:
                    yield self._sources.setdefault((each.namespace, each.source), {})
                if each.gateway is not None:
                    yield self._gateways.setdefault(place, {}).setdefault(each.gateway, {})
            case Neighbour() | Sysctl():
                yield self._on_link.setdefault((each.namespace, each.link), {})
            case SiblingLinks():
                yield self._on_link.setdefault((each.namespace, each.link), {})
                if each.sibling != each.link:
                    yield self._on_link.setdefault((each.namespace, each.sibling), {})
            case PrivateNetwork() | PermittedSource() | StoppedNetwork() | PacketFilter():
                return
            case _:
                assert_never(each)

    def _on(self, *places: _Place) -> list[KernelObject]:
        """What is on links, the links included."""
        return [self.objects[key] for place in places for key in self._on_link.get(place, ())]

    def take_along(self, old: KernelObject, new: KernelObject | None) -> None:
        """Let go what goes with an object that was just dropped, or that is about to become another."""
        if not isinstance(old, Veth | Link | AssignedAddress):
            return
        if not self._is_indexed:
            self._is_indexed = True
            for key, each in self.objects.items():
                for keys in self._indexes_of(each):
                    keys[key] = None
        lost: Iterable[KernelObject] = ()
        match old:
            case Veth() if new is None:
                ends = ((old.namespace, old.name), (old.peer_namespace, old.peer_name))
                lost = [each for each in self._on(*ends) if goes_along(each, old)]
            case Veth() | Link() if isinstance(new, Veth | Link):
                lost = [each for each in self._on((old.namespace, old.name)) if _is_lost(each, old, new)]
            case AssignedAddress():
                lost = list(self._dependent_on(old))
        for each in lost:
            gone = self.drop(each.key)
            if isinstance(gone, AssignedAddress):
                # In turn: with the other addresses of its subnet go the routes whose preferred source they were.
                self.take_along(gone, None)
        if isinstance(old, AssignedAddress) and old.address.version == 4:
            place = (old.namespace, old.link)
            if not self._addresses.get(place):
                # With its last IPv4 address a link loses all IPv4 routes and neighbours, permanent ones too
                # (linux/net/ipv4/fib_frontend.c, fib_disable_ip).
                for each in self._on(place):
                    if _is_ipv4_of_link(each):
                        self.drop(each.key)

    def _dependent_on(self, address: AssignedAddress) -> Iterator[KernelObject]:
        """What deleting an address may delete too.

        IPv4 deletes the other addresses of the subnet when their primary goes (promote_secondaries=0), every route
        whose preferred source it was, and with the connected route all routes whose gateway lay in it. IPv6 keeps such
        routes but strips the preferred source.
        """
        place = (address.namespace, address.link)
        network = address.address.network
        found: _Keys = {}
        if address.address.version == 4:
            found.update(self._subnets.get((*place, network), {}))
        found.update(self._sources.get((address.namespace, address.address.address), {}))
        for gateway, keys in self._gateways.get(place, {}).items():
            if network.includes(gateway):
                found.update(keys)
        found.pop(address.key, None)
        for key in found:
            yield self.objects[key]


def _is_lost(each: KernelObject, old: Veth | Link, new: Veth | Link) -> bool:
    """Whether something on a link goes when the link is changed. Changing it back brings nothing back."""
    # Down it has no routes, IPv6 addresses and neighbours, and with a small MTU nothing of IPv6. With its own address a
    # link forgets those of its neighbours, permanent ones too (linux/net/core/neighbour.c, neigh_changeaddr).
    goes_down = old.is_up and not new.is_up
    loses_ipv6 = old.mtu >= LEAST_IPV6_MTU > new.mtu
    match each:
        case Neighbour() if old.mac != new.mac:
            return True
        case Route() | Neighbour():
            return goes_down or (loses_ipv6 and version_of(each) == 6)
        case AssignedAddress():
            return (goes_down or loses_ipv6) and version_of(each) == 6
        case _:
            return loses_ipv6 and version_of(each) == 6


def version_of(each: KernelObject) -> int | None:
    """The IP version of what there is for one of them only."""
    match each:
        case AssignedAddress() | Neighbour():
            return each.address.version
        case Route():
            return each.network.version
        case Sysctl():
            return 6 if each.path.startswith("ipv6/") else 4
        case _:
            return None


def _is_ipv4_of_link(each: KernelObject) -> bool:
    return isinstance(each, Route | Neighbour) and version_of(each) == 4


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
        case PrivateNetwork() | PermittedSource() | StoppedNetwork() | PacketFilter():
            return False
        case _:
            assert_never(each)


def peer_of(veth: Veth) -> Link:
    """The other end of a pair as it is right after the pair was made."""
    return Link(veth.peer_namespace, veth.peer_name, veth.peer_mac, veth.mtu, is_up=False)


def link_local_of(link: Veth | Link) -> AssignedAddress:
    """The address that the kernel gives a link coming up, unless told not to (RFC 4291, appendix A)."""
    octets = bytes.fromhex(link.mac.replace(":", ""))
    packed = b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return AssignedAddress(link.namespace, link.name, InterfaceAddress(6, int.from_bytes(packed, "big"), 64))


def is_link_local_of(link: Veth | Link, each: KernelObject) -> bool:
    """Whether it is `link_local_of` that link."""
    return isinstance(each, AssignedAddress) and each.address == link_local_of(link).address
