"""Ethernet frames made by hand, sent and seen inside other network namespaces.

A guest's root can put any bytes on its link. These functions do as it would, from a socket that is opened in the
guest's network namespace and closed again.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from patience import Patience

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3

IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ICMP, UDP, FRAGMENT, NO_NEXT, ICMP6 = 1, 17, 44, 59, 58
HOP_BY_HOP, DESTINATION_OPTIONS = 0, 60
BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"

_libc = ctypes.CDLL(None, use_errno=True)


def in_namespace_of(pid: int, action: Callable[[], T]) -> T:
    """Run something in the network namespace of a process, in a thread that ends with it."""
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            results.append(action())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def send_frames(pid: int, device: str, frames: Iterable[bytes]) -> None:
    """Put frames on a link of the namespace that a process is in."""
    with in_namespace_of(pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
        sender.bind((device, 0))
        for frame in frames:
            sender.send(frame)


class Seen(NamedTuple):
    """One frame that came in: the parts that tests ask for."""

    source_mac: str
    target_mac: str
    ether_type: int
    hops: int
    source: str
    target: str
    payload: bytes


class Sniffer:
    """Listens on a link for frames that come in. The kernel keeps them until they are asked for."""

    def __init__(self, pid: int, device: str) -> None:
        def listen() -> socket.socket:
            # Without a protocol nothing is taken in before the socket is bound to the one link.
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            opened.bind((device, _ETH_P_ALL))
            return opened

        self._socket = in_namespace_of(pid, listen)

    def seen(self, *, until: Callable[[Seen], bool], seconds: float = 5.0) -> list[Seen]:
        """All frames up to one that is waited for. Raises AssertionError when that does not come."""
        found: list[Seen] = []
        patience = Patience(seconds)
        while not found or not until(found[-1]):
            ready, _, _ = select.select([self._socket], [], [], patience.left)
            if not ready and not patience.is_over:
                continue
            assert ready, f"the frame that was waited for did not come among {found}"
            data, about = self._socket.recvfrom(65536)
            if about[2] != socket.PACKET_OUTGOING:
                found.append(_parse(data))
        return found

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def sniff(pid: int, device: str) -> Iterator[Sniffer]:
    sniffer = Sniffer(pid, device)
    try:
        yield sniffer
    finally:
        sniffer.close()


def _parse(frame: bytes) -> Seen:
    kind = int.from_bytes(frame[12:14])
    macs = (_mac_text(frame[6:12]), _mac_text(frame[0:6]))
    packet = frame[14:]
    if kind == IPV4:
        source, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
        return Seen(*macs, kind, packet[8], source, target, packet[20:])
    if kind == IPV6:
        source, target = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
        return Seen(*macs, kind, packet[7], source, target, packet[40:])
    return Seen(*macs, kind, 0, "", "", packet)


# --- frames --------------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """Where a guest's frames come from and go to."""

    own_mac: str
    host_mac: str

    def frame(self, packet: bytes) -> bytes:
        """A packet on its way to the host."""
        return ethernet(self.host_mac, self.own_mac, IPV6 if packet[0] >> 4 == 6 else IPV4, packet)


def ethernet(target: str, source: str, kind: int, payload: bytes) -> bytes:
    return _mac(target) + _mac(source) + struct.pack("!H", kind) + payload


def tagged(target: str, source: str, packet: bytes, *, vlan: int) -> bytes:
    kind = IPV6 if packet[0] >> 4 == 6 else IPV4
    return ethernet(target, source, VLAN, struct.pack("!HH", vlan, kind) + packet)


def udp(source: str, target: str, *, data: bytes = b"x", hops: int = 64, port: int = 9) -> bytes:
    """A datagram to the discard port; its data tell packets of a test apart."""
    length = 8 + len(data)
    head = struct.pack("!HHHH", 40000, port, length, 0)
    check = checksum(_pseudo_header(source, target, UDP, length) + head + data)
    return packet(source, target, UDP, head[:6] + struct.pack("!H", check or 0xFFFF) + data, hops=hops)


