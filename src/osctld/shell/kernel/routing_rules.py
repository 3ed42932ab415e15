"""The host's routing rules: looked at once, then again only when one came or went."""

from __future__ import annotations

import socket

from osctld.core.address.addresses import Address, Network
from osctld.core.authority.routing_rules import LOOKUP, Rule
from osctld.shell.kernel.netlink import U32, NetlinkSocket, attributes
from osctld.shell.kernel.netlink_listening import LARGEST_DATAGRAM, assemble, listening, was_told
from osctld.shell.kernel.rtnetlink import FAMILY

#: linux/include/uapi/linux/rtnetlink.h
RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE = 8, 19
RTM_GETRULE = 34
#: linux/include/uapi/linux/fib_rules.h: struct fib_rule_hdr, its flags, actions and attributes.
_HEADER_SIZE, _SOURCE_LENGTH, _DESTINATION_LENGTH, _TOS, _TABLE, _ACTION = 12, 2, 1, 3, 4, 7
FIB_RULE_INVERT = 2
_ACTIONS = {1: LOOKUP, 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_GOTO, FRA_PRIORITY, FRA_FWMARK = 1, 2, 3, 4, 6, 10
FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_OIFNAME = 13, 14, 15, 16, 17
FRA_L3MDEV, FRA_UID_RANGE, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE = 19, 20, 22, 23, 24
_NO_SUPPRESSION = 0xFFFFFFFF
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}


class RoutingRules:
    """Answers in the network namespace in which it is made."""

    def __init__(self) -> None:
        """Raises OSError if the kernel does not answer."""
        self._news = listening(socket.NETLINK_ROUTE, (RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE), assemble(()))
        self._buffer = bytearray(LARGEST_DATAGRAM)
        self._found: tuple[Rule, ...] | None = None

    def close(self) -> None:
        self._news.close()

    def present(self, through: NetlinkSocket) -> tuple[Rule, ...]:
        """All of them, in the order in which they are asked; the same value while that is so. Raises OSError."""
        if was_told(self._news, self._buffer):
            self._found = None
        if self._found is None:
            self._found = tuple(
                _rule(data, version)
                for version, family in FAMILY.items()
                for data in through.dump(RTM_GETRULE, bytes([family]) + bytes(_HEADER_SIZE - 1))
                if data[0] == family
            )
        return self._found


def _rule(data: bytes, version: int) -> Rule:
    found = attributes(data, _HEADER_SIZE)
    flags = int.from_bytes(data[8:12], "little")
    table = U32.unpack(found[FRA_TABLE])[0] if FRA_TABLE in found else data[_TABLE]
    mark = U32.unpack(found[FRA_FWMARK])[0] if FRA_FWMARK in found else None
    mask = U32.unpack(found[FRA_FWMASK])[0] if FRA_FWMASK in found else 0xFFFFFFFF
    suppressed = U32.unpack(found[FRA_SUPPRESS_PREFIXLEN])[0] if FRA_SUPPRESS_PREFIXLEN in found else _NO_SUPPRESSION
    return Rule(
        version=version,
        priority=U32.unpack(found[FRA_PRIORITY])[0] if FRA_PRIORITY in found else 0,
        table=table,
        action=_ACTIONS.get(data[_ACTION], "nop"),
        source=_network(found.get(FRA_SRC), data[_SOURCE_LENGTH]),
        destination=_network(found.get(FRA_DST), data[_DESTINATION_LENGTH]),
        iif=_name(found.get(FRA_IIFNAME)),
        oif=_name(found.get(FRA_OIFNAME)),
        mark=(mark, mask) if mark is not None else None,
        is_inverted=bool(flags & FIB_RULE_INVERT),
        suppressed_length=-1 if suppressed == _NO_SUPPRESSION else suppressed,
        more=" ".join(_further(data, found)),
    )


def _further(data: bytes, found: dict[int, bytes]) -> list[str]:
    words = [f"tos {data[_TOS]:#x}"] if data[_TOS] else []
    if FRA_UID_RANGE in found:
        first, last = (int.from_bytes(found[FRA_UID_RANGE][at : at + 4], "little") for at in (0, 4))
        words.append(f"uidrange {first}-{last}")
    if FRA_IP_PROTO in found:
        number = found[FRA_IP_PROTO][0]
        words.append(f"ipproto {_PROTOCOLS.get(number, number)}")
    for kind, word in ((FRA_SPORT_RANGE, "sport"), (FRA_DPORT_RANGE, "dport")):
        if kind in found:
            first, last = (int.from_bytes(found[kind][at : at + 2], "little") for at in (0, 2))
            words.append(f"{word} {first}" if first == last else f"{word} {first}-{last}")
    if FRA_GOTO in found:
        words.append(f"goto {U32.unpack(found[FRA_GOTO])[0]}")
    if FRA_L3MDEV in found and found[FRA_L3MDEV][0]:
        words.append("l3mdev")
    return words


def _network(address: bytes | None, length: int) -> Network | None:
    return Address.from_packed(address).with_length(length).network if address else None


def _name(data: bytes | None) -> str:
    return data.rstrip(b"\0").decode(errors="surrogateescape") if data else ""
