"""Whom the neighbours on a bridge have to learn of after a plan: they remember by which port a MAC address is reached,
and which MAC address an IP address has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from osctld.core.address.addresses import Address
from osctld.core.plan.changes import Add, Change, Replace, Restore
from osctld.core.plan.kernel_state import AssignedAddress, KernelState, Link, Namespace, Veth


class Arrival(msgspec.Struct, frozen=True):
    """A link in a container that is a bridge's port at its other end, and addresses that are new there."""

    namespace: Namespace
    link: str
    mac: str
    addresses: tuple[Address, ...] = ()


def arrivals(want: KernelState, done: Iterable[Change]) -> Iterator[Arrival]:
    """What neighbours are to be told when these changes were made on the way to a state. Routes do not matter."""
    ports = {
        (each.peer_namespace, each.peer_name): each
        for each in want.others.values()
        if isinstance(each, Veth) and each.master is not None
    }
    if not ports:
        return
    moved: set[tuple[Namespace, str]] = set()
    fresh: set[AssignedAddress] = set()
    for change in done:
        match change:
            case Add(Veth() as new) | Restore(Veth() as new):
                moved.add((new.peer_namespace, new.peer_name))
            case Replace(Veth() as old, Veth() as new) if old.master != new.master:
                moved.add((new.peer_namespace, new.peer_name))
            case Replace(Link() as old, Link() as new) if old.mac != new.mac:
                moved.add((new.namespace, new.name))
            case Add(AssignedAddress() as new) | Restore(AssignedAddress() as new):
                fresh.add(new)
            case _:
                pass
    for place, port in ports.items():
        namespace, link = place
        addresses = tuple(
            each.address.address
            for each in want.others.values()
            if isinstance(each, AssignedAddress)
            and (each.namespace, each.link) == place
            and (place in moved or each in fresh)
        )
        if place in moved or addresses:
            yield Arrival(namespace, link, port.peer_mac, addresses)
