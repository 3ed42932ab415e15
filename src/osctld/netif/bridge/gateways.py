"""The gateways of a bridged interface, one for each IP version: chosen, none, or the bridge itself."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TypeAlias

from osctld.core.address.addresses import Address, InterfaceAddress
from osctld.core.address.addresses import reason_not_unicast as reason_not_a_gateway
from osctld.core.errors import Refused


class GatewayChoice(StrEnum):
    """AUTO is the address of the bridge. With NONE, no default route is configured."""

    AUTO = "auto"
    NONE = "none"


Gateway: TypeAlias = Address | GatewayChoice


def parse_gateway(text: str, *, version: int) -> Gateway:
    """Read `auto`, `none` or an address. Raises Refused, quoting the text."""
    if text in tuple(GatewayChoice):
        return GatewayChoice(text)
    address = Address.parse(text)
    if address.version != version:
        raise Refused(f"{text}: IP version mismatch, expected IPv{version}", code="version-mismatch", subject=text)
    reason = reason_not_a_gateway(address)
    if reason is not None:
        raise Refused(f"{text}: cannot be a gateway, it is {reason}", code="bad-gateway", subject=text)
    return address


def address_of_bridge(addresses: Iterable[InterfaceAddress], assigned: InterfaceAddress) -> Address | None:
    """The bridge's address that an assigned one goes to: the first in whose network it is, else the first of its IP
    version."""
    of_version = [each for each in addresses if each.version == assigned.version]
    near = [each for each in of_version if each.network.includes(assigned)]
    return next((each.address for each in (*near, *of_version) if each.address != assigned.address), None)
