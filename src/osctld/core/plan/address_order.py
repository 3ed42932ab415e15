"""The order of a guest's IPv4 addresses: within one subnet the kernel keeps that in which they were added.

The first is the subnet's primary address, the others are its secondaries (__inet_insert_ifa in
linux/net/ipv4/devinet.c). States list addresses in such an order, yet are compared as sets. Across subnets, on the host
and for IPv6 no order is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from osctld.core.address.addresses import BITS, Address, Network
from osctld.core.plan.changes import Add, Change, Remove, RenameLink, Replace, Restore
from osctld.core.plan.kernel_state import HOST, AssignedAddress, KernelObject, KernelState, Namespace, Veth

#: One subnet on one link, and the addresses of all subnets in their order.
Subnet: TypeAlias = tuple[Namespace, str, Network]
Order: TypeAlias = Mapping[Subnet, Sequence[Address]]


def order_of(objects: Iterable[KernelObject]) -> Order:
    """The order in which objects list the addresses of each subnet that has room for several."""
    found: dict[Subnet, list[Address]] = {}
    for each in objects:
        subnet = _subnet_of(each)
        if subnet is not None and isinstance(each, AssignedAddress):
            found.setdefault(subnet, []).append(each.address.address)
    return found


def order_after(start: Order, changes: Iterable[Change], *, promotes: bool) -> Order:
    """The order that changes lead to, in a guest that promotes secondaries or deletes them with their primary.

    Which of the two a guest does is its own to choose (promote_secondaries), and somebody else's address may be the
    primary: then ours go one by one, as where they are promoted.
    """
    order = {subnet: list(addresses) for subnet, addresses in start.items()}

    def take(old: KernelObject) -> None:
        subnet = _subnet_of(old)
        there = order.get(subnet) if subnet is not None else None
        if there is None or not isinstance(old, AssignedAddress) or old.address.address not in there:
            return
        if not promotes and there[0] == old.address.address:
            there.clear()
        else:
            there.remove(old.address.address)

    def put(new: KernelObject) -> None:
        subnet = _subnet_of(new)
        if subnet is not None and isinstance(new, AssignedAddress):
            there = order.setdefault(subnet, [])
            if new.address.address not in there:
                there.append(new.address.address)

    for change in changes:
        match change:
            case Add(new) | Restore(new):
                put(new)
            case Replace(old, new):
                take(old)
                put(new)
            case Remove(Veth() as gone):
                on_peer = (gone.peer_namespace, gone.peer_name)
                order = {subnet: addresses for subnet, addresses in order.items() if subnet[:2] != on_peer}
            case Remove(old):
                take(old)
            case RenameLink(link, renamed):
                old_place, new_place = (link.namespace, link.name), (renamed.namespace, renamed.name)
                order = {
                    (*(new_place if (namespace, name) == old_place else (namespace, name)), network): addresses
                    for (namespace, name, network), addresses in order.items()
                }
    return order


def is_in_order(have: KernelState, want: KernelState) -> bool:
    """Whether the addresses that both states have stand in the wanted order."""
    wanted = order_of(want.others.values())
    return not has_several(wanted) or not first_differences(wanted, [order_of(have.others.values())])


def first_differences(wanted: Order, orders: Iterable[Order]) -> dict[Subnet, int]:
    """For each subnet that is not in the wanted order in all of these, the first place where one of them differs.

    Addresses that are not wanted do not count.
    """
    found: dict[Subnet, int] = {}
    for order in orders:
        for subnet, addresses in wanted.items():
            if len(addresses) < 2:
                continue
            known = set(addresses)
            there = [each for each in order.get(subnet, ()) if each in known]
            present = set(there)
            expected = [each for each in addresses if each in present]
            if there != expected:
                place = next(place for place, each in enumerate(there) if each != expected[place])
                first = addresses.index(expected[place])
                found[subnet] = min(found.get(subnet, first), first)
    return found


def has_several(order: Order) -> bool:
    """Whether a subnet has more than one address."""
    return any(len(addresses) > 1 for addresses in order.values())


def _subnet_of(each: KernelObject) -> Subnet | None:
    if not isinstance(each, AssignedAddress) or each.namespace == HOST:
        return None
    address = each.address
    if address.version == 6 or address.length == BITS[4]:
        return None
    return each.namespace, each.link, address.network
