"""What a network namespace holds, as sorted lines: an eye of its own, quick enough to look after every command.

It asks the kernel by rtnetlink dumps and shares no code with the daemon; `lines_of_iproute2` says the same by
`ip -j`, so that the one can be held against the other. What the kernel makes by itself at a time of its own (IPv6
link-local addresses, IPv6 routes of addresses) and the loopback link are left out.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

# linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h
_NEWLINK, _GETLINK, _GETADDR, _GETROUTE, _GETNEIGH = 16, 18, 22, 26, 30
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_IFF_UP = 1
_CLONED = 0x200
_MAIN = 254
_PERMANENT = 0x80
_UNICAST = 1
_PROTOCOL_KERNEL = 2
_INET, _INET6 = 2, 10
_BITS = {_INET: 32, _INET6: 128}
_NO_STATISTICS = struct.pack("=HHI", 8, 29, 8)  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS

_REQUESTS = (
    (_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _NO_STATISTICS),
    (_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)),
    (_GETROUTE, struct.pack("=BBBBBBBBI", _INET, 0, 0, 0, 0, 0, 0, 0, 0)),
    (_GETROUTE, struct.pack("=BBBBBBBBI", _INET6, 0, 0, 0, 0, 0, 0, 0, 0)),
    (_GETNEIGH, struct.pack("=BxHiHBB", 0, 0, 0, 0, 0, 0)),
)


def within(path: str, work: Callable[[], T]) -> T:
    """Do something in the network namespace that a file stands for, in a thread that ends with it."""
    results: list[T] = []
    failures: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {path}")
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the test
            failures.append(error)

    thread = threading.Thread(target=enter_and_work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


class Eye:
    """Looks into one namespace. Its socket keeps the namespace alive: close it before a container shall end."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is a file: /run/netns/NAME or /proc/PID/ns/net."""
        self._socket = within(namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def lines(self) -> list[str]:
        """All links, addresses, routes of the main table and permanent neighbours."""
        names: dict[int, str] = {}
        lines: list[str] = []
        order: dict[tuple[str, str], list[str]] = {}
        for request, body in _REQUESTS:
            for message in self._dump(request, body):
                if request == _GETLINK:
                    lines += _link(message, names)
                elif request == _GETADDR:
                    lines += _address(message, names, order)
                elif request == _GETROUTE:
                    lines += _route(message, names)
                else:
                    lines += _neighbour(message, names)
        lines += order_lines(order)
        return sorted(lines)

    def _dump(self, request: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), request, _REQUEST_DUMP, self._sequence, 0)
        self._socket.send(header + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at < len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, at)
                if sequence == self._sequence:
                    if kind == _DONE:
                        return iter(found)
                    if kind == _ERROR:
                        raise OSError(-struct.unpack_from("=i", data, at + 16)[0], f"dump {request}")
                    found.append(data[at + 16 : at + length])
                at += length + 3 & ~3


