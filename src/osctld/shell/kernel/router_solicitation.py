"""Router solicitations (RFC 4861, 4.1) from the host's namespace, which make routers advertise at once."""

from __future__ import annotations

import fcntl
import socket
import struct

_SOLICITATION = struct.pack("!BBHI", 133, 0, 0, 0)  # the kernel adds the checksum
_SOURCE_LINK_ADDRESS = 1
_ALL_ROUTERS = "ff02::2"
#: linux/include/uapi/linux/{sockios,if_arp}.h; struct ifreq: a name of 16 bytes, then family and address.
_SIOCGIFHWADDR, _ARPHRD_ETHER = 0x8927, 1
_HARDWARE_ADDRESS = struct.Struct("=16xH6s16x")


def send(link: str) -> None:
    """Send one on a link. Raises OSError, also for one that is gone, down, or has no source address."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6) as sender:
        # Routers take it from their own link alone: no other hop limit can have come from there.
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        request = struct.pack("16s24x", link.encode(errors="surrogateescape"))
        hardware, address = _HARDWARE_ADDRESS.unpack(fcntl.ioctl(sender, _SIOCGIFHWADDR, request))
        option = struct.pack("!BB6s", _SOURCE_LINK_ADDRESS, 1, address) if hardware == _ARPHRD_ETHER else b""
        sender.sendto(_SOLICITATION + option, (_ALL_ROUTERS, 0, 0, socket.if_nametoindex(link)))