def packet(source: str, target: str, protocol: int, payload: bytes, *, hops: int = 64, fragment: int = 0) -> bytes:
    """An IP packet of the addresses' version. `fragment`: the 16 bits of IPv4's flags and offset."""
    if ":" in source:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops)
        return head + _packed(source) + _packed(target) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 4711, fragment, hops, protocol, 0)
    head += _packed(source) + _packed(target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def fragments(source: str, target: str, *, data: bytes) -> tuple[bytes, bytes]:
    """One datagram in two fragments; the second one has no transport header."""
    whole = udp(source, target, data=data)
    if ":" in source:
        payload = whole[40:]

        def piece(offset: int, part: bytes, *, more: bool) -> bytes:
            return packet(source, target, FRAGMENT, struct.pack("!BBHI", UDP, 0, offset | more, 4711) + part)

        return piece(0, payload[:16], more=True), piece(16, payload[16:], more=False)
    payload = whole[20:]
    first = packet(source, target, UDP, payload[:16], fragment=0x2000)
    return first, packet(source, target, UDP, payload[16:], fragment=2)


def with_options(source: str, target: str, *, data: bytes, kinds: Iterable[int]) -> bytes:
    """An IPv6 datagram behind extension headers, each with nothing but padding."""
    payload, following = udp(source, target, data=data)[40:], UDP
    for kind in reversed(list(kinds)):
        payload, following = struct.pack("!BB6s", following, 0, b"\x01\x04\0\0\0\0") + payload, kind
    return packet(source, target, following, payload)


def arp_request(source_mac: str, source: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + _mac(source_mac) + _packed(source) + bytes(6) + _packed(target)
    return ethernet(BROADCAST_MAC, source_mac, ARP, body)


def icmp6(source: str, target: str, kind: int, body: bytes, *, hops: int = 255, code: int = 0) -> bytes:
    """`body` follows type, code and checksum."""
    message = struct.pack("!BBH", kind, code, 0) + body
    check = checksum(_pseudo_header(source, target, ICMP6, len(message)) + message)
    return packet(source, target, ICMP6, message[:2] + struct.pack("!H", check) + message[4:], hops=hops)


def neighbour_solicitation(source_mac: str, source: str, target: str, *, to: str | None = None) -> bytes:
    body = bytes(4) + _packed(target) + b"\x01\x01" + _mac(source_mac)
    return icmp6(source, to or solicited_node(target), 135, body)


def neighbour_advertisement(source_mac: str, source: str, target: str, *, to: str) -> bytes:
    body = struct.pack("!I", 0x20000000) + _packed(target) + b"\x02\x01" + _mac(source_mac)
    return icmp6(source, to, 136, body)


def router_solicitation(source_mac: str, source: str) -> bytes:
    return icmp6(source, "ff02::2", 133, bytes(4) + b"\x01\x01" + _mac(source_mac))


def router_advertisement(source_mac: str, source: str, prefix: str) -> bytes:
    """One that offers itself as a router for 30 minutes, and a prefix to make addresses of."""
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\x01\x01" + _mac(source_mac)
    body += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + _packed(prefix)
    return icmp6(source, "ff02::1", 134, body)


def solicited_node(target: str) -> str:
    low = int(ipaddress.IPv6Address(target)) & 0xFFFFFF
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | low))


def multicast_mac(target: str) -> str:
    return _mac_text(b"\x33\x33" + _packed(target)[-4:])


def _pseudo_header(source: str, target: str, protocol: int, length: int) -> bytes:
    if ":" in source:
        return _packed(source) + _packed(target) + struct.pack("!II", length, protocol)
    return _packed(source) + _packed(target) + struct.pack("!HH", protocol, length)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _mac_text(data: bytes) -> str:
    return data.hex(":")