def _attributes(data: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def _text(family: int, packed: bytes) -> str:
    return socket.inet_ntop(family, packed)


def _number(packed: bytes | None) -> int:
    return int.from_bytes(packed or b"", "little")


def _link(message: bytes, names: dict[int, str]) -> list[str]:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", message)
    each = _attributes(message, 16)
    name = names[index] = each[3].rstrip(b"\0").decode()
    if name == "lo":
        return []
    return [link_line(name, mac=each[1].hex(":"), mtu=_number(each[4]), group=_number(each[27]), up=flags & _IFF_UP)]


def _address(message: bytes, names: dict[int, str], order: dict[tuple[str, str], list[str]]) -> list[str]:
    family, length, _, _, index = struct.unpack_from("=BBBBi", message)
    name = names.get(index, "?")
    each = _attributes(message, 8)
    packed = each.get(2) or each[1]
    if name == "lo":
        return []
    text = _text(family, packed)
    if family == _INET6 and text.startswith("fe80:") and text != "fe80::1":
        return []
    if family == _INET:
        number = int.from_bytes(packed) >> 32 - length << 32 - length
        order.setdefault((name, f"{_text(family, number.to_bytes(4))}/{length}"), []).append(text)
    broadcast = _text(family, each[4]) if 4 in each and family == _INET else None
    return [address_line(name, f"{text}/{length}", broadcast)]


def _route(message: bytes, names: dict[int, str]) -> list[str]:
    family, length, _, _, table, protocol, _, kind, flags = struct.unpack_from("=BBBBBBBBI", message)
    if table != _MAIN or flags & _CLONED or (family == _INET6 and protocol == _PROTOCOL_KERNEL):
        return []
    each = _attributes(message, 12)
    network = _text(family, each.get(1, bytes(_BITS[family] // 8)))
    return [
        route_line(
            f"{network}/{length}",
            kind=kind,
            gateway=_text(family, each[5]) if 5 in each else None,
            device=names.get(_number(each.get(4)), "?"),
            protocol=protocol,
            metric=_number(each.get(6)),
            source=_text(family, each[7]) if 7 in each else None,
        )
    ]


def _neighbour(message: bytes, names: dict[int, str]) -> list[str]:
    family, index, state, _, _ = struct.unpack_from("=BxxxiHBB", message)
    if not state & _PERMANENT or family not in _BITS:
        return []
    each = _attributes(message, 12)
    return [neighbour_line(names.get(index, "?"), _text(family, each[1]), each.get(2, b"").hex(":"))]


# --- the lines ---------------------------------------------------------------------------------------------------


def link_line(name: str, *, mac: str, mtu: int, group: int, up: object) -> str:
    return f"link {name} {mac} mtu {mtu} group {group} {'up' if up else 'down'}"


def address_line(link: str, address: str, broadcast: str | None) -> str:
    return f"address {link} {address}" + (f" brd {broadcast}" if broadcast else "")


def order_lines(order: dict[tuple[str, str], list[str]]) -> list[str]:
    """The order of the IPv4 addresses of one subnet; the kernel keeps no other."""
    return [f"order {link} {network}: {' '.join(all_)}" for (link, network), all_ in order.items() if len(all_) > 1]


def route_line(
    network: str,
    *,
    kind: int = _UNICAST,
    gateway: str | None = None,
    device: str,
    protocol: int,
    metric: int = 0,
    source: str | None = None,
) -> str:
    line = f"route {network}" + (f" via {gateway}" if gateway else "") + f" dev {device} proto {protocol}"
    line += f" metric {metric}" if metric else ""
    line += f" src {source}" if source else ""
    return line if kind == _UNICAST else f"{line} type {kind}"


def neighbour_line(link: str, address: str, mac: str) -> str:
    return f"neighbour {link} {address} {mac}"


# --- the other witness -------------------------------------------------------------------------------------------


def lines_of_iproute2(namespace: str) -> list[str]:
    """The same lines, from what `ip -j` says."""

    def ask(*words: str) -> list[dict[str, Any]]:
        # `-N`: protocols as numbers, whatever names the machine has for them.
        argv = ["nsenter", f"--net={namespace}", "ip", "-N", "-j", "-details", *words]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return [each for each in json.loads(text or "[]") if each]

    lines = []
    order: dict[tuple[str, str], list[str]] = {}
    for each in ask("link", "show"):
        if each["ifname"] != "lo":
            group = 0 if each["group"] == "default" else int(each["group"])
            lines.append(
                link_line(each["ifname"], mac=each["address"], mtu=each["mtu"], group=group, up="UP" in each["flags"])
            )
    for link in ask("addr", "show"):
        for each in link["addr_info"]:
            text = each.get("local", "")
            if link["ifname"] == "lo" or (text.startswith("fe80:") and text != "fe80::1"):
                continue
            if each["family"] == "inet":
                subnet = ipaddress.ip_interface(f"{text}/{each['prefixlen']}").network
                order.setdefault((link["ifname"], str(subnet)), []).append(text)
            lines.append(address_line(link["ifname"], f"{text}/{each['prefixlen']}", each.get("broadcast")))
    for option in ("-4", "-6"):
        for each in ask(option, "route", "show"):
            protocol = int(each["protocol"])
            if option == "-6" and protocol == _PROTOCOL_KERNEL:
                continue
            network = "0.0.0.0/0" if option == "-4" else "::/0"
            if each["dst"] != "default":
                network = str(ipaddress.ip_network(each["dst"]))
            lines.append(
                route_line(
                    network,
                    gateway=each.get("gateway"),
                    device=each["dev"],
                    protocol=protocol,
                    metric=each.get("metric", 0),
                    source=each.get("prefsrc"),
                )
            )
        lines += [
            neighbour_line(each["dev"], each["dst"], each.get("lladdr", ""))
            for each in ask(option, "neigh", "show", "nud", "permanent")
        ]
    return sorted([*lines, *order_lines(order)])


def differences_of(expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """One line for each that is missing (-) or too many (+)."""
    missing, surplus = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    return [*(f"- {each}" for each in missing.elements()), *(f"+ {each}" for each in surplus.elements())]
