"""A routed interface as it is written: plain text throughout, addresses as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress, Network, network_texts, read_networks
from osctld.core.address.network_table import NetworkTable
from osctld.core.address.via import Via
from osctld.core.config.host import GuestPolicy
from osctld.netif.interface_type import InterfaceDocument
from osctld.netif.routed.interface import RoutedInterface
from osctld.netif.routed.networks import RoutedNetworks, Routing


class ViaDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    network: str
    host: str
    container: str
    public: bool


class RouteDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    network: str
    automatic: bool = False
    via: str | None = None


class RoutedDocument(InterfaceDocument, frozen=True, omit_defaults=True, tag="routed"):
    mac: str
    host_mac: str
    vias: tuple[ViaDocument, ...]
    addresses: tuple[str, ...] = ()
    routes: tuple[RouteDocument, ...] = ()
    sources: tuple[str, ...] = ()
    mtu: int | None = None
    guest: str = GuestPolicy.REPORT.value
    announce: bool = True


def encode(interface: RoutedInterface) -> RoutedDocument:
    """The document of an interface."""
    return RoutedDocument(
        uuid=interface.uuid,
        name=interface.name,
        link=interface.link,
        mac=interface.mac,
        host_mac=interface.host_mac,
        vias=tuple(
            ViaDocument(str(via.network), str(via.host_end), str(via.container_end), via.is_public)
            for via in interface.vias.values()
        ),
        addresses=tuple(map(str, interface.addresses)),
        routes=_route_documents(interface.routes),
        sources=tuple(map(str, interface.sources)),
        mtu=interface.mtu,
        guest=interface.guest_policy.value,
        announce=interface.is_announced,
    )


def decode(document: RoutedDocument) -> RoutedInterface:
    """The interface of a document. Raises Refused when it makes no sense."""
    return RoutedInterface(
        uuid=document.uuid,
        name=document.name,
        link=document.link,
        mac=document.mac,
        host_mac=document.host_mac,
        vias=_vias(document.vias),
        addresses=tuple(map(InterfaceAddress.parse, document.addresses)),
        routes=_routes(document.routes),
        sources=tuple(map(Network.parse, document.sources)),
        mtu=document.mtu,
        guest_policy=GuestPolicy(document.guest),
        is_announced=document.announce,
    )


def _route_documents(routes: RoutedNetworks) -> tuple[RouteDocument, ...]:
    """Their documents, encoded already: of those alike one is, and the networks are put into copies of it."""
    if not routes:
        return ()
    pieces = []
    for how, networks in routes.runs():
        via = str(how.next_hop) if how.next_hop is not None else None
        before, _, after = msgspec.json.encode(RouteDocument("@", how.is_automatic, via)).decode().partition("@")
        pieces.append(before + f"{after},{before}".join(network_texts(networks)) + after)
    return cast("tuple[RouteDocument, ...]", msgspec.Raw(f"[{','.join(pieces)}]".encode()))


def _routes(documents: Sequence[RouteDocument]) -> RoutedNetworks:
    table: NetworkTable[Routing] = NetworkTable()
    seen: dict[Routing, Routing] = {}
    for packed, each in zip(read_networks([each.network for each in documents]), documents, strict=True):
        how = Routing(each.automatic, Address.parse(each.via) if each.via is not None else None)
        table.put(packed, seen.setdefault(how, how))  # one value for all that are alike, for the memory's sake
    return RoutedNetworks(table)


def _vias(documents: Iterable[ViaDocument]) -> Mapping[int, Via]:
    vias = (
        Via.make(
            Network.parse(each.network),
            host_end=Address.parse(each.host),
            container_end=Address.parse(each.container),
            is_public=each.public,
        )
        for each in documents
    )
    return {via.version: via for via in vias}
