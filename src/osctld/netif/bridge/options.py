"""What can be said of a bridged interface when it is made and when it is changed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from osctld.core.command import Flag, Option
from osctld.core.config.host import check_link_name
from osctld.core.config.surroundings import Surroundings
from osctld.netif.bridge.gateways import GatewayChoice, parse_gateway
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.interface_type import InterfaceOptions
from osctld.netif.link_options import (
    PERMISSIONS,
    Delegate,
    Force,
    Guest,
    Hwaddr,
    Mtu,
    OverlapHost,
    chosen_properties,
)


class BridgeProperties(InterfaceOptions, frozen=True, kw_only=True):
    """Options of `ct netif new bridge`."""

    link: Annotated[
        str | None,
        Option(("--link",), "BRIDGE", "Bridge of the host that the interface is attached to", completes="link"),
    ] = None
    dhcp: Annotated[
        bool | None,
        Flag(("--dhcp",), "Whether the guest asks a DHCP server for addresses (the default)", negatable=True),
    ] = None
    gateway_v4: Annotated[
        str | None,
        Option(
            ("--gateway-v4",),
            "auto|none|ADDR",
            "Gateway of assigned IPv4 addresses; auto, the default, is the bridge's address, or what DHCP says",
            keywords=tuple(GatewayChoice),
        ),
    ] = None
    gateway_v6: Annotated[
        str | None,
        Option(
            ("--gateway-v6",),
            "auto|none|ADDR",
            "Gateway of assigned IPv6 addresses; auto, the default, is the bridge's address, or what is advertised",
            keywords=tuple(GatewayChoice),
        ),
    ] = None
    hwaddr: Hwaddr = None
    mtu: Mtu = None
    guest: Guest = None

    def applied(self, interface: BridgeInterface, surroundings: Surroundings) -> BridgeInterface:
        """The interface as asked for. Raises Refused for what makes no sense, or for a bridge that is not there."""
        chosen = chosen_properties(self, interface.uuid)
        if "mac" in chosen:
            interface = interface.with_mac(chosen.pop("mac"))
        if self.link is not None:
            check_link_name(self.link)
            chosen["bridge"] = self.link
        if self.dhcp is not None:
            chosen["dhcp"] = self.dhcp
        if self.gateway_v4 is not None:
            chosen["gateway_v4"] = parse_gateway(self.gateway_v4, version=4)
        if self.gateway_v6 is not None:
            chosen["gateway_v6"] = parse_gateway(self.gateway_v6, version=6)
        interface = msgspec.structs.replace(interface, **chosen)
        interface.check_gateways()
        interface.check_mtu()
        if self.link is not None or self.mtu is not None:
            interface.check_attachable(surroundings.host_link(interface.bridge))
        return interface


class BridgeOptions(BridgeProperties, frozen=True, kw_only=True):
    """Options of `ct netif set` of a bridged interface, whose addresses pass to another bridge with it."""

    permissions = PERMISSIONS

    delegate: Delegate = False
    overlap_host: OverlapHost = False
    force: Force = False

    @property
    def allows_delegation(self) -> bool:
        return self.force or self.delegate

    @property
    def allows_overlap(self) -> bool:
        return self.force or self.overlap_host
