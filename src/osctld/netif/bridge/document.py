"""A bridged interface as it is written."""

from __future__ import annotations

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.config.host import GuestPolicy
from osctld.netif.bridge.gateways import GatewayChoice, parse_gateway
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.interface_type import InterfaceDocument


class BridgeDocument(InterfaceDocument, frozen=True, omit_defaults=True, tag="bridge"):
    """`link` is the host end, `bridge` what it is a port of."""

    mac: str
    host_mac: str
    bridge: str
    dhcp: bool = True
    addresses: tuple[str, ...] = ()
    gateway_v4: str = GatewayChoice.AUTO.value
    gateway_v6: str = GatewayChoice.AUTO.value
    mtu: int | None = None
    guest: str = GuestPolicy.REPORT.value
    default: bool = False


def encode(interface: BridgeInterface) -> BridgeDocument:
    return BridgeDocument(
        uuid=interface.uuid,
        name=interface.name,
        link=interface.link,
        mac=interface.mac,
        host_mac=interface.host_mac,
        bridge=interface.bridge,
        dhcp=interface.dhcp,
        addresses=tuple(map(str, interface.addresses)),
        gateway_v4=str(interface.gateway_v4),
        gateway_v6=str(interface.gateway_v6),
        mtu=interface.mtu,
        guest=interface.guest_policy.value,
        default=interface.is_default,
    )


def decode(document: BridgeDocument) -> BridgeInterface:
    """The interface of a document. Raises Refused when it makes no sense."""
    return BridgeInterface(
        uuid=document.uuid,
        name=document.name,
        link=document.link,
        mac=document.mac,
        host_mac=document.host_mac,
        bridge=document.bridge,
        dhcp=document.dhcp,
        addresses=tuple(map(InterfaceAddress.parse, document.addresses)),
        gateway_v4=parse_gateway(document.gateway_v4, version=4),
        gateway_v6=parse_gateway(document.gateway_v6, version=6),
        mtu=document.mtu,
        guest_policy=GuestPolicy(document.guest),
        is_default=document.default,
    )
