"""The type of routed interfaces: how they are changed, written and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from osctld.core.address.addresses import VERSIONS
from osctld.core.command import Column, Example
from osctld.core.config.host import Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.netif import link_options
from osctld.netif.addressed import check_broadcasts
from osctld.netif.interface_type import InterfaceType
from osctld.netif.routed import document as documents
from osctld.netif.routed.addresses import RoutedAddresses
from osctld.netif.routed.interface import RoutedInterface
from osctld.netif.routed.new import CtNetifNewRouted
from osctld.netif.routed.options import AUTO, RoutedOptions
from osctld.netif.routed.request import RoutedRequest


class RoutedType(InterfaceType[RoutedInterface]):
    name = "routed"
    place = 0
    new = CtNetifNewRouted
    options = RoutedOptions
    about_set = (
        "IP versions that are not named stay as they are. Without --via, the ends of the current network are changed. "
        "Addresses that no interconnecting network covers any longer get routes of their own."
    )
    examples_of_set = (
        Example(
            "osctl ct netif set --via 10.100.20.0/31 myct01 eth0",
            "Change the interconnecting network; connections survive",
        ),
        Example("osctl ct netif set --host-addr 10.100.20.1 --ct-addr 10.100.20.0 myct01 eth0", "Swap its ends"),
    )
    document = documents.RoutedDocument
    item_events: ClassVar[Mapping[str, str]] = {
        "addresses": "ct_netif_address",
        "routes": "ct_netif_route",
        "sources": "ct_netif_source",
    }
    columns = (
        Column("via", "interconnecting networks by IP version", type=dict[str, str] | None),
        link_options.HWADDR,
        link_options.MTU,
        link_options.GUEST,
        Column("announce", "whether a routing daemon may announce the networks", type=bool),
        Column("public", "IP versions whose interconnecting network is public", type=list[int] | None),
    )
    details = (
        Column("host_addr", "addresses of the host end", type=dict[str, str]),
        Column("ct_addr", "addresses of the container end", type=dict[str, str]),
        link_options.SOURCE,
        link_options.ADDRESSES,
        Column("routes", "networks routed to the container", type=list[str]),
        Column("sources", "additional allowed sources", type=list[str]),
    )
    request = RoutedRequest
    answered = ("via",)
    addresses = RoutedAddresses()

    def encode(self, interface: RoutedInterface) -> documents.RoutedDocument:
        return documents.encode(interface)

    def decode(self, document: documents.RoutedDocument) -> RoutedInterface:
        return documents.decode(document)

    def listed(self, interface: RoutedInterface) -> Mapping[str, Any]:
        return {
            "via": {str(version): str(via.network) for version, via in interface.vias.items()},
            "hwaddr": interface.mac,
            "mtu": interface.mtu,
            "guest": interface.guest_policy.value,
            "announce": interface.is_announced,
            "public": [version for version, via in sorted(interface.vias.items()) if via.is_public],
        }

    def detailed(self, interface: RoutedInterface) -> Mapping[str, Any]:
        versions = [version for version in VERSIONS if version in interface.vias]
        return {
            "host_addr": {str(version): str(interface.vias[version].host_address) for version in versions},
            "ct_addr": {str(version): str(interface.vias[version].container_address) for version in versions},
            "source": {str(version): str(interface.source(version)) for version in versions},
            "addresses": [str(each) for each in interface.addresses],
            "routes": [str(each.network) for each in interface.routes],
            "sources": [str(each) for each in interface.sources],
        }

    def amounts(self, interface: RoutedInterface) -> Mapping[str, int]:
        return {"addresses": len(interface.addresses), "routes": len(interface.routes)}

    def changed(
        self,
        host: Host,
        surroundings: Surroundings,
        container: Container,
        interface: RoutedInterface,
        options: RoutedOptions,
    ) -> RoutedInterface:
        draft = interface.draft()
        for version in sorted({int(each) for each in options.no_via}):
            # Beside auto it says, as with `new`, which version to leave out: there may be none of it.
            if AUTO not in options.via or version in interface.vias:
                draft.remove_via(version)
        draft.change_vias(options.chosen_vias(host, surroundings, interface.vias, is_new=False))
        changed = options.with_properties(interface.with_draft(draft))
        for version, via in changed.vias.items():
            held = interface.vias.get(version)
            # A new network has no delegated parts: a holder of a part of it is a conflict.
            if held is not None and held != via and held.network == via.network:
                surroundings.check_needs_nothing_given_on(container.holder(changed), changed, via.network)
        return changed

    def check(self, container: Container) -> None:
        check_broadcasts(container)
