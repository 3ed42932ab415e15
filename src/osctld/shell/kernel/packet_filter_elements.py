"""Elements of the sets in our nftables table, by netlink: added, removed, and asked for one by one.

libnftables reads whole sets before it changes one, so that an element would cost more the more containers there are.
Formats and numbers are those of linux/include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from osctld.core.address.addresses import BITS, VERSION_OF_PACKED, Network, PackedNetwork
from osctld.core.plan.changes import Change, Remove, Replace, subject_of
from osctld.core.plan.kernel_state import (
    HOST,
    FilterElement,
    KernelObject,
    PermittedSource,
    PrivateNetwork,
    SiblingLinks,
    StoppedNetwork,
)
from osctld.core.plan.packet_filter import (
    ARP_COUNTERS,
    BRIDGE_COUNTERS,
    COUNTERS,
    FAMILY,
    MAP,
    OWN,
    PRIVATE,
    ROUTED,
    SIBLINGS,
    STOPPED,
    comment,
    kind_of,
    name_of_link,
    read_comment,
    set_of,
)
from osctld.shell.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    YES,
    Answer,
    NetlinkSocket,
    attribute,
    attributes,
    message,
)
from osctld.shell.kernel.nfnetlink import (
    NETLINK_NETFILTER,
    NFGENMSG,
    NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES,
    NFT_MSG_DELSETELEM,
    NFT_MSG_GETSETELEM,
    NFT_MSG_NEWSETELEM,
    NFTA_DATA_VALUE,
    NFTA_LIST_ELEM,
    NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS,
    NLA_F_NESTED,
    key_of,
    list_of,
    padded,
)
from osctld.shell.kernel.packet_filter_sources import Message, creation, question, removal

NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_USERDATA = 3, 6
NFT_SET_ELEM_INTERVAL_END = 1
NFTA_SET_ELEM_EXPR, NFTA_EXPR_DATA, NFTA_COUNTER_PACKETS = 7, 2, 2

#: Type of a comment in what nft keeps of its own with an element (libnftnl/include/libnftnl/udata.h).
UDATA_COMMENT = 0

_INDEXES = struct.Struct("=II")
_HEADER = struct.Struct("=HH")
_FLAGS = struct.Struct(">I")
_PACKETS = struct.Struct(">Q")

#: Family and name of each set that counts.
_COUNTERS = (
    *((FAMILY, each) for each in COUNTERS),
    *(("arp", each) for each in ARP_COUNTERS),
    *(("bridge", each) for each in BRIDGE_COUNTERS),
)

#: A link's number by its name, None when there is no such link.
IndexOf = Callable[[str], int | None]


class PacketFilterElements:
    """A socket to the packet filter of the network namespace in which this object is made."""

    def __init__(self, index: IndexOf) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket = NetlinkSocket(opened)
        self._index = index

    @property
    def port(self) -> int:
        return self._socket.port

    def close(self) -> None:
        self._socket.close()

    def perform(self, changes: Sequence[Change]) -> list[Answer]:
        """Add and remove elements as one transaction: one answer for each; after a refusal nothing was done."""
        steps: list[tuple[int, bool, FilterElement]] = []  # position of the change, is a removal, what
        for position, change in enumerate(changes):
            if isinstance(change, Replace):
                steps.append((position, True, _element_of(change.old)))
            steps.append((position, isinstance(change, Remove), _element_of(subject_of(change))))
        messages: list[tuple[int, Message]] = []  # the former with the position of its change
        for position, is_removal, element in steps:
            body = self._body(element)
            if body is None:
                answers = [Answer(errno.ECANCELED)] * len(changes)
                answers[position] = Answer(errno.ENODEV, "Interface does not exist")
                return answers
            kind, flags = (NFT_MSG_DELSETELEM, 0) if is_removal else (NFT_MSG_NEWSETELEM, NLM_F_CREATE)
            messages.append((position, Message(kind, flags, body)))
        before, after = self._around(steps)
        messages = [*before, *messages, *after]
        answers = [YES] * len(changes)
        told = self._transact([each for _, each in messages])
        for (position, _), answer in zip(messages, told, strict=True):
            if answer.errno:
                answers[position] = answer
        return answers

    def _around(
        self, steps: Sequence[tuple[int, bool, FilterElement]]
    ) -> tuple[list[tuple[int, Message]], list[tuple[int, Message]]]:
        """What makes links' own sets that are missing, before; what removes those that will be empty, afterwards."""
        sets: dict[tuple[str, str], tuple[int, set[FilterElement], set[FilterElement]]] = {}
        for position, is_removal, element in steps:
            if isinstance(element, PermittedSource):
                _, removed, added = sets.setdefault((kind_of(element), element.link), (position, set(), set()))
                (removed if is_removal else added).add(element)
                (added if is_removal else removed).discard(element)
        before: list[tuple[int, Message]] = []
        after: list[tuple[int, Message]] = []
        for (kind, link), (position, removed, added) in sets.items():
            if self._socket.get(NFT_MSG_GETSETELEM, question(kind, link)) is None:
                before += [(position, each) for each in creation(kind, link)] if added else []
            elif not added and all(each in removed for each in self._sources_of(kind, link)):
                after += [(position, each) for each in removal(kind, link)]
        return before, after

    def _transact(self, messages: Sequence[Message]) -> list[Answer]:
        """One answer for each, the same for all when it is about the whole."""
        count = len(messages) + 2
        first = self._socket.reserve(count)
        marker = NFGENMSG.pack(socket.AF_UNSPEC, 0, socket.htons(NFNL_SUBSYS_NFTABLES))
        packed = [message(NFNL_MSG_BATCH_BEGIN, 0, marker, first)]
        for number, (kind, flags, body) in enumerate(messages, start=first + 1):
            packed.append(message(kind, flags | NLM_F_ACK, body, number))
        packed.append(message(NFNL_MSG_BATCH_END, 0, marker, first + count - 1))
        told = self._socket.transact(packed, first=first, count=count)
        whole = told.get(0)
        if whole is not None and whole.errno:
            return [whole] * len(messages)
        lost = Answer(errno.ENOBUFS, "the kernel's answer was lost")
        return [told.get(position, lost) for position in range(1, count - 1)]

    def counted(self, link: str) -> dict[str, int]:
        """Packets of a link by the set that counts them; sets that know nothing of it are left out."""
        found: dict[str, int] = {}
        for family, name in _COUNTERS:
            data = self._socket.get(NFT_MSG_GETSETELEM, list_of(name, key_of(padded(link)), family=family))
            for element in _attributes_of_elements([data] if data is not None else []):
                found[name] = found.get(name, 0) + _packets_of(element)
        return found

    def all_counted(self) -> dict[str, dict[str, int]]:
        """Packets by the set that counts them and by link, of all links of which anything was counted."""
        found: dict[str, dict[str, int]] = {}
        for family, name in _COUNTERS:
            by_link = found.setdefault(name, {})
            for element in _attributes_of_elements(self._socket.dump(NFT_MSG_GETSETELEM, list_of(name, family=family))):
                key = attributes(element.get(NFTA_SET_ELEM_KEY, b"")).get(NFTA_DATA_VALUE, b"")
                link = key.rstrip(b"\0").decode(errors="surrogateescape")
                by_link[link] = by_link.get(link, 0) + _packets_of(element)
        return found

    def forget_counted(self, link: str) -> None:
        """Remove what is counted of a link. That there is nothing is as good."""
        for family, name in _COUNTERS:
            self._transact([Message(NFT_MSG_DELSETELEM, 0, list_of(name, key_of(padded(link)), family=family))])

    def present(self, elements: Iterable[FilterElement]) -> Iterator[FilterElement]:
        """Those of the elements that are there, and when links of theirs are gone, all that are left of gone links.

        Nobody can name the latter any more.
        """
        has_gone_links = False
        for each in elements:
            body = self._body(each, is_question=True)
            has_gone_links |= body is None
            found = self._socket.get(NFT_MSG_GETSETELEM, body) if body is not None else None
            if found is None:
                continue
            if isinstance(each, SiblingLinks):
                yield each
                continue
            assert not isinstance(each, StoppedNetwork)  # nobody asks for one of these: see `stopped`
            # Asked for an address, the kernel answers with what includes it, or with the nearest beginning below it.
            yield from (each for network, link in _ranges([found]) if (network, link) == (each.network, each.link))
        if has_gone_links:
            for each in itertools.chain(self._dump_set(OWN), self._dump_set(SIBLINGS)):
                if isinstance(each, SiblingLinks) and each.is_of_gone_link:
                    yield each

    def stopped(self) -> frozenset[PackedNetwork]:
        """The networks of stopped containers that the packet filter knows."""
        found: set[PackedNetwork] = set()
        for name in STOPPED.values():
            keys: set[bytes] = set()
            ends: set[bytes] = set()
            for element in _attributes_of_elements(self._socket.dump(NFT_MSG_GETSETELEM, list_of(name))):
                key = attributes(element.get(NFTA_SET_ELEM_KEY, b"")).get(NFTA_DATA_VALUE, b"")
                is_end = element.get(NFTA_SET_ELEM_FLAGS, b"\0")[-1] & NFT_SET_ELEM_INTERVAL_END
                (ends if is_end else keys).add(key)
            behind = sorted(each for each in ends if any(each))  # nft(8) puts one before all others
            for start, end in zip(sorted(keys), behind, strict=False):
                size = int.from_bytes(end, "big") - int.from_bytes(start, "big")
                if size > 0:  # what somebody else has put there may be no network: it is none of ours then
                    found.add(start + bytes((8 * len(start) - size.bit_length() + 1,)))
        return frozenset(found)

    def change_stopped(self, removed: Sequence[PackedNetwork], added: Sequence[PackedNetwork]) -> Answer:
        """One transaction for all of them, those that are removed first."""
        messages = [
            Message(kind, flags, body)
            for kind, flags, networks in (
                (NFT_MSG_DELSETELEM, 0, removed),
                (NFT_MSG_NEWSETELEM, NLM_F_CREATE, added),
            )
            for body in _bodies_of_stopped(networks)
        ]
        return next((each for each in self._transact(messages) if each.errno), YES)

    def are_links_there(self, each: FilterElement) -> bool:
        """Whether all links are there that have to be for the element to be added."""
        return self._body(each) is not None

    def dump(self) -> Iterator[FilterElement]:
        """All elements. A link that is gone shows as its bare number where the set knows links by number."""
        for name in (OWN, SIBLINGS, *PRIVATE.values()):
            yield from self._dump_set(name)
        for kind, leading in MAP.items():
            for key, _ in _elements(self._socket.dump(NFT_MSG_GETSETELEM, list_of(leading))):
                yield from self._sources_of(kind, key.rstrip(b"\0").decode(errors="surrogateescape"))

    def _sources_of(self, kind: str, link: str) -> Iterator[PermittedSource]:
        found = self._socket.dump(NFT_MSG_GETSETELEM, list_of(name_of_link(kind, link)))
        is_routed = kind in ROUTED.values()
        yield from (PermittedSource(HOST, link, each, is_routed=is_routed) for each, _ in _ranges(found))

    def _dump_set(self, name: str) -> Iterator[FilterElement]:
        return _read(name, self._socket.dump(NFT_MSG_GETSETELEM, list_of(name)))

    def _body(self, each: FilterElement, *, is_question: bool = False) -> bytes | None:
        """None for siblings of which one is gone."""
        if isinstance(each, SiblingLinks):
            one, other = self._number(each.link), self._number(each.sibling)
            if one is None or other is None:
                return None
            return list_of(set_of(each), key_of(_INDEXES.pack(one, other)))
        name = set_of(each)
        start = key_of(each.network.address.packed)
        if is_question:
            return list_of(name, start)
        if isinstance(each, StoppedNetwork):
            return list_of(name, start, *_end(each.network))
        text = comment(each).encode() + b"\0"
        userdata = attribute(NFTA_SET_ELEM_USERDATA, bytes([UDATA_COMMENT, len(text)]) + text)
        return list_of(name, start + userdata, *_end(each.network))

    def _number(self, name: str) -> int | None:
        return int(name) if name.isdigit() else self._index(name)


