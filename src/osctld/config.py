"""Between the configuration in memory and the documents and rows on disk.

Documents are plain text throughout (addresses as people write them), so that they can be read without this program
and outlive changes to the classes in memory. `SCHEMA` changes when a reader of the old form would be misled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from osctld.core.addresses import Address, InterfaceAddress, Network, network_texts, read_networks
from osctld.core.claims import ClaimedNetworks
from osctld.core.host import Container, GuestPolicy, Interface
from osctld.core.life import IdMap
from osctld.core.network_table import NetworkTable, by_length, packed_addresses
from osctld.core.via import Via
from osctld.netif.routed import RoutedInterface
from osctld.netif.routed_networks import RoutedNetworks, Routing

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


class HoldingRows(msgspec.Struct, frozen=True):
    """Claims as rows of their own, so that another authority than this host may answer for them one day.

    They differ in their networks alone: `networks` are packed network addresses, end to end. `epoch` grows when a claim
    changes hands; `state` is wanted, parked, standby or draining.
    """

    version: int
    networks: bytes
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


def holding_rows(claims: Iterable[ClaimedNetworks]) -> list[HoldingRows]:
    return [
        HoldingRows(
            version=version,
            networks=packed_addresses(networks),
            length=length,
            kind=each.kind.value,
            container=each.holder.container,
            interface=each.holder.interface,
        )
        for each in claims
        for (version, length), networks in by_length(each.networks).items()
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
        routes=_route_documents(interface.routes),
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
        routes=_routes(document.routes),
        sources=tuple(map(Network.parse, document.sources)),
        mtu=document.mtu,
        guest_policy=GuestPolicy(document.guest),
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
