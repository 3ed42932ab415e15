"""What can be said of a bridged interface when it is made and when it is changed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from osctld.core.command import Flag, Option
from osctld.core.config.host import check_link_name
from osctld.core.config.surroundings import Surroundings
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.interface_type import InterfaceOptions
from osctld.netif.link_options import Guest, Hwaddr, Mtu, chosen_properties


class BridgeOptions(InterfaceOptions, frozen=True, kw_only=True):
    """Options of `ct netif new bridge` and, of a bridged interface, of `ct netif set`."""

    link: Annotated[
        str | None,
        Option(("--link",), "BRIDGE", "Bridge of the host that the interface is attached to", completes="link"),
    ] = None
    dhcp: Annotated[
        bool | None,
        Flag(("--dhcp",), "Whether the guest asks a DHCP server for addresses (the default)", negatable=True),
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
        interface = msgspec.structs.replace(interface, **chosen)
        interface.check_mtu()
        if self.link is not None or self.mtu is not None:
            interface.check_attachable(surroundings.host_link(interface.bridge))
        return interface