#: So many networks fit into one message: its attributes are of less than 65536 bytes.
_IN_ONE_MESSAGE = 900


def _bodies_of_stopped(networks: Sequence[PackedNetwork]) -> Iterator[bytes]:
    """Messages about elements of the sets of stopped containers' networks: both ends of each."""
    for size, version in VERSION_OF_PACKED.items():
        some = [each for each in networks if len(each) == size]
        octets, bits = BITS[version] >> 3, BITS[version]
        start = attribute(NLA_F_NESTED | NFTA_LIST_ELEM, key_of(bytes(octets)))[:-octets]
        flags = attribute(NFTA_SET_ELEM_FLAGS, _FLAGS.pack(NFT_SET_ELEM_INTERVAL_END))
        end = attribute(NLA_F_NESTED | NFTA_LIST_ELEM, key_of(bytes(octets)) + flags)[: -octets - len(flags)]
        for at in range(0, len(some), _IN_ONE_MESSAGE):
            elements = b"".join(
                [
                    b"".join(
                        (
                            start, each[:-1], end,
                            (int.from_bytes(each[:-1], "big") + (1 << bits - each[-1])).to_bytes(octets, "big"), flags,
                        )
                    )
                    for each in some[at : at + _IN_ONE_MESSAGE]
                ]
            )  # fmt: skip
            yield list_of(STOPPED[version]) + attribute(NLA_F_NESTED | NFTA_SET_ELEM_LIST_ELEMENTS, elements)


