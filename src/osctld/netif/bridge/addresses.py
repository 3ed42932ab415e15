"""Addresses of bridged interfaces: used on the bridge, and routed by nobody here."""

from __future__ import annotations

from collections.abc import Iterable

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.command import Edited
from osctld.core.config.host import Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused, UsageError
from osctld.core.plan.kernel_state import HostLink
from osctld.netif.address_edits import AddressEdits, ToAssign
from osctld.netif.addressed import check_broadcasts
from osctld.netif.bridge.interface import BridgeInterface


class BridgeAddresses(AddressEdits[BridgeInterface]):
    def assigned(self, interface: BridgeInterface) -> tuple[InterfaceAddress, ...]:
        return interface.addresses

    def on_link(self, interface: BridgeInterface, version: int) -> tuple[InterfaceAddress, ...]:
        return interface.all_addresses(version)

    def state(self, interface: BridgeInterface, address: InterfaceAddress) -> str:  # noqa: ARG002 - of each the same
        return "bridged"

    def find(self, interface: BridgeInterface, texts: Iterable[str]) -> list[InterfaceAddress]:
        return interface.find(texts)

    def assign(
        self,
        host: Host,
        surroundings: Surroundings,
        container: Container,
        interface: BridgeInterface,
        wanted: ToAssign,
    ) -> Edited:
        if wanted.route_as is not None:
            raise UsageError(
                f"--route-as {wanted.route_as}: {interface.name} is a bridge interface, to which nothing is routed"
            )
        bridge = surroundings.host_link(interface.bridge)
        changed = interface
        for text in wanted.typed:
            address = read_member(text, bridge)
            if wanted.if_needed and _has(changed, address, typed=text):
                continue
            try:
                changed = changed.with_address(address)
            except Refused as refused:
                raise refused.quoting(text) from None
        after = container.with_interface(changed)
        check_broadcasts(after)
        if wanted.delegates:
            surroundings.check_delegation(host, container, after)
        return Edited(
            host.with_container(after),
            after.name,
            is_delegation_allowed=wanted.delegates,
            is_overlap_allowed=wanted.overlaps_host,
        )

    def take(
        self,
        interface: BridgeInterface,
        addresses: Iterable[InterfaceAddress],
        *,
        keep_route: bool,  # noqa: ARG002 - there is none
    ) -> tuple[BridgeInterface, tuple[str, ...]]:
        return interface.without_addresses(addresses), ()

    def placed(
        self, interface: BridgeInterface, address: InterfaceAddress, *, before: InterfaceAddress | None
    ) -> BridgeInterface:
        return interface.with_placed(address, before=before)


def read_member(text: str, bridge: HostLink | None) -> InterfaceAddress:
    """Read an address. One without a prefix length has that of the bridge's network that it is in, if it is in one.

    Raises Refused, quoting the text.
    """
    address = InterfaceAddress.parse(text)
    for own in bridge.addresses if bridge is not None and "/" not in text else ():
        if own.network.includes(address):
            return address.address.with_length(own.length)
    return address


def _has(interface: BridgeInterface, address: InterfaceAddress, *, typed: str) -> bool:
    """Whether an address is assigned, with the prefix length that was typed, if one was."""
    there = next((each for each in interface.addresses if each.address == address.address), None)
    return there is not None and ("/" not in typed or there == address)
