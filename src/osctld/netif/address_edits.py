"""What commands about addresses ask of a type of interface that has addresses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.command import Edited
from osctld.core.config.host import Container, Host, Interface
from osctld.core.config.surroundings import Surroundings

I = TypeVar("I", bound=Interface)  # noqa: E741 - of interfaces


class ToAssign(msgspec.Struct, frozen=True, kw_only=True):
    """What `ct netif ip add` asks for: addresses as typed, and the options that say how."""

    typed: tuple[str, ...]
    route: bool = True
    route_as: str | None = None
    if_needed: bool = False
    #: Whether a network inside of another holder's may be taken, and one that the host uses.
    delegates: bool = False
    overlaps_host: bool = False


class AddressEdits(Generic[I]):
    """Addresses of the interfaces of one type."""

    def assigned(self, interface: I) -> tuple[InterfaceAddress, ...]:
        """What was assigned, in the operator's order."""
        raise NotImplementedError

    def on_link(self, interface: I, version: int) -> tuple[InterfaceAddress, ...]:
        """What is on the guest's link of one IP version, assigned or not."""
        raise NotImplementedError

    def state(self, interface: I, address: InterfaceAddress) -> str:
        """How packets get to an assigned address, in a word."""
        raise NotImplementedError

    def find(self, interface: I, texts: Iterable[str]) -> list[InterfaceAddress]:
        """The assigned addresses that were typed, with or without their prefix lengths. Raises Refused."""
        raise NotImplementedError

    def assign(
        self, host: Host, surroundings: Surroundings, container: Container, interface: I, wanted: ToAssign
    ) -> Edited:
        """Assign addresses. Raises Refused, Conflict and UsageError."""
        raise NotImplementedError

    def take(
        self, interface: I, addresses: Iterable[InterfaceAddress], *, keep_route: bool
    ) -> tuple[I, tuple[str, ...]]:
        """Take assigned addresses away; the interface without them, and messages."""
        raise NotImplementedError

    def placed(self, interface: I, address: InterfaceAddress, *, before: InterfaceAddress | None) -> I:
        """Move an assigned address before another one, or to the front."""
        raise NotImplementedError
