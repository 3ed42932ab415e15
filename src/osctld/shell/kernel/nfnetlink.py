"""Messages to the packet filter: numbers, and how a body about a set or its elements is packed.

Formats and numbers are those of linux/include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

import struct

from osctld.core.plan.packet_filter import FAMILY, NAME
from osctld.shell.kernel.netlink import attribute

NETLINK_NETFILTER = 12
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
#: linux/include/uapi/linux/netfilter.h
NFPROTO = {"inet": 1, "arp": 3, "bridge": 7}
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = (NFNL_SUBSYS_NFTABLES << 8 | each for each in (12, 13, 14))
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM = 1
NFTA_SET_ELEM_KEY = 1
NFTA_DATA_VALUE = 1
NLA_F_NESTED = 0x8000

NFGENMSG = struct.Struct("=BBH")  # family, version, resource

#: Bytes of a link's name in a key (IFNAMSIZ).
_NAME_SIZE = 16


def body_of(family: str, *packed: bytes) -> bytes:
    """The body of a message about a table of this family: its attributes behind the header that all have."""
    return NFGENMSG.pack(NFPROTO[family], 0, 0) + b"".join(packed)


def list_of(name: str, *elements: bytes, family: str = FAMILY) -> bytes:
    """The body of a message about a set, or elements of it."""
    body = body_of(
        family,
        attribute(NFTA_SET_ELEM_LIST_TABLE, NAME.encode() + b"\0"),
        attribute(NFTA_SET_ELEM_LIST_SET, name.encode() + b"\0"),
    )
    if elements:
        inner = b"".join(attribute(NLA_F_NESTED | NFTA_LIST_ELEM, each) for each in elements)
        body += attribute(NLA_F_NESTED | NFTA_SET_ELEM_LIST_ELEMENTS, inner)
    return body


def key_of(value: bytes) -> bytes:
    """The key of an element."""
    return attribute(NLA_F_NESTED | NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, value))


def padded(link: str) -> bytes:
    """A link's name as a key."""
    return link.encode(errors="surrogateescape").ljust(_NAME_SIZE, b"\0")
