"""A bridged interface as it is written."""

from __future__ import annotations

from osctld.core.config.host import GuestPolicy
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.interface_type import InterfaceDocument


class BridgeDocument(InterfaceDocument, frozen=True, omit_defaults=True, tag="bridge"):
    """`link` is the host end, `bridge` what it is a port of."""

    mac: str
    host_mac: str
    bridge: str
    dhcp: bool = True
    mtu: int | None = None
    guest: str = GuestPolicy.REPORT.value


def encode(interface: BridgeInterface) -> BridgeDocument:
    return BridgeDocument(
        uuid=interface.uuid,
        name=interface.name,
        link=interface.link,
        mac=interface.mac,
        host_mac=interface.host_mac,
        bridge=interface.bridge,
        dhcp=interface.dhcp,
        mtu=interface.mtu,
        guest=interface.guest_policy.value,
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
        mtu=document.mtu,
        guest_policy=GuestPolicy(document.guest),
    )