def _element_of(each: KernelObject) -> FilterElement:
    assert isinstance(each, FilterElement)
    return each


def _end(network: Network) -> tuple[bytes, ...]:
    """The element behind the last address; none where that is the last of all."""
    bits = BITS[network.version]
    beyond = network.number + network.size
    if beyond >> bits:
        return ()
    key = beyond.to_bytes(bits // 8, "big")
    return (key_of(key) + attribute(NFTA_SET_ELEM_FLAGS, _FLAGS.pack(NFT_SET_ELEM_INTERVAL_END)),)


def _attributes_of_elements(messages: Iterable[bytes]) -> Iterator[dict[int, bytes]]:
    """The attributes of each element in messages of the kernel's."""
    for data in messages:
        elements = attributes(data, NFGENMSG.size).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")
        offset = 0
        while offset + _HEADER.size <= len(elements):
            length, _ = _HEADER.unpack_from(elements, offset)
            yield attributes(elements[offset + _HEADER.size : offset + length])
            offset += (max(length, _HEADER.size) + 3) & ~3


def _packets_of(element: Mapping[int, bytes]) -> int:
    """What an element has counted."""
    counter = attributes(attributes(element.get(NFTA_SET_ELEM_EXPR, b"")).get(NFTA_EXPR_DATA, b""))
    return int(_PACKETS.unpack(counter[NFTA_COUNTER_PACKETS])[0]) if NFTA_COUNTER_PACKETS in counter else 0


def _elements(messages: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
    """Key and comment of each element in messages of the kernel's."""
    for found in _attributes_of_elements(messages):
        key = attributes(found.get(NFTA_SET_ELEM_KEY, b"")).get(NFTA_DATA_VALUE, b"")
        yield key, _comment(found.get(NFTA_SET_ELEM_USERDATA, b""))


def _read(name: str, messages: Iterable[bytes]) -> Iterator[FilterElement]:
    """What the elements of a set of all links in messages of the kernel's stand for.

    A set of that name in another version's table, or in one that somebody else made, may be of another kind.
    """
    if name in PRIVATE.values():
        yield from (PrivateNetwork(HOST, link, network) for network, link in _ranges(messages))
    else:
        for key, _ in _elements(messages):
            if len(key) != _INDEXES.size:
                continue
            one, other = _INDEXES.unpack(key)
            yield SiblingLinks(HOST, _name(one), _name(other))


def _comment(data: bytes) -> str:
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == UDATA_COMMENT:
            return data[2 : 2 + length].rstrip(b"\0").decode(errors="surrogateescape")
        data = data[2 + length :]
    return ""


def _ranges(messages: Iterable[bytes]) -> Iterator[tuple[Network, str]]:
    """Network and link that the comments tell: an element is only one end of a range, and ends have none."""
    for key, text in _elements(messages):
        found = read_comment(text)
        if found is not None and found[0].address.packed == key:
            yield found


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
