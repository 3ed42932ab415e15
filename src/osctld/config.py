"""Between the configuration in memory and the documents and rows on disk.

Documents are plain text throughout (addresses as people write them), so that they can be read without this program
and outlive changes to the classes in memory. `SCHEMA` changes when a reader of the old form would be misled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from osctld.core.addresses import Address, InterfaceAddress, Network
from osctld.core.claims import Claim
from osctld.core.host import Container, GuestPolicy, Interface
from osctld.core.life import IdMap
from osctld.core.via import Via
from osctld.netif.routed import RoutedInterface, RoutedNetwork

SCHEMA = 2


class ViaDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    network: str
    host: str
    container: str
    public: bool


class RouteDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    network: str
    automatic: bool = False
    via: str | None = None


class RoutedDocument(msgspec.Struct, frozen=True, omit_defaults=True, tag="routed", tag_field="type"):
    uuid: str
    name: str
    link: str
    mac: str
    host_mac: str
    vias: tuple[ViaDocument, ...]
    addresses: tuple[str, ...] = ()
    routes: tuple[RouteDocument, ...] = ()
    sources: tuple[str, ...] = ()
    mtu: int | None = None
    guest: str = GuestPolicy.REPORT.value


class ContainerDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    uuid: str
    user: str | None
    id_offset: int
    id_size: int
    distribution: str
    version: str
    interfaces: tuple[RoutedDocument, ...]
    serial: int
    wanted: bool = False


class HoldingRow(msgspec.Struct, frozen=True):
    """One claim as a row of its own, so that another authority than this host may answer for it one day.

    `network` is the packed network address. `epoch` grows when a claim changes hands; `state` is wanted, parked,
    standby or draining.
    """

    version: int
    network: bytes
    length: int
    kind: str
    container: str
    interface: str
    epoch: int = 1
    state: str = "wanted"


def encode_container(container: Container) -> bytes:
    """The document of one container, as JSON."""
    return msgspec.json.encode(
        ContainerDocument(
            name=container.name,
            uuid=container.uuid,
            user=container.user,
            id_offset=container.id_map.offset,
            id_size=container.id_map.size,
            distribution=container.distribution,
            version=container.version,
            interfaces=tuple(map(_interface_document, container.interfaces)),
            serial=container.serial,
            wanted=container.is_wanted,
        )
    )


def plain(container: Container) -> dict[str, Any]:
    """The same document as plain values."""
    document: dict[str, Any] = msgspec.json.decode(encode_container(container))
    return document


def decode_container(document: bytes) -> Container:
    """Raises msgspec.ValidationError or Refused when the document is not one of ours."""
    read = _decoder.decode(document)
    return Container(
        name=read.name,
        uuid=read.uuid,
        user=read.user,
        id_map=IdMap(read.id_offset, read.id_size),
        distribution=read.distribution,
        version=read.version,
        interfaces=tuple(map(_interface, read.interfaces)),
        serial=read.serial,
        is_wanted=read.wanted,
    )


def holding_rows(claims: Iterable[Claim]) -> list[HoldingRow]:
    return [
        HoldingRow(
            version=claim.network.version,
            network=claim.network.packed,
            length=claim.network.length,
            kind=claim.kind.value,
            container=claim.holder.container,
            interface=claim.holder.interface,
        )
        for claim in claims
    ]


_decoder = msgspec.json.Decoder(ContainerDocument)


def _interface_document(interface: Interface) -> RoutedDocument:
    assert isinstance(interface, RoutedInterface), interface
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
        routes=tuple(_route_document(each) for each in interface.routes),
        sources=tuple(map(str, interface.sources)),
        mtu=interface.mtu,
        guest=interface.guest_policy.value,
    )


def _interface(document: RoutedDocument) -> Interface:
    return RoutedInterface(
        uuid=document.uuid,
        name=document.name,
        link=document.link,
        mac=document.mac,
        host_mac=document.host_mac,
        vias=_vias(document.vias),
        addresses=tuple(map(InterfaceAddress.parse, document.addresses)),
        routes=tuple(map(_route, document.routes)),
        sources=tuple(map(Network.parse, document.sources)),
        mtu=document.mtu,
        guest_policy=GuestPolicy(document.guest),
    )


def _route_document(route: RoutedNetwork) -> RouteDocument:
    via = str(route.next_hop) if route.next_hop is not None else None
    return RouteDocument(str(route.network), route.is_automatic, via)


def _route(document: RouteDocument) -> RoutedNetwork:
    next_hop = Address.parse(document.via) if document.via is not None else None
    return RoutedNetwork(Network.parse(document.network), document.automatic, next_hop)


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
