"""Which way packets go: the kernel is asked for the route that each follows, as it stands in its table."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence

from osctld.core.address.addresses import BITS, Address, Network
from osctld.core.authority.ways import Answer, Ask
from osctld.shell.kernel.netlink import U32, NetlinkSocket, attribute, attributes, first_of_dump
from osctld.shell.kernel.rtnetlink import (
    FAMILY,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTM_F_CLONED,
    RTM_F_FIB_MATCH,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
)
from osctld.shell.kernel.rtnetlink_dumps import next_hops

#: linux/include/uapi/linux/rtnetlink.h
RTA_SRC, RTA_IIF = 2, 3
#: Report the real table of an IPv4 route, otherwise always the main one; for IPv6 it is always reported, and this flag
#: refused.
RTM_F_LOOKUP_TABLE = 0x1000
#: Types and protocols as ip-route(8) spells them.
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
          8: "prohibit", 9: "throw"}  # fmt: skip
_PROTOCOLS = {1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp"}
_VERSION = {family: version for version, family in FAMILY.items()}
#: So many questions are sent at once.
_AT_ONCE = 40


def ways(
    through: NetlinkSocket, asks: Sequence[Ask], name: Callable[[int], str], index: Callable[[str], int | None]
) -> tuple[Answer | None, ...]:
    """One answer for each; None where the kernel has none. Raises OSError."""
    numbers = {link: index(link) for link in {each.iif for each in asks if each.iif}}
    found: list[Answer | None] = []
    for start in range(0, len(asks), _AT_ONCE):
        bodies = [_question(each, numbers) for each in asks[start : start + _AT_ONCE]]
        found += [_answer(data, name) if data is not None else None for data in through.get_each(RTM_GETROUTE, bodies)]
    return tuple(found)


def _question(ask: Ask, numbers: Mapping[str, int | None]) -> bytes:
    bits = BITS[ask.address.version]
    source_bits = bits if ask.source is not None else 0
    flags = RTM_F_FIB_MATCH | (RTM_F_LOOKUP_TABLE if ask.address.version == 4 else 0)
    body = RTMSG.pack(FAMILY[ask.address.version], bits, source_bits, 0, 0, 0, 0, 0, flags)
    body += attribute(RTA_DST, ask.address.packed)
    if ask.source is not None:
        body += attribute(RTA_SRC, ask.source.packed)
    if ask.iif:
        # A link that is gone has no number, and no packets arrive on it.
        body += attribute(RTA_IIF, U32.pack(numbers[ask.iif] or 0))
    return body


def _answer(data: bytes, name: Callable[[int], str]) -> Answer:
    family, length, _, tos, table, protocol, _, kind, _ = RTMSG.unpack_from(data)
    found = attributes(data, RTMSG.size)
    version = _VERSION[family]
    network = Network(version, int.from_bytes(found.get(RTA_DST, b""), "big"), length)
    number = U32.unpack(found[RTA_OIF])[0] if RTA_OIF in found else 0
    if RTA_MULTIPATH in found:
        number = next((each for each, _ in next_hops(found[RTA_MULTIPATH])), 0)
    link = name(number) if number else ""
    word = _KINDS.get(kind, str(kind))
    words = [word] if word != "unicast" else []
    words.append("default" if not length else str(network))
    words += [f"tos {tos:#x}"] if tos else []
    if RTA_MULTIPATH not in found:
        words += [f"via {Address.from_packed(found[RTA_GATEWAY])}"] if RTA_GATEWAY in found else []
        words += [f"dev {link}"] if link and word in ("unicast", "local") else []
    words += [f"proto {_PROTOCOLS.get(protocol, protocol)}"]
    words += [f"metric {U32.unpack(found[RTA_PRIORITY])[0]}"] if RTA_PRIORITY in found else []
    table = U32.unpack(found[RTA_TABLE])[0] if RTA_TABLE in found else table
    return Answer(word, link, table, network, " ".join(words))


def networks_beyond(link: int, version: int) -> Iterator[Network]:
    """Destinations of the first unicast routes by a link, in whatever table."""
    asked = RTMSG.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0) + attribute(RTA_OIF, U32.pack(link))
    for data in first_of_dump(RTM_GETROUTE, asked):
        family, length, _, _, _, _, _, kind, flags = RTMSG.unpack_from(data)
        if family == FAMILY[version] and kind == RTN_UNICAST and not flags & RTM_F_CLONED:
            found = attributes(data, RTMSG.size)
            yield Network(version, int.from_bytes(found.get(RTA_DST, b""), "big"), length)


def networks_in_table(table: int) -> Iterator[Network]:
    """Destinations of the first routes of a table, of both versions, default routes left out."""
    for version, family in FAMILY.items():
        asked = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_TABLE, U32.pack(table))
        for data in first_of_dump(RTM_GETROUTE, asked):
            _, length, *_ = RTMSG.unpack_from(data)
            found = attributes(data, RTMSG.size)
            if length and RTA_DST in found and data[0] in (socket.AF_INET, socket.AF_INET6):
                yield Network(version, int.from_bytes(found[RTA_DST], "big"), length)
