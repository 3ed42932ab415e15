"""A set of one link that says what may be sent from it, and the chain that looks into it, as netlink messages.

What they are is told in osctld.core.plan.packet_filter; nft(8) makes the same with the table. Formats and numbers are
those of linux/include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from osctld.core.address.addresses import BITS
from osctld.core.plan.packet_filter import FAMILY, LEADS_TO, MAP, NAME, VERSION_OF, name_of_link
from osctld.shell.kernel.netlink import NLM_F_CREATE, attribute
from osctld.shell.kernel.nfnetlink import (
    NFNL_SUBSYS_NFTABLES,
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWSETELEM,
    NLA_F_NESTED,
    body_of,
    key_of,
    list_of,
    padded,
)

(
    _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE, _NEWSET, _DELSET,
) = (NFNL_SUBSYS_NFTABLES << 8 | each for each in (3, 5, 6, 8, 9, 11))  # fmt: skip
_NFT_SET_INTERVAL = 4
#: Types of keys are the user space's own matter (nftables/include/datatype.h); by them nft(8) prints elements.
_KEY_TYPES = {4: 7, 6: 8}
#: NFPROTO_IPV4 and NFPROTO_IPV6 in linux/include/uapi/linux/netfilter.h.
_PROTOCOLS = {4: 2, 6: 10}
_META_NFPROTO, _CMP_EQ, _NETWORK_HEADER = 15, 0, 1
#: Where the source address begins in a header (RFC 791, 3.1; RFC 8200, 3), in octets.
_SOURCE_AT = {4: 12, 6: 8}
_VERDICT_REGISTER, _REGISTER = 0, 1
_ELEMENT_DATA, _DATA_VERDICT = 2, 2
_NF_ACCEPT, _JUMP, _GOTO = 1, -3, -4

_U32 = struct.Struct(">I")


class Message(NamedTuple):
    """One message of a transaction."""

    kind: int
    flags: int
    body: bytes


def creation(kind: str, link: str) -> Iterator[Message]:
    """Set, chain and the element of the map that leads to it. Nothing of it may be there."""
    name, version = name_of_link(kind, link), VERSION_OF[kind]
    key = _number(4, _KEY_TYPES[version]) + _number(5, BITS[version] // 8)
    identity = _number(10, 1)  # by which others in this transaction could name it
    yield _message(_NEWSET, _text(2, name), _number(3, _NFT_SET_INTERVAL), key, identity)
    yield _message(_NEWCHAIN, _text(3, name))
    yield _message(_NEWRULE, _text(2, name), _rule(name, version, LEADS_TO[kind]))
    data = attribute(NLA_F_NESTED | _ELEMENT_DATA, attribute(NLA_F_NESTED | _DATA_VERDICT, _verdict(_JUMP, name)))
    yield Message(NFT_MSG_NEWSETELEM, NLM_F_CREATE, list_of(MAP[kind], key_of(padded(link)) + data))


def removal(kind: str, link: str) -> Iterator[Message]:
    """The same things, with what is in the set."""
    name = name_of_link(kind, link)
    yield Message(NFT_MSG_DELSETELEM, 0, list_of(MAP[kind], key_of(padded(link))))
    yield _message(_DELRULE, _text(2, name), flags=0)
    yield _message(_DELCHAIN, _text(3, name), flags=0)
    yield _message(_DELSET, _text(2, name), flags=0)


def question(kind: str, link: str) -> bytes:
    """The body of a question about the element of the map that leads to the chain of a link."""
    return list_of(MAP[kind], key_of(padded(link)))


def _message(kind: int, *packed: bytes, flags: int = NLM_F_CREATE) -> Message:
    return Message(kind, flags, body_of(FAMILY, _text(1, NAME), *packed))


def _rule(name: str, version: int, to: str) -> bytes:
    """Packets of this IP version whose source address is in a set."""
    verdict = _verdict(_GOTO, to) if to else _verdict(_NF_ACCEPT)
    protocol = attribute(NLA_F_NESTED | 3, attribute(1, bytes([_PROTOCOLS[version]])))
    expressions = (
        ("meta", _number(2, _META_NFPROTO) + _number(1, _REGISTER)),
        ("cmp", _number(1, _REGISTER) + _number(2, _CMP_EQ) + protocol),
        (
            "payload",
            _number(1, _REGISTER)
            + _number(2, _NETWORK_HEADER)
            + _number(3, _SOURCE_AT[version])
            + _number(4, BITS[version] // 8),
        ),
        ("lookup", _text(1, name) + _number(2, _REGISTER)),
        (
            "immediate",
            _number(1, _VERDICT_REGISTER)
            + attribute(NLA_F_NESTED | 2, attribute(NLA_F_NESTED | _DATA_VERDICT, verdict)),
        ),
    )
    packed = b"".join(
        attribute(NLA_F_NESTED | 1, _text(1, kind) + attribute(NLA_F_NESTED | 2, words)) for kind, words in expressions
    )
    return attribute(NLA_F_NESTED | 4, packed)


def _verdict(code: int, chain: str = "") -> bytes:
    return attribute(1, struct.pack(">i", code)) + (_text(2, chain) if chain else b"")


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))
