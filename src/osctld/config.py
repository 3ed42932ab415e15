"""Between the configuration in memory and the documents and rows on disk.

Documents are plain text throughout (addresses as people write them), so that they can be read without this program
and outlive changes to the classes in memory. `SCHEMA` changes when a reader of the old form would be misled.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.address.network_table import by_length, packed_addresses
from osctld.core.authority.claims import ClaimedNetworks, Holder
from osctld.core.authority.held import HoldingState
from osctld.core.config.autostart import Autostart
from osctld.core.config.guest_side import GuestFilesPolicy
from osctld.core.config.host import Container
from osctld.core.config.life import IdMap
from osctld.netif.interface_type import InterfaceDocument, interface_types, type_of

SCHEMA = 6


class AutostartDocument(msgspec.Struct, frozen=True):
    priority: int
    delay: int


D = TypeVar("D")


class ContainerDocument(msgspec.Struct, Generic[D], frozen=True, omit_defaults=True):
    name: str
    uuid: str
    user: str | None
    id_offset: int
    id_size: int
    distribution: str
    version: str
    interfaces: tuple[D, ...]  # of one type each, by its tag
    serial: int
    wanted: bool = False
    nesting: bool = False
    autostart: AutostartDocument | None = None
    generation: int = 0
    parked: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    guest_files: GuestFilesPolicy = GuestFilesPolicy.WRITE


class HoldingRows(msgspec.Struct, frozen=True):
    """Claims as rows of their own, so that another authority than this host may answer for them one day.

    They differ in their networks alone: `networks` are packed network addresses, end to end. `epoch` grows each time
    that a network changes hands: 0 stands for one more than it was when it was last given up. `state` is a
    HoldingState.
    """

    version: int
    networks: bytes
    length: int
    kind: str
    holder: Holder
    epoch: int = 0
    state: str = HoldingState.WANTED.value


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
            interfaces=tuple(type_of(each).encode(each) for each in container.interfaces),
            serial=container.serial,
            wanted=container.is_wanted,
            nesting=container.has_nesting,
            autostart=_autostart_document(container.autostart),
            generation=container.generation,
            parked=tuple(map(str, container.parked)),
            standby=tuple(map(str, container.standby)),
            guest_files=container.guest_files,
        )
    )


def plain(container: Container) -> dict[str, Any]:
    """The same document as plain values."""
    document: dict[str, Any] = msgspec.json.decode(encode_container(container))
    return document


def decode_container(document: bytes) -> Container:
    """Raises msgspec.ValidationError or Refused when the document is not one of ours."""
    read = _decoder().decode(document)
    types = interface_types()
    return Container(
        name=read.name,
        uuid=read.uuid,
        user=read.user,
        id_map=IdMap(read.id_offset, read.id_size),
        distribution=read.distribution,
        version=read.version,
        interfaces=tuple(types[_tag(each)].decode(each) for each in read.interfaces),
        serial=read.serial,
        is_wanted=read.wanted,
        has_nesting=read.nesting,
        autostart=Autostart(read.autostart.priority, read.autostart.delay) if read.autostart is not None else None,
        generation=read.generation,
        parked=tuple(map(Network.parse, read.parked)),
        standby=tuple(map(Network.parse, read.standby)),
        guest_files=read.guest_files,
    )


def upgraded(document: bytes, schema: int) -> bytes:
    """Return a container's document of an older schema as one of the present one.

    Raises msgspec.DecodeError if it is not a document at all.
    """
    if schema < 3:
        # Every container could run containers of its own then, and may have come to depend on it.
        fields = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        document = msgspec.json.encode({**fields, "nesting": True})
    return document


def holding_rows(
    claims: Iterable[ClaimedNetworks], set_aside: Mapping[Network, HoldingState] | None = None, *, epoch: int = 0
) -> list[HoldingRows]:
    """Claims as rows. `set_aside`: those whose state is another than wanted. `epoch` is what an authority granted."""
    states = {each.packed: state for each, state in (set_aside or {}).items()}
    return [
        HoldingRows(
            version=version,
            networks=packed_addresses(networks),
            length=length,
            kind=each.kind.value,
            holder=each.holder,
            epoch=epoch,
            state=state.value,
        )
        for each in claims
        for state, some in _by_state(each.networks, states)
        for (version, length), networks in by_length(some).items()
    ]


def _by_state(
    networks: Sequence[PackedNetwork], states: Mapping[PackedNetwork, HoldingState]
) -> Iterator[tuple[HoldingState, Sequence[PackedNetwork]]]:
    if not states:
        yield HoldingState.WANTED, networks
        return
    for state in HoldingState:
        yield state, [each for each in networks if states.get(each, HoldingState.WANTED) is state]


def item_events() -> Mapping[str, Mapping[str, str]]:
    """Lists in documents of interfaces whose items are reported one by one, and the event of an item: by type."""
    return {name: kind.item_events for name, kind in interface_types().items()}


@functools.cache
def _decoder() -> msgspec.json.Decoder[ContainerDocument[InterfaceDocument]]:
    documents: Any = functools.reduce(operator.or_, (kind.document for kind in interface_types().values()))
    generic: Any = ContainerDocument
    return msgspec.json.Decoder(generic[documents])


def _tag(document: InterfaceDocument) -> str:
    tag = document.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def _autostart_document(autostart: Autostart | None) -> AutostartDocument | None:
    return AutostartDocument(autostart.priority, autostart.delay) if autostart is not None else None
