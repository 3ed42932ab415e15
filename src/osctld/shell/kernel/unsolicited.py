"""Frames by which the neighbours on a link learn who is there, sent from inside a container.

Of the MAC address alone tells a request for the reverse resolution of addresses (RFC 903), which bridges and switches
learn from and nobody answers; of an IPv4 address an ARP announcement (RFC 5227, 2.3); of an IPv6 address an unsolicited
neighbour advertisement that overrides what was known (RFC 4861, 7.2.6).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import msgspec

from osctld.core.address.addresses import Address
from osctld.core.plan.arrivals import Arrival
from osctld.shell.kernel import rtnetlink_dumps
from osctld.shell.kernel.netlink import NetlinkSocket
from osctld.shell.kernel.netns import inside, open_netlink
from osctld.shell.kernel.rtnetlink import mac_bytes

_IPV4, _ARP, _RARP, _IPV6 = 0x0800, 0x0806, 0x8035, 0x86DD
_ETHERNET, _REQUEST, _REVERSE_REQUEST = 1, 1, 3
_EVERYBODY, _ALL_NODES_MAC = b"\xff" * 6, b"\x33\x33\0\0\0\1"
_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ICMP6, _NEIGHBOUR_ADVERTISEMENT, _OVERRIDE, _TARGET_LINK_LAYER_ADDRESS = 58, 136, 0x2000_0000, 2


def tell(namespace: int, arrived: Arrival) -> None:
    """Send them from the link, as far as it is so: another container may have an address by now, or be of that name.

    `namespace` is a descriptor. Raises OSError, ProcessLookupError among others.
    """
    with NetlinkSocket(open_netlink(namespace)) as within:
        link = rtnetlink_dumps.find_link(within, arrived.link)
        if link is None or link.mac != arrived.mac:
            return
        present = {each.address for each in rtnetlink_dumps.global_addresses_of(within, link.index)}
    still_there = tuple(each for each in arrived.addresses if each in present)
    if arrived.addresses and not still_there:
        return
    truth = msgspec.structs.replace(arrived, addresses=still_there)

    def send() -> None:
        # Without a protocol it receives nothing.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind((arrived.link, 0))
            for frame in frames(truth):
                sender.send(frame)

    inside(namespace, send)


def frames(arrived: Arrival) -> Iterator[bytes]:
    """The frames, each with its Ethernet header."""
    mac = mac_bytes(arrived.mac)
    yield _ethernet(_EVERYBODY, mac, _RARP) + _arp(_REVERSE_REQUEST, mac, b"\0" * 4, mac)
    for each in arrived.addresses:
        if each.version == 4:
            yield _ethernet(_EVERYBODY, mac, _ARP) + _arp(_REQUEST, mac, each.packed, b"\0" * 6)
        else:
            yield _ethernet(_ALL_NODES_MAC, mac, _IPV6) + _advertisement(mac, each)


def _ethernet(target: bytes, source: bytes, kind: int) -> bytes:
    return target + source + struct.pack("!H", kind)


def _arp(operation: int, mac: bytes, address: bytes, target_mac: bytes) -> bytes:
    head = struct.pack("!HHBBH", _ETHERNET, _IPV4, len(mac), len(address), operation)
    return head + mac + address + target_mac + address


def _advertisement(mac: bytes, address: Address) -> bytes:
    body = struct.pack("!I", _OVERRIDE) + address.packed + struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + mac
    message = struct.pack("!BBH", _NEIGHBOUR_ADVERTISEMENT, 0, 0) + body
    pseudo_header = address.packed + _ALL_NODES + struct.pack("!II", len(message), _ICMP6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo_header + message)) + message[4:]
    # Neighbours take one only with the largest hop limit: then it is of their own link.
    return struct.pack("!IHBB", 6 << 28, len(message), _ICMP6, 255) + address.packed + _ALL_NODES + message


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of octets."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
