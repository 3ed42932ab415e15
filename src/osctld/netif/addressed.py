"""Interfaces that have addresses, of whatever type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.config.host import Container, Interface
from osctld.core.errors import Refused
from osctld.netif.address_edits import AddressEdits
from osctld.netif.interface_type import type_of


class Addressed(NamedTuple):
    """An interface, and what its type does with addresses."""

    interface: Any
    edits: AddressEdits[Any]

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        return self.edits.assigned(self.interface)


def addressed_interface(container: Container, name: str | None) -> Addressed:
    """The interface of that name, or the only one. Raises Refused when it is of a type that has no addresses."""
    interface = container.interface(name)
    edits = _edits_of(interface)
    if edits is None:
        name = interface.name
        raise Refused(
            f"{name!r} of {container.name}: a {interface.type_name} interface has no addresses",
            code="no-addresses",
            subject=name,
        )
    return Addressed(interface, edits)


def addressed_interfaces(container: Container, name: str | None = None) -> Iterator[Addressed]:
    """All interfaces of a container that have addresses, or the one of that name, as `addressed_interface` finds it."""
    if name is not None:
        yield addressed_interface(container, name)
        return
    for each in container.interfaces:
        edits = _edits_of(each)
        if edits is not None:
            yield Addressed(each, edits)


def check_broadcasts(container: Container) -> None:
    """Raise Refused when an IPv4 address is the broadcast address of another one's network, or of its own.

    The guest's kernel has one table of its own addresses for all interfaces. Which of the two it takes such an address
    for depends on which came first (fib_add_ifaddr in linux/net/ipv4/fib_frontend.c).
    """
    assigned = [
        (address, each.interface.name)
        for each in addressed_interfaces(container)
        for address in each.edits.on_link(each.interface, 4)
    ]
    of_broadcasts = {
        broadcast: (address, name) for address, name in assigned if (broadcast := address.broadcast) is not None
    }
    if not of_broadcasts:
        return
    for address, name in assigned:
        found = of_broadcasts.get(address.address)
        if found is not None:
            raise Refused(
                f"{address.short} on {name} is the broadcast address of {found[0].network},"
                f" the network of {found[0]} on {found[1]}",
                code="bad-address",
                subject=str(address),
            )


def _edits_of(interface: Interface) -> AddressEdits[Any] | None:
    return type_of(interface).addresses
