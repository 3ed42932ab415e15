"""A kernel that is as strict as Linux about what must be there before something is added.

It takes one change at a time, refuses in the kernel's words, and loses things of its own accord. How much it loses is
up to the kernel's version and settings, so there are two of it: `harsh` loses all that any kernel might, the other
keeps all that any kernel might keep. A plan has to reach the same state on both.
"""

from __future__ import annotations

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress
from osctld.core.plan.changes import Add, Change, Remove, RenameLink, Replace, Restore, is_made_in_place
from osctld.core.plan.kernel_model import on_renamed
from osctld.core.plan.kernel_state import (
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
    Sysctl,
    Veth,
)
from osctld.core.plan.planner import Plan


class KernelRefused(Exception):
    pass


class StrictKernel:
    def __init__(self, state: KernelState, *, harsh: bool, renames_while_up: bool = True) -> None:
        self.objects: dict[Key, KernelObject] = dict(state)
        self.harsh = harsh
        self.renames_while_up = renames_while_up

    @property
    def state(self) -> KernelState:
        return KernelState(self.objects.values())

    def apply(self, plan: Plan) -> None:
        for change in plan.changes:
            try:
                self.perform(change)
            except KernelRefused as refused:
                raise AssertionError(f"{refused}\nat {change}\nof\n{plan.text()}") from refused

    def perform(self, change: Change) -> None:
        match change:
            case Add(new):
                if new.key in self.objects:
                    raise KernelRefused("File exists")
                self._make(new)
            case Restore(new):
                if new.key in self.objects and isinstance(new, Veth):
                    del self.objects[new.key]
                    self._make(new, has_peer=True)
                else:
                    self._make(new, has_peer=False)
            case Replace(old, new):
                if isinstance(new, AssignedAddress) and is_made_in_place(change):
                    self._make(new)
                elif isinstance(new, AssignedAddress):
                    self._lose(old)
                    self._make(new)
                elif isinstance(new, Veth | Link):
                    self._set_link(new)
                else:
                    self._make(new)
            case Remove(old):
                self._lose(old)
            case RenameLink(old, new):
                self._rename(old, new)

    def _rename(self, old: Link, new: Link) -> None:
        there = self._link(old.namespace, old.name)
        if there.is_up and not self.renames_while_up:
            raise KernelRefused("Device or resource busy")
        if new.key in self.objects:
            raise KernelRefused("File exists")
        moved = (on_renamed(each, old, new.name) for each in self.objects.values())
        self.objects = {each.key: each for each in moved}

    # --- making ---------------------------------------------------------------------------------------------------

    def _make(self, new: KernelObject, *, has_peer: bool = False) -> None:
        match new:
            case Veth():
                peer = Link(new.peer_namespace, new.peer_name, new.peer_mac, new.mtu, is_up=False)
                if not has_peer and peer.key in self.objects:
                    raise KernelRefused("File exists")
                self.objects.setdefault(peer.key, peer)
            case Link():
                self._set_link(new)
            case AssignedAddress() | Neighbour():
                self._check_has_version(new, new.address.version)
                if isinstance(new, AssignedAddress) and new.address.version == 4:
                    self._check_scope(new)
            case Route():
                self._check_route(new)
            case Sysctl():
                if new.link:
                    self._check_has_version(new, 6 if new.path.startswith("ipv6/") else 4)
            case SiblingLinks():
                self._link(new.namespace, new.link)
                self._link(new.namespace, new.sibling)
            case PrivateNetwork():
                others = (each for key, each in self.objects.items() if key != new.key)
                if any(isinstance(each, PrivateNetwork) and each.network.overlaps(new.network) for each in others):
                    raise KernelRefused("File exists")
            case PermittedSource():
                of_link = (
                    each
                    for key, each in self.objects.items()
                    if isinstance(each, PermittedSource) and each.link == new.link and key != new.key
                )
                if any(each.network.overlaps(new.network) for each in of_link):
                    raise KernelRefused("Directory not empty")
            case PacketFilter():
                pass
        self.objects[new.key] = new

    def _link(self, namespace: Namespace, name: str) -> Veth | Link:
        found = self.objects.get(("link", namespace, name))
        if not isinstance(found, Veth | Link):
            raise KernelRefused(f"Cannot find device {name}")
        return found

    def _check_has_version(self, new: AssignedAddress | Neighbour | Sysctl, version: int) -> None:
        if version == 6 and self._link(new.namespace, new.link).mtu < 1280:
            raise KernelRefused("Invalid argument")
        self._link(new.namespace, new.link)

    def _check_scope(self, new: AssignedAddress) -> None:
        there = self.objects.get(new.key)
        if isinstance(there, AssignedAddress) and there.is_source != new.is_source:
            raise AssertionError(f"{new}: the kernel leaves the scope of an address as it is, and says nothing")
        for each in self._addresses(new.namespace):
            is_beside = each.link == new.link and each.address.network == new.address.network
            if is_beside and each.is_source != new.is_source:
                raise KernelRefused("ipv4: Invalid scope value")

    def _set_link(self, new: Veth | Link) -> None:
        old = self._link(new.namespace, new.name)
        if isinstance(old, Veth) != isinstance(new, Veth):
            raise KernelRefused(f"{new.name} is no such link")
        if isinstance(old, Veth) and isinstance(new, Veth):
            peer = (old.peer_namespace, old.peer_name)
            if peer != (new.peer_namespace, new.peer_name):
                raise KernelRefused("a peer is chosen once")
        self.objects[new.key] = new
        if old.mac != new.mac:
            for key, each in list(self.objects.items()):
                if isinstance(each, Neighbour) and _is_on(each, new):
                    del self.objects[key]
        if isinstance(new, Veth) and new.is_up and old.mtu < 1280 <= new.mtu:
            # Its new settings of IPv6 do not yet say otherwise.
            octets = bytes.fromhex(new.mac.replace(":", ""))
            identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
            made = InterfaceAddress(6, 0xFE80 << 112 | int.from_bytes(identifier, "big"), 64)
            link_local = AssignedAddress(new.namespace, new.name, made)
            self.objects[link_local.key] = link_local
        if new.mtu < 1280:
            self.objects = {key: each for key, each in self.objects.items() if not _is_ipv6_of(each, new)}
        if old.is_up and not new.is_up:
            for key, each in list(self.objects.items()):
                if isinstance(each, AssignedAddress | Route | Neighbour) and _is_on(each, new):
                    is_kept = isinstance(each, AssignedAddress) and each.address.version == 4
                    if not is_kept:
                        self.objects.pop(key)

    def _addresses(self, namespace: Namespace) -> list[AssignedAddress]:
        return [e for e in self.objects.values() if isinstance(e, AssignedAddress) and e.namespace == namespace]

    def _check_route(self, new: Route) -> None:
        if not self._link(new.namespace, new.link).is_up:
            raise KernelRefused("Network is down")
        local = {each.address.address for each in self._addresses(new.namespace)}
        if new.source is not None and new.source not in local:
            raise KernelRefused("Invalid prefsrc address")
        if new.gateway is not None and (
            new.gateway in local or (not new.is_onlink and not self._is_on_link(new.namespace, new.link, new.gateway))
        ):
            raise KernelRefused("Nexthop has invalid gateway")

    def _is_on_link(self, namespace: Namespace, link: str, gateway: Address) -> bool:
        connected = (
            each.address.network for each in self._addresses(namespace) if each.link == link and each.has_prefix_route
        )
        routed = (
            each.network
            for each in self.objects.values()
            if isinstance(each, Route) and (each.namespace, each.link) == (namespace, link) and each.gateway is None
        )
        return any(network.includes(gateway) for network in (*connected, *routed))

    def is_needed(self, address: AssignedAddress) -> bool:
        """Whether a gateway is on-link by this address alone."""
        rest = StrictKernel(KernelState(each for each in self.objects.values() if each != address), harsh=self.harsh)
        return any(
            isinstance(each, Route)
            and each.gateway is not None
            and _is_on(each, address)
            and not rest._is_on_link(each.namespace, each.link, each.gateway)
            for each in self.objects.values()
        )

    def remove_what_could_not_be_added(self) -> None:
        """Forget routes that outlived what they needed: no plan could put them back."""
        for key, each in list(self.objects.items()):
            if isinstance(each, Route):
                try:
                    self._check_route(each)
                except KernelRefused:
                    del self.objects[key]

    # --- losing ---------------------------------------------------------------------------------------------------

    def _lose(self, old: KernelObject) -> None:
        if isinstance(old, Sysctl):
            raise KernelRefused("a setting cannot be removed")
        was_primary = isinstance(old, AssignedAddress) and self._is_primary(old)
        there = self.objects.pop(old.key, None)
        match there:
            case Veth():
                self.objects.pop(("link", there.peer_namespace, there.peer_name), None)
                ends = {(there.namespace, there.name), (there.peer_namespace, there.peer_name)}
                for key, each in list(self.objects.items()):
                    if (
                        isinstance(each, AssignedAddress | Route | Neighbour | Sysctl)
                        and (each.namespace, each.link) in ends
                    ):
                        del self.objects[key]
                    elif isinstance(each, SiblingLinks) and there.name in (each.link, each.sibling):
                        # The element stays, with a number that nobody has.
                        del self.objects[key]
            case AssignedAddress():
                self._lose_with_address(there, was_primary=was_primary)
            case _:
                pass

    def _is_primary(self, address: AssignedAddress) -> bool:
        """Whether it is the first address of its subnet."""
        network = address.address.network
        of_subnet = (
            each
            for each in self._addresses(address.namespace)
            if each.link == address.link and each.address.network == network
        )
        return next((each.key for each in of_subnet), None) == address.key

    def _lose_with_address(self, gone: AssignedAddress, *, was_primary: bool) -> None:
        version, network = gone.address.version, gone.address.network
        if version == 4 and self.harsh and was_primary:
            for key, each in list(self.objects.items()):
                if isinstance(each, AssignedAddress) and each.address.network == network and _is_on(each, gone):
                    del self.objects[key]
        is_last = not any(
            each.link == gone.link and each.address.version == 4 for each in self._addresses(gone.namespace)
        )
        for key, each in list(self.objects.items()):
            if not isinstance(each, Route | Neighbour) or each.namespace != gone.namespace:
                continue
            if version == 4 and is_last and each.link == gone.link and _version(each) == 4:
                # Tried: the last IPv4 address of a link takes all IPv4 routes and permanent neighbours along.
                del self.objects[key]
            elif isinstance(each, Route) and each.source == gone.address.address:
                local = {there.address.address for there in self._addresses(gone.namespace)}
                if each.source in local and not self.harsh:
                    continue
                if version == 4:
                    del self.objects[key]
                else:
                    self.objects[key] = msgspec.structs.replace(each, source=None)
            elif (
                isinstance(each, Route)
                and self.harsh
                and each.gateway is not None
                and each.link == gone.link
                and network.includes(each.gateway)
            ):
                del self.objects[key]


def _is_ipv6_of(each: KernelObject, link: Veth | Link) -> bool:
    """Whether it is of IPv6 and on a link: the kernel keeps nothing of it with a small MTU, settings included."""
    if isinstance(each, Sysctl):
        return each.path.startswith(f"ipv6/conf/{link.name}/") and each.namespace == link.namespace
    return isinstance(each, AssignedAddress | Route | Neighbour) and _is_on(each, link) and _version(each) == 6


def _version(each: AssignedAddress | Route | Neighbour) -> int:
    return each.network.version if isinstance(each, Route) else each.address.version


def _is_on(each: AssignedAddress | Route | Neighbour, there: Veth | Link | AssignedAddress) -> bool:
    link = there.link if isinstance(there, AssignedAddress) else there.name
    return (each.namespace, each.link) == (there.namespace, link)
