"""What a container says on its link alone, and errors that it sends from there: let through at full speed, and no more.

Everything here is sent and received by sockets of network namespaces, or put on a link byte by byte.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence

import pytest

from kernel.container_objects import GUEST, HOST_LINK
from kernel.counters import counted
from kernel.network_namespaces import Host, until
from kernel.routed_guest import GUEST_END, HOST_END, OUTSIDE, configure, interface, private_guest_and_world
from osctld.core.plan.kernel_state import HOST, Namespace, guest
from osctld.shell.kernel.port import Kernel
from whole import packets

pytestmark = pytest.mark.requires_kernel("nftables fib")

OTHER_LINK = "osweb01-eth1"
WORLD, INNER = guest("world"), guest("inner")
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
OSPF = 89
OSPF_ROUTERS = {4: "224.0.0.5", 6: "ff02::5"}
ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
#: So many the host may have at once of one link: those that are new to it, and what asks from other addresses.
REMEMBERED = 8
#: Beside these, one more in so many seconds.
ONE_MORE = 30
#: A known address is forgotten when it was silent for two minutes; on a slow machine a flood takes as long. So it
#: speaks once in so many packets.
SPEAKS_EVERY = 1000


def two_links(host: Host, kernel: Kernel) -> packets.Link:
    """A guest with two links and a link-local address on each; where frames of the first go."""
    configure(kernel, host, interface(0), interface(1))
    # It asks for no router, which would be counted.
    host.run("sysctl -w net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth1.accept_ra=0", GUEST)
    for link in ("eth0", "eth1"):
        host.run(f"ip addr add fe80::2/64 dev {link} nodad", GUEST)
    return packets.Link(own_mac="02:00:00:00:00:02", host_mac="02:00:00:00:00:01")


def frames_from_guest(host: Host, frames: Iterable[bytes], link: str = "eth0") -> None:
    with host.within(GUEST, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
        sender.bind((link, 0))
        for each in frames:
            sender.send(each)


def listener(host: Host, namespace: Namespace, family: int, kind: int, protocol: int = 0) -> socket.socket:
    opened = host.within(namespace, lambda: socket.socket(family, kind, protocol))
    opened.settimeout(5)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return opened


def index(host: Host, namespace: Namespace, link: str) -> int:
    return host.within(namespace, lambda: socket.if_nametoindex(link))


def is_heard(listening: socket.socket, count: int) -> bool:
    """Whether so many packets come."""
    try:
        for _ in range(count):
            listening.recv(2048)
    except TimeoutError:
        return False
    return True


def is_heard_of(host: Host, listening: socket.socket, frames: Sequence[bytes]) -> bool:
    """Whether all of these come, behind all that is there already."""
    while select.select([listening], [], [], 0)[0]:
        listening.recv(2048)
    frames_from_guest(host, frames)
    return is_heard(listening, len(frames))


# --- on the link ---------------------------------------------------------------------------------------------------


def test_a_session_between_link_local_addresses_runs_at_full_speed_both_ways(host: Host, kernel: Kernel) -> None:
    two_links(host, kernel)
    data = bytes(2_000_000)

    with listener(host, HOST, socket.AF_INET6, socket.SOCK_STREAM) as server:
        server.bind(("fe80::1", 179, 0, index(host, HOST, HOST_LINK)))
        server.listen()
        with listener(host, GUEST, socket.AF_INET6, socket.SOCK_STREAM) as client:
            began = time.monotonic()
            client.connect(("fe80::1", 179, 0, index(host, GUEST, "eth0")))
            session, (peer, *_) = server.accept()
            with session:
                session.settimeout(5)
                for sender, receiver in ((client, session), (session, client)):
                    sender.setblocking(True)
                    sending = threading.Thread(target=sender.sendall, args=(data,))
                    sending.start()
                    received = 0
                    while received < len(data):
                        received += len(receiver.recv(1 << 16))
                    sending.join()
            took = time.monotonic() - began

    assert _same(peer.partition("%")[0], "fe80::2")
    assert took < 5  # at one packet a second it takes an hour
    assert counted() == {}


@pytest.mark.parametrize("version", [4, 6])
def test_a_routing_protocol_is_heard_as_often_as_it_speaks(host: Host, kernel: Kernel, version: int) -> None:
    two_links(host, kernel)
    group = OSPF_ROUTERS[version]

    with listener(host, HOST, FAMILY[version], socket.SOCK_RAW, OSPF) as hearing:
        number = index(host, HOST, HOST_LINK)
        packed = ipaddress.ip_address(group).packed
        if version == 4:
            membership = packed + bytes(4) + struct.pack("=I", number)
            hearing.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        else:
            hearing.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("=I", number))
        with listener(host, GUEST, FAMILY[version], socket.SOCK_RAW, OSPF) as speaking:
            speaking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            for _ in range(300):
                speaking.sendto(b"hello", (group, 0) if version == 4 else (group, 0, 0, index(host, GUEST, "eth0")))
        assert is_heard(hearing, 300)

    assert counted() == {}


def neighbours_on(host: Host, link: str) -> set[str]:
    return {each["dst"] for each in host.ip(f"neigh show dev {link}") if "PERMANENT" not in each["state"]}


def test_from_very_many_link_local_addresses_the_host_remembers_a_few_and_counts_the_rest(
    host: Host, kernel: Kernel
) -> None:
    link = two_links(host, kernel)

    def flood() -> Iterable[bytes]:
        for number in range(65_000):
            if number % SPEAKS_EVERY == 0:
                yield speak
            address = f"fe80::{number >> 16:x}:{(number & 0xFFFF) + 16:x}"
            yield link.frame(packets.neighbour_solicitation(link.own_mac, address, "fe80::1", to="fe80::1"))

    with listener(host, HOST, socket.AF_INET6, socket.SOCK_DGRAM) as hearing:
        hearing.bind(("fe80::1", 4000, 0, index(host, HOST, HOST_LINK)))
        speak = link.frame(packets.udp("fe80::2", "fe80::1", port=4000))
        frames_from_guest(host, [speak])
        assert is_heard(hearing, 1)

        began = time.monotonic()
        frames_from_guest(host, flood())
        most = REMEMBERED + int((time.monotonic() - began) / ONE_MORE)

        # Who was known before is heard all the same, and the other link has its own measure.
        assert is_heard_of(host, hearing, [speak] * 100)
    with listener(host, HOST, socket.AF_INET6, socket.SOCK_DGRAM) as hearing:
        hearing.bind(("fe80::1", 4000, 0, index(host, HOST, OTHER_LINK)))
        other = packets.Link(own_mac="02:00:00:00:01:02", host_mac="02:00:00:00:01:01")
        frames_from_guest(host, [other.frame(packets.udp("fe80::2", "fe80::1", port=4000))] * 100, "eth1")
        assert is_heard(hearing, 100)
    assert len(neighbours_on(host, HOST_LINK)) <= most
    seen = counted()
    assert seen.keys() == {HOST_LINK}
    assert seen[HOST_LINK].keys() == {"limited"}
    assert seen[HOST_LINK]["limited"] >= 65_000 - most
    assert kernel.counted_of(HOST_LINK) == seen[HOST_LINK]


@pytest.mark.parametrize("source", ["fe80::2", "routed", "from each its own"])
def test_to_very_many_link_local_addresses_the_host_sends_nothing_and_remembers_none(
    host: Host, kernel: Kernel, source: str
) -> None:
    link = two_links(host, kernel)
    speak = link.frame(packets.udp("fe80::2", "fe80::1", port=4000))
    frames_from_guest(host, [speak])
    before = neighbours_on(host, HOST_LINK)

    def flood() -> Iterable[bytes]:
        for number in range(65_000):
            if number % SPEAKS_EVERY == 0:
                yield speak
            target = f"fe80::{number >> 16:x}:{(number & 0xFFFF) + 16:x}"
            own = {"fe80::2": "fe80::2", "routed": GUEST_END[6].format(0)}.get(source, f"fe80::5:{number + 16:x}")
            yield link.frame(packets.udp(own, target, port=4000))
            yield link.frame(packets.neighbour_solicitation(link.own_mac, own, target, to="fe80::1"))

    began = time.monotonic()
    frames_from_guest(host, flood())
    most = REMEMBERED + int((time.monotonic() - began) / ONE_MORE)

    # It goes through the same queue: what was not done by now is not done any more.
    with listener(host, HOST, socket.AF_INET6, socket.SOCK_DGRAM) as hearing:
        hearing.bind(("fe80::1", 4000, 0, index(host, HOST, HOST_LINK)))
        assert is_heard_of(host, hearing, [speak] * 100)
    assert len(neighbours_on(host, HOST_LINK) - before) <= most
    assert sum("INCOMPLETE" in each["state"] or "FAILED" in each["state"] for each in host.ip("neigh show")) <= most


def test_a_question_for_routers_makes_nobody_known_and_is_counted(host: Host, kernel: Kernel) -> None:
    link = two_links(host, kernel)

    frames_from_guest(host, [link.frame(packets.router_solicitation(link.own_mac, "fe80::2"))] * 3)

    assert counted() == {HOST_LINK: {"limited": 3}}
    assert neighbours_on(host, HOST_LINK) == set()


@pytest.mark.parametrize("version", [4, 6])
def test_who_asks_from_very_many_addresses_is_limited_and_that_is_counted(
    host: Host, kernel: Kernel, version: int
) -> None:
    link = two_links(host, kernel)
    host.run(f"ip -{version} route add {'10.6.0.0/16' if version == 4 else '2001:db8:6::/64'} "
             f"via {GUEST_END[version].format(0)} dev {HOST_LINK}")  # fmt: skip

    def question(number: int) -> bytes:
        if version == 4:
            return packets.arp_request(link.own_mac, f"10.6.{number >> 8}.{number & 255}", HOST_END[4].format(0))
        source = f"2001:db8:6::{number:x}"
        return link.frame(packets.neighbour_solicitation(link.own_mac, source, "fe80::1", to="fe80::1"))

    began = time.monotonic()
    frames_from_guest(host, map(question, range(1, 5000)))
    # Besides those at once, one a second is let through: on a slow machine seconds pass.
    took = time.monotonic() - began

    until(lambda: counted().get(HOST_LINK, {}).get("limited", 0) >= 4900 - took)
    assert len(neighbours_on(host, HOST_LINK)) <= 16 + took
    assert kernel.counted_of(HOST_LINK) == counted()[HOST_LINK]
    kernel.forget_counted([HOST_LINK])
    assert counted() == {}


# --- errors --------------------------------------------------------------------------------------------------------

BEHIND = {4: ("10.5.5.0/24", "10.5.5.5"), 6: ("2001:db8:55::/64", "2001:db8:55::5")}
NARROW = 1400
TOO_BIG = {4: f"Frag needed and DF set (mtu = {NARROW})", 6: f"Packet too big: mtu={NARROW}"}
EXCEEDED = {4: "Time to live exceeded", 6: "Time exceeded: Hop limit"}


def forwarding_guest(host: Host, version: int) -> str:
    """Networks behind a guest that has nothing but private addresses; one in them, by a narrow link."""
    network, address = BEHIND[version]
    host.run(f"ip -{version} route add {network} via {GUEST_END[version].format(0)} dev {HOST_LINK}")
    host.run("sysctl -w net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1", GUEST)
    with host.process_in(INNER) as pid:
        host.run(f"ip link add inner mtu {NARROW} type veth peer name eth0 mtu {NARROW} netns {pid}", GUEST)
    nodad = "nodad" if version == 6 else ""
    length = network.partition("/")[2]
    gateway = address[:-1] + "1"
    host.run("sysctl -w net.ipv6.conf.inner.accept_dad=0", GUEST)
    for namespace, link, own in ((GUEST, "inner", gateway), (INNER, "eth0", address)):
        host.run(f"ip addr add {own}/{length} dev {link} {nodad}", namespace)
        # Without a link-local address a link asks for no neighbour.
        host.run(f"ip addr add fe80::{1 if namespace == GUEST else 2}/64 dev {link} nodad", namespace)
        host.run(f"ip link set {link} up", namespace)
    host.run(f"ip -{version} route add default via {gateway}", INNER)
    until(lambda: " 0% packet loss" in ping(host, f"-W1 {address}"))
    return address


def ping(host: Host, words: str) -> str:
    return host.run(f"ping -n -c1 {words}", WORLD, check=False)


@pytest.mark.parametrize("version", [4, 6])
def test_errors_of_a_container_that_only_routes_reach_the_world(host: Host, kernel: Kernel, version: int) -> None:
    private_guest_and_world(host, kernel)
    address = forwarding_guest(host, version)

    too_big = ping(host, f"-W2 -M do -s 1440 {address}")
    exceeded = ping(host, f"-W2 -t 2 {address}")

    assert TOO_BIG[version] in too_big
    assert EXCEEDED[version] in exceeded
    own = ipaddress.ip_address(GUEST_END[version].format(0))
    assert all(f"From {own} " in each.replace(":icmp", " icmp") for each in (too_big, exceeded))
    assert counted() == {}


def icmp(version: int, kind: int, code: int, size: int = 36, *, fragment: int = 0, tail: bytes = b"") -> bytes:
    """An ICMP message from the private end of the guest to the world."""
    source, target = GUEST_END[version].format(0), OUTSIDE[version]
    if version == 6:
        return packets.icmp6(source, target, kind, bytes(size - 4) + tail, code=code)
    message = struct.pack("!BBH", kind, code, 0) + bytes(size - 4) + tail
    check = packets.checksum(message)
    return packets.packet(source, target, packets.ICMP, message[:2] + struct.pack("!H", check) + message[4:],
                          fragment=fragment)  # fmt: skip


PASSING = {4: [(3, 4), (11, 0), (11, 1), (12, 0)], 6: [(2, 0), (3, 0), (3, 1), (4, 0)]}
#: Echo, redirects, unreachable for other reasons, timestamps; solicitations and reports are not forwarded at all.
OTHERS = {
    4: [(0, 0), (8, 0), (5, 1), (3, 0), (3, 1), (3, 3), (3, 13), (13, 0)],
    6: [(1, 0), (1, 4), (128, 0), (129, 0)],
}


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_but_such_errors_leaves_a_private_network(host: Host, kernel: Kernel, version: int) -> None:
    private_guest_and_world(host, kernel)
    link = packets.Link(own_mac="02:00:00:00:00:02", host_mac="02:00:00:00:00:01")
    kind, code = PASSING[version][0]
    disguised = [icmp(version, kind, code, 1300)]
    if version == 4:
        disguised += [icmp(4, 3, 4, fragment=0x2000), icmp(4, 3, 4, fragment=0x0001)]
    else:
        whole = icmp(6, 2, 0)[40:]
        source, target = GUEST_END[6].format(0), OUTSIDE[6]
        for offset_and_more in (0x0001, 0x0008):
            header = struct.pack("!BBHI", packets.ICMP6, 0, offset_and_more, 4711)
            disguised.append(packets.packet(source, target, packets.FRAGMENT, header + whole))
    refused = [*(icmp(version, *each) for each in OTHERS[version]), *disguised]

    with listener(host, WORLD, FAMILY[version], socket.SOCK_RAW, ICMP[version]) as hearing:
        frames_from_guest(host, map(link.frame, refused))
        frames_from_guest(host, [link.frame(icmp(version, *each, tail=b"let through")) for each in PASSING[version]])
        heard = [_of_guest(hearing, version) for _ in PASSING[version]]

    # In order: nothing of the others came before, or in between.
    assert heard == PASSING[version]
    assert counted() == {HOST_LINK: {"rejected": len(refused)}}


def _same(one: str, other: str) -> bool:
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)


def _of_guest(hearing: socket.socket, version: int) -> tuple[int, int]:
    """Type and code of the next message that the guest sent."""
    while True:
        data, (source, *_) = hearing.recvfrom(2048)
        message = data[20:] if version == 4 else data
        if _same(source.partition("%")[0], GUEST_END[version].format(0)):
            return message[0], message[1]
