"""The type of bridged interfaces: how they are changed, written and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from osctld.core.address.addresses import VERSIONS
from osctld.core.command import Column, Example
from osctld.core.config.host import Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif import link_options
from osctld.netif.addressed import check_broadcasts
from osctld.netif.bridge import document as documents
from osctld.netif.bridge.addresses import BridgeAddresses
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.bridge.new import CtNetifNewBridge
from osctld.netif.bridge.options import BridgeOptions
from osctld.netif.bridge.request import BridgeRequest
from osctld.netif.interface_type import InterfaceType


class BridgeType(InterfaceType[BridgeInterface]):
    name = "bridge"
    new = CtNetifNewBridge
    options = BridgeOptions
    about_set = (
        "A bridged interface passes from one bridge to another without being taken down. Its default routes come after "
        "those of routed interfaces, unless it is given --default."
    )
    examples_of_set = (
        Example("osctl ct netif set --link br1 myct02 lan0", "Attach an interface in use to another bridge"),
    )
    document = documents.BridgeDocument
    item_events: ClassVar[Mapping[str, str]] = {"addresses": "ct_netif_address"}
    columns = (
        Column("dhcp", "whether the guest asks a DHCP server for addresses", type=bool),
        Column("gateways", "gateways by IP version: auto, none, or an address", type=dict[str, str]),
        link_options.HWADDR,
        link_options.MTU,
        link_options.GUEST,
    )
    details = (
        link_options.SOURCE,
        link_options.ADDRESSES,
        Column("preferred", "whether its default routes precede those of routed interfaces", type=bool),
    )
    request = BridgeRequest
    answered = ("dhcp", "gateways")
    addresses = BridgeAddresses()

    def encode(self, interface: BridgeInterface) -> documents.BridgeDocument:
        return documents.encode(interface)

    def decode(self, document: documents.BridgeDocument) -> BridgeInterface:
        return documents.decode(document)

    def listed(self, interface: BridgeInterface) -> Mapping[str, Any]:
        return {
            "link": interface.bridge,
            "dhcp": interface.dhcp,
            "gateways": {str(version): str(interface.gateway(version)) for version in VERSIONS},
            "hwaddr": interface.mac,
            "mtu": interface.mtu,
            "guest": interface.guest_policy.value,
        }

    def detailed(self, interface: BridgeInterface) -> Mapping[str, Any]:
        assigned = {version: interface.all_addresses(version) for version in VERSIONS}
        return {
            "source": {str(version): str(those[0].address) for version, those in assigned.items() if those},
            "addresses": [str(each) for each in interface.addresses],
            "preferred": interface.is_default,
        }

    def amounts(self, interface: BridgeInterface) -> Mapping[str, int]:
        return {"addresses": len(interface.addresses)}

    def check(self, container: Container) -> None:
        check_broadcasts(container)

    def changed(
        self,
        host: Host,  # noqa: ARG002 - the rest of the configuration does not matter
        surroundings: Surroundings,
        container: Container,  # noqa: ARG002
        interface: BridgeInterface,
        options: BridgeOptions,
    ) -> BridgeInterface:
        return options.applied(interface, surroundings)
