"""iptables where it is not kept in nftables: its chain FORWARD, read from the kernel without running a program.

Layouts are those of linux/include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h and
netfilter/x_tables.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from osctld.core.health.facts import LegacyForwarding

_libc = ctypes.CDLL(None, use_errno=True)

#: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, the same for both versions.
_GET_INFO, _GET_ENTRIES = 64, 65
_FORWARD = 2  # NF_INET_FORWARD
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo
_ENTRIES = struct.Struct("=32sI4x")  # struct ipt_get_entries up to the entries, which are aligned to 8
_TABLE = b"filter".ljust(32, b"\0")
_LINK = 16  # IFNAMSIZ
#: struct xt_standard_target: a header of 32 bytes with the name at 2, empty; then the verdict, -NF_... - 1.
_TARGET_NAME, _VERDICT = 2, 32
_VERDICTS = {-1: "DROP", -2: "ACCEPT"}


class _Layout(NamedTuple):
    """Where things are in an entry: bytes of addresses in front, of the match as a whole, of the entry's head."""

    family: int
    level: int
    tables: str
    addresses: int
    protocol: int
    offsets: int
    head: int


_LAYOUTS = {
    # struct ipt_entry: struct ipt_ip of 84 bytes, nfcache of 4, the two offsets; 112 in all.
    4: _Layout(socket.AF_INET, socket.IPPROTO_IP, "ip_tables_names", 16, 80, 88, 112),
    # struct ip6t_entry: struct ip6t_ip6 of 136 bytes (133 and padding), nfcache, the two offsets; 168 in all.
    6: _Layout(socket.AF_INET6, socket.IPPROTO_IPV6, "ip6_tables_names", 64, 128, 140, 168),
}


def legacy_forwarding() -> dict[int, LegacyForwarding]:
    """The chain by IP version; a version whose table is not in use is omitted."""
    found = {}
    for version, layout in _LAYOUTS.items():
        # To ask for a table that is not there would load it; the list is that of the caller's namespace.
        with contextlib.suppress(OSError):
            if "filter" in Path("/proc/thread-self/net", layout.tables).read_text().split():
                found[version] = _read(layout)
    return found


def _read(layout: _Layout) -> LegacyForwarding:
    with socket.socket(layout.family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as asking:
        info = _INFO.unpack(_get(asking, layout.level, _GET_INFO, _TABLE.ljust(_INFO.size, b"\0")))
        begin, end, size = info[2 + _FORWARD], info[7 + _FORWARD], info[13]
        answer = _get(asking, layout.level, _GET_ENTRIES, _ENTRIES.pack(_TABLE, size) + bytes(size))
    entries = answer[_ENTRIES.size :]
    accepted_in, accepted_out = [], []
    for position, target in _entries(entries, layout, begin=begin, end=end):
        # Without further matches the target follows the head; without addresses and protocol all are meant.
        is_plain = target == layout.head and not any(entries[position : position + layout.addresses])
        has_protocol = any(entries[position + layout.protocol : position + layout.protocol + 4])
        if not is_plain or has_protocol or _verdict(entries, position + target) != "ACCEPT":
            continue
        incoming, outgoing = _links(entries, position + layout.addresses)
        if incoming and not outgoing:
            accepted_in.append(incoming)
        elif outgoing and not incoming:
            accepted_out.append(outgoing)
    (target,) = struct.unpack_from("=H", entries, end + layout.offsets)
    return LegacyForwarding(_verdict(entries, end + target), tuple(accepted_in), tuple(accepted_out))


def _entries(entries: bytes, layout: _Layout, *, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The rules of a chain without its policy: where each is, and how far behind that its target."""
    position = begin
    while position < end:
        target, following = struct.unpack_from("=HH", entries, position + layout.offsets)
        yield position, target
        position += following


def _verdict(entries: bytes, target: int) -> str:
    if entries[target + _TARGET_NAME] != 0:  # a target with a name, like REJECT
        return ""
    return _VERDICTS.get(struct.unpack_from("=i", entries, target + _VERDICT)[0], "")


def _links(entries: bytes, position: int) -> tuple[str, str]:
    """The links that a rule names: in, out, and then a mask for each, without the final NUL for `name+`."""
    names = [entries[position + _LINK * index : position + _LINK * (index + 1)] for index in range(4)]
    found = []
    for name, mask in zip(names[:2], names[2:], strict=True):
        text = name.rstrip(b"\0").decode("ascii", "replace")
        is_beginning = len(mask.rstrip(b"\0")) == len(text)
        found.append(f"{text}+" if text and is_beginning else text)
    return found[0], found[1]


def _get(asking: socket.socket, level: int, option: int, request: bytes) -> bytes:
    """getsockopt(2) with a request in the buffer that the answer replaces, which Python's own does not do."""
    buffer = ctypes.create_string_buffer(request, len(request))
    length = ctypes.c_uint32(len(request))
    status = _libc.getsockopt(asking.fileno(), level, option, buffer, ctypes.byref(length))
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer.raw
