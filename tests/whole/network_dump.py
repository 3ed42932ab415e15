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
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

# linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h
_NEWLINK, _GETLINK, _GETADDR, _GETROUTE, _GETNEIGH = 16, 18, 22, 26, 30
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_IFF_UP = 1
_CLONED = 0x200
_UNIVERSE, _DEPRECATED = 0, 0x20
_MAIN = 254
_PERMANENT = 0x80
_UNICAST = 1
_KINDS = {"blackhole": 6, "unreachable": 7, "prohibit": 8, "6": 6, "7": 7, "8": 8}
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


class _Told(NamedTuple):
    """What one message says. Addresses of IPv4 also say which subnet they are in, for their order in it."""

    line: str | None = None
    subnet: tuple[str, str] | None = None
    address: str = ""


class Eye:
    """Looks into one namespace. Its socket keeps the namespace alive: close it before a container shall end."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is a file: /run/netns/NAME or /proc/PID/ns/net."""
        self._socket = within(namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        self._sequence = 0
        self._links: list[bytes] = []
        self._names: dict[int, str] = {}
        self._known: dict[tuple[int, bytes], _Told] = {}

    def close(self) -> None:
        self._socket.close()

    def lines(self) -> list[str]:
        """All links, addresses, routes of the main table and permanent neighbours."""
        lines: list[str] = []
        order: dict[tuple[str, str], list[str]] = {}
        for request, body in _REQUESTS:
            messages = self._dump(request, body)
            if request == _GETLINK and messages != self._links:
                # All that a message's meaning depends on, beside the message: it need not be read a second time.
                self._links, self._names = messages, dict(map(_index_and_name, messages))
                self._known.clear()
            for message in messages:
                told = self._known.get((request, message))
                if told is None:
                    told = _READERS[request](message, self._names)
                    if request != _GETNEIGH:  # how long ago it was used is in it
                        self._known[request, message] = told
                if told.line is not None:
                    lines.append(told.line)
                if told.subnet is not None:
                    order.setdefault(told.subnet, []).append(told.address)
        lines += order_lines(order)
        return sorted(lines)

    def _dump(self, request: int, body: bytes) -> list[bytes]:
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
                        return found
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


def _index_and_name(message: bytes) -> tuple[int, str]:
    _, _, index, _, _ = struct.unpack_from("=BxHiII", message)
    return index, _attributes(message, 16)[3].rstrip(b"\0").decode()


def _link(message: bytes, names: dict[int, str]) -> _Told:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", message)
    each, name = _attributes(message, 16), names[index]
    if name == "lo":
        return _Told()
    mac, group = each[1].hex(":"), _number(each[27])
    return _Told(link_line(name, mac=mac, mtu=_number(each[4]), group=group, up=flags & _IFF_UP))


def _address(message: bytes, names: dict[int, str]) -> _Told:
    family, length, flags, scope, index = struct.unpack_from("=BBBBi", message)
    name = names.get(index, "?")
    each = _attributes(message, 8)
    packed = each.get(2) or each[1]
    text = _text(family, packed)
    if name == "lo" or (family == _INET6 and text.startswith("fe80:") and text != "fe80::1"):
        return _Told()
    if family == _INET6:
        return _Told(address_line(name, f"{text}/{length}", None, is_source=not flags & _DEPRECATED))
    broadcast = _text(family, each[4]) if 4 in each else None
    network = int.from_bytes(packed) >> 32 - length << 32 - length
    subnet = name, f"{_text(family, network.to_bytes(4))}/{length}"
    return _Told(address_line(name, f"{text}/{length}", broadcast, is_source=scope == _UNIVERSE), subnet, text)


def _route(message: bytes, names: dict[int, str]) -> _Told:
    family, length, _, _, table, protocol, _, kind, flags = struct.unpack_from("=BBBBBBBBI", message)
    if table != _MAIN or flags & _CLONED or (family == _INET6 and protocol == _PROTOCOL_KERNEL):
        return _Told()
    each = _attributes(message, 12)
    network = _text(family, each.get(1, bytes(_BITS[family] // 8)))
    return _Told(
        route_line(
            f"{network}/{length}",
            kind=kind,
            gateway=_text(family, each[5]) if 5 in each else None,
            device=names.get(_number(each.get(4)), "?"),
            protocol=protocol,
            metric=_number(each.get(6)),
            source=_text(family, each[7]) if 7 in each else None,
        )
    )


def _neighbour(message: bytes, names: dict[int, str]) -> _Told:
    family, index, state, _, _ = struct.unpack_from("=BxxxiHBB", message)
    if not state & _PERMANENT or family not in _BITS:
        return _Told()
    each = _attributes(message, 12)
    return _Told(neighbour_line(names.get(index, "?"), _text(family, each[1]), each.get(2, b"").hex(":")))


_READERS = {_GETLINK: _link, _GETADDR: _address, _GETROUTE: _route, _GETNEIGH: _neighbour}


# --- the lines ---------------------------------------------------------------------------------------------------


def link_line(name: str, *, mac: str, mtu: int, group: int, up: object) -> str:
    return f"link {name} {mac} mtu {mtu} group {group} {'up' if up else 'down'}"


def address_line(link: str, address: str, broadcast: str | None, *, is_source: object = True) -> str:
    """One that is no source has `scope link` in IPv4, and is deprecated in IPv6."""
    return f"address {link} {address}" + (f" brd {broadcast}" if broadcast else "") + ("" if is_source else " unchosen")


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

    def ask(*options: str, questions: str) -> Iterator[dict[str, Any]]:
        # `-N`: protocols as numbers, whatever names the machine has for them. What has nothing to tell says nothing at
        # all, so that it is the keys that say what an answer is about.
        argv = ["nsenter", f"--net={namespace}", "ip", "-N", "-j", "-details", *options, "-batch", "-"]
        text = subprocess.run(argv, input=questions, capture_output=True, text=True, check=True).stdout.lstrip()
        while text:
            answer, length = json.JSONDecoder().raw_decode(text)
            yield from filter(None, answer)
            text = text[length:].lstrip()

    lines: list[str] = []
    order: dict[tuple[str, str], list[str]] = {}
    for each in (
        *ask(questions="addr show\nroute show\nneigh show nud permanent\n"),
        *ask("-6", questions="route show\n"),
    ):
        if "addr_info" in each:
            lines += _link_of_iproute2(each, order)
        elif "state" in each:
            lines.append(neighbour_line(each["dev"], each["dst"], each.get("lladdr", "")))
        else:
            lines += _route_of_iproute2(each)
    return sorted([*lines, *order_lines(order)])


def _link_of_iproute2(link: dict[str, Any], order: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    name = link["ifname"]
    if name == "lo":
        return
    group = 0 if link["group"] == "default" else int(link["group"])
    yield link_line(name, mac=link["address"], mtu=link["mtu"], group=group, up="UP" in link["flags"])
    for each in link["addr_info"]:
        text = each.get("local", "")
        if text.startswith("fe80:") and text != "fe80::1":
            continue
        if each["family"] == "inet":
            subnet = ipaddress.ip_interface(f"{text}/{each['prefixlen']}").network
            order.setdefault((name, str(subnet)), []).append(text)
        is_source = each["scope"] in ("global", "0") if each["family"] == "inet" else not each.get("deprecated")
        yield address_line(name, f"{text}/{each['prefixlen']}", each.get("broadcast"), is_source=is_source)


def _route_of_iproute2(route: dict[str, Any]) -> Iterator[str]:
    protocol = int(route["protocol"])
    # Only the default route says nothing of its version; it has a gateway that does.
    network = "::/0" if ":" in route.get("gateway", "") else "0.0.0.0/0"
    if route["dst"] != "default":
        network = str(ipaddress.ip_network(route["dst"]))
    if ":" in network and protocol == _PROTOCOL_KERNEL:
        return
    yield route_line(
        network,
        kind=_KINDS.get(route.get("type", ""), _UNICAST),
        gateway=route.get("gateway"),
        device=route.get("dev", "?"),
        protocol=protocol,
        metric=route.get("metric", 0),
        source=route.get("prefsrc"),
    )


def differences_of(expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """One line for each that is missing (-) or too many (+)."""
    missing, surplus = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    return [*(f"- {each}" for each in missing.elements()), *(f"+ {each}" for each in surplus.elements())]
