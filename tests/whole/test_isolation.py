"""A container reaches others as a routed host does, and speaks with its own addresses only.

One host for the whole file. `web` has two interfaces and a routed network on each; `mail` has one.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from whole import packets
from whole.guest_packets import link_of, send
from whole.host import HOST_4, HOST_6, ROUTER_4, ROUTER_6, WORLD_4, WORLD_6, Capture, Topology, run, wait_until

WEB_VIA_4, WEB_VIA_6 = "10.100.10.100/30", "fd00:1::/126"
MAIL_4, MAIL_6 = "1.2.3.9", "2001:db8:2::9"
WORLD = {4: WORLD_4, 6: WORLD_6}
LINK_LOCAL = "fe80::bad"

#: What `web` may send from, on either interface.
OWN = {
    4: {"assigned": "1.2.3.4", "on the other interface": "1.2.3.5", "in a routed network": "10.5.5.77"},
    6: {
        "assigned": "2001:db8:2::4",
        "on the other interface": "2001:db8:2::5",
        "in a routed network": "2001:db8:2:5::77",
    },
}
#: What it may not: whose it is, and the address.
FORGED = {
    4: {
        "another container's": MAIL_4,
        "another container's link": "10.100.10.110",
        "the host's": HOST_4,
        "the router's": ROUTER_4,
        "nobody's": "203.0.113.77",
        "beside its own": "1.2.3.6",
        "loopback": "127.0.0.1",
        "multicast": "224.0.0.5",
        "broadcast": "255.255.255.255",
        "unspecified": "0.0.0.0",
        "its own link's host end": "10.100.10.101",
    },
    6: {
        "another container's": MAIL_6,
        "another container's link": "fd00:3::2",
        "the host's": HOST_6,
        "the router's": ROUTER_6,
        "nobody's": "2001:db8:dead::77",
        "beside its own": "2001:db8:2::6",
        "loopback": "::1",
        "multicast": "ff0e::5",
        "unspecified": "::",
        "its own link's host end": "fd00:1::1",
    },
}
#: What the kernel drops before any filter sees it (ip6_rcv_core in linux/net/ipv6/ip6_input.c).
SEEN_BY_NO_FILTER: dict[int, set[str]] = {4: set(), 6: {"loopback", "multicast"}}


@pytest.fixture(scope="module")
def webmail() -> Iterator[Topology]:
    """A host on which `web` and `mail` run, for all tests of the file."""
    with Topology() as topology:
        topology.new_container("web", via=[WEB_VIA_4, WEB_VIA_6], start=False)
        topology.osctl("ct", "netif", "ip", "add", "web", "eth0", OWN[4]["assigned"], OWN[6]["assigned"])
        topology.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64")
        two = ("--via", "10.100.10.104/30", "--via", "fd00:2::/126")
        topology.osctl("ct", "netif", "new", "routed", *two, "web", "eth1")
        others = [OWN[version]["on the other interface"] for version in (4, 6)]
        topology.osctl("ct", "netif", "ip", "add", "web", "eth1", *others)
        topology.osctl("ct", "start", "web")
        topology.new_container("mail", via=["10.100.10.108/30", "fd00:3::/126"], addresses=[MAIL_4, MAIL_6])
        yield topology


def dropped(host: Topology, name: str) -> dict[str, int]:
    """Packets per container and interface that nft counted in one of the sets of our table."""
    answer = json.loads(host.in_namespace(host.H, "nft", "-j", "list", "set", "inet", "osctl", name).stdout)
    (found,) = [each["set"] for each in answer["nftables"] if "set" in each]
    elements: Iterable[dict[str, Any]] = found.get("elem", ())
    return {each["elem"]["val"]: each["elem"]["counter"]["packets"] for each in elements}


def grown(host: Topology, name: str, before: dict[str, int]) -> dict[str, int]:
    return {
        link: count - before.get(link, 0) for link, count in dropped(host, name).items() if count != before.get(link, 0)
    }


def wait_for_world(host: Topology, capture: Capture, version: int) -> None:
    """A packet of our own that comes after all others: what has not been seen by now never comes."""
    mark = packets.udp(OWN[version]["assigned"], WORLD[version], port=7777)
    send(host, "web", "eth0", mark)
    capture.wait_for(rf"> {WORLD[version]}\.7777: ")


def sources_seen(capture: Capture, version: int) -> set[str]:
    found = set()
    for line in capture.lines:
        if f" > {WORLD[version]}." in line and ".7777:" not in line:
            found.add(line.split(f" > {WORLD[version]}.")[0].split()[-1].rpartition(".")[0])
    return found


@pytest.mark.parametrize("device", ["eth0", "eth1"])
@pytest.mark.parametrize("version", [4, 6])
def test_only_a_containers_own_sources_leave_the_host_and_others_are_counted_for_its_interface(
    webmail: Topology, version: int, device: str
) -> None:
    own, forged = OWN[version], FORGED[version]
    spoofed, bounced = dropped(webmail, "spoofed"), dropped(webmail, "bounced")
    veth = webmail.veth("web", device)

    with webmail.capture(webmail.R, "down0", "udp") as capture:
        for source in (*own.values(), *forged.values()):
            send(webmail, "web", device, *[packets.udp(source, WORLD[version])] * 3)
        wait_for_world(webmail, capture, version)
        seen = sources_seen(capture, version)

    assert seen == set(own.values())
    assert grown(webmail, "spoofed", spoofed) == {veth: 3 * (len(forged) - len(SEEN_BY_NO_FILTER[version]))}
    assert not grown(webmail, "bounced", bounced)


def test_a_container_with_one_interface_is_checked_as_well(webmail: Topology) -> None:
    veth = webmail.veth("mail")
    for version, own, foreign in ((4, MAIL_4, "1.2.3.4"), (6, MAIL_6, "2001:db8:2::4")):
        before = dropped(webmail, "spoofed")
        with webmail.capture(webmail.R, "down0", "udp") as capture:
            send(webmail, "mail", "eth0", packets.udp(foreign, WORLD[version]), packets.udp(own, WORLD[version]))
            wait_for_world(webmail, capture, version)
            seen = sources_seen(capture, version)

        assert seen == {own}
        assert grown(webmail, "spoofed", before) == {veth: 1}


def test_no_forged_source_reaches_another_container_or_the_host_itself(webmail: Topology) -> None:
    veth = webmail.veth("web")
    before = dropped(webmail, "spoofed")
    for version, target, forged in (
        (4, MAIL_4, ROUTER_4),
        (6, MAIL_6, ROUTER_6),
        (4, HOST_4, MAIL_4),
        (6, HOST_6, MAIL_6),
    ):
        with webmail.capture(webmail.H, "any", f"udp and port 7 and src host {forged}") as capture:
            send(webmail, "web", "eth0", packets.udp(forged, target, port=7))
            # One that is allowed, behind it.
            own = OWN[version]["assigned"]
            with packets.sniff(webmail.init_pid("mail"), "eth0") as sniffer:
                send(webmail, "web", "eth0", packets.udp(own, MAIL_4 if version == 4 else MAIL_6, port=7))
                frames = sniffer.seen(until=lambda seen, own=own: seen.source == own)  # type: ignore[misc]
            # tcpdump hears what comes in before any filter; nothing goes out.
            out = [line for line in capture.lines if " Out " in line]

        assert not [each for each in frames if each.source == forged]
        assert out == []
    assert grown(webmail, "spoofed", before) == {veth: 4}


@pytest.mark.parametrize("device", ["eth0", "eth1"])
def test_fragments_extension_headers_and_vlan_tags_hide_no_forged_source(webmail: Topology, device: str) -> None:
    def disguised(version: int, source: str) -> list[bytes]:
        target = WORLD[version]
        made = list(packets.fragments(source, target, data=bytes(64)))
        if version == 6:
            hop, end = packets.HOP_BY_HOP, packets.DESTINATION_OPTIONS
            made += [
                packets.with_options(source, target, data=b"x", kinds=each) for each in ([hop], [end], [hop, end, end])
            ]
            made.append(packets.packet(source, target, packets.NO_NEXT, b""))
            # The second fragment alone: no transport header anywhere.
            made.append(packets.fragments(source, target, data=bytes(64))[1])
        made.append(packets.fragments(source, target, data=bytes(64))[1])
        return made

    for version in (4, 6):
        before = dropped(webmail, "spoofed")
        forged = [FORGED[version][whose] for whose in ("another container's", "nobody's", "the router's")]
        link, count = link_of(webmail, "web", device), 0
        with webmail.capture(webmail.R, "down0") as capture:
            for source in forged:
                made = disguised(version, source)
                send(webmail, "web", device, *made)
                frames = [packets.tagged(link.host_mac, link.own_mac, each, vlan=7) for each in made]
                packets.send_frames(webmail.init_pid("web"), device, frames)
                count += len(made)
            # The same from an own source gets through, so that the test would see it.
            send(webmail, "web", device, *disguised(version, OWN[version]["on the other interface"]))
            wait_for_world(webmail, capture, version)
            lines = capture.lines

        for source in forged:
            assert not [line for line in lines if f" {source}" in line and f"> {WORLD[version]}" in line]
        assert any(
            f" {OWN[version]['on the other interface']}" in line and re.search("frag|ip-proto-17| udp$", line)
            for line in lines
        )
        assert grown(webmail, "spoofed", before) == {webmail.veth("web", device): count}


def test_sources_that_are_only_good_on_the_link_do_not_leave_it(webmail: Topology) -> None:
    link = link_of(webmail, "web", "eth0")
    broadcast = packets.ethernet(
        packets.BROADCAST_MAC, link.own_mac, packets.IPV4, packets.udp("0.0.0.0", "255.255.255.255", port=67)
    )
    solicitation = packets.neighbour_solicitation(link.own_mac, "::", "fe80::4711")
    with webmail.capture(webmail.R, "down0") as capture, packets.sniff(webmail.init_pid("mail"), "eth0") as sniffer:
        packets.send_frames(webmail.init_pid("web"), "eth0", [broadcast, link.frame(solicitation)])
        for target in (WORLD_6, ROUTER_6, MAIL_6, "2001:db8:1::99"):
            for source in (LINK_LOCAL, "::"):
                send(webmail, "web", "eth0", packets.udp(source, target), packets.icmp6(source, target, 128, bytes(8)))
        send(webmail, "web", "eth0", packets.udp(OWN[6]["assigned"], MAIL_6))
        frames = sniffer.seen(until=lambda seen: seen.source == OWN[6]["assigned"])
        wait_for_world(webmail, capture, 6)
        lines = capture.lines

    assert not [line for line in lines if LINK_LOCAL in line or " ::." in line or " :: >" in line or "0.0.0.0" in line]
    # A routing error that says so may come back to the sender; nothing of it reaches anybody else.
    assert [each.source for each in frames if each.ether_type == packets.IPV6] == [OWN[6]["assigned"]]


@pytest.mark.parametrize("version", [4, 6])
def test_one_container_reaches_another_through_the_host_as_routed_packets(webmail: Topology, version: int) -> None:
    target = MAIL_4 if version == 4 else MAIL_6
    there, here = link_of(webmail, "mail", "eth0"), link_of(webmail, "web", "eth0")
    assert webmail.guest_ping("web", target, count=1) == 1

    with packets.sniff(webmail.init_pid("mail"), "eth0") as sniffer:
        send(webmail, "web", "eth0", packets.udp(OWN[version]["assigned"], target, hops=64))
        seen = sniffer.seen(until=lambda each: each.source == OWN[version]["assigned"])[-1]

    assert seen.hops == 63
    assert seen.source_mac == there.host_mac
    assert seen.target_mac == there.own_mac
    # One hop too few: the host itself answers, so there is a hop.
    with packets.sniff(webmail.init_pid("web"), "eth0") as sniffer:
        send(webmail, "web", "eth0", packets.udp(OWN[version]["assigned"], target, hops=1))
        answer = sniffer.seen(until=lambda each: each.payload[:1] == (b"\x0b" if version == 4 else b"\x03"))[-1]
    assert answer.source_mac == here.host_mac


def test_nothing_that_a_container_shouts_is_heard_by_another(webmail: Topology) -> None:
    link, pid = link_of(webmail, "web", "eth0"), webmail.init_pid("web")
    own = {version: OWN[version]["assigned"] for version in (4, 6)}
    shouted = [
        packets.arp_request(link.own_mac, own[4], MAIL_4),
        packets.arp_request(link.own_mac, MAIL_4, MAIL_4),
        *(
            packets.ethernet(packets.BROADCAST_MAC, link.own_mac, packets.IPV4, packets.udp(own[4], target, port=67))
            for target in ("255.255.255.255", "10.100.10.111", "192.0.2.255")
        ),
        packets.ethernet("01:00:5e:00:00:fb", link.own_mac, packets.IPV4, packets.udp(own[4], "224.0.0.251")),
        *(
            packets.ethernet(packets.multicast_mac(target), link.own_mac, packets.IPV6, packets.udp(own[6], target))
            for target in ("ff02::fb", "ff02::1", "ff05::1:3")
        ),
        packets.ethernet(
            "33:33:ff:00:00:09",
            link.own_mac,
            packets.IPV6,
            packets.neighbour_solicitation(link.own_mac, own[6], MAIL_6),
        ),
        packets.ethernet(
            packets.multicast_mac("ff02::1"),
            link.own_mac,
            packets.IPV6,
            packets.router_advertisement(link.own_mac, LINK_LOCAL, "2001:db8:bad::"),
        ),
    ]

    with packets.sniff(webmail.init_pid("mail"), "eth0") as sniffer, packets.sniff(pid, "eth0") as answers:
        packets.send_frames(pid, "eth0", shouted * 5)
        send(
            webmail, "web", "eth0", packets.udp(own[4], MAIL_4, data=b"last"), packets.udp(own[6], MAIL_6, data=b"last")
        )
        heard = sniffer.seen(until=lambda each: each.source == own[6] and each.payload.endswith(b"last"))
        # The host answers for nobody else either.
        send(webmail, "web", "eth0", packets.udp(own[4], MAIL_4, hops=1))
        told = answers.seen(until=lambda each: each.payload[:1] == b"\x0b")

    foreign = [each for each in heard if each.source_mac != link_of(webmail, "mail", "eth0").host_mac]
    assert foreign == []
    assert [each for each in heard if each.source in own.values() and not each.payload.endswith(b"last")] == []
    assert [each for each in told if each.ether_type == packets.ARP] == []


def test_router_advertisements_and_redirects_of_a_container_change_nothing_on_the_host(webmail: Topology) -> None:
    link = link_of(webmail, "web", "eth0")
    before = webmail.kernel_state()
    to_all = packets.multicast_mac("ff02::1")
    advertisement = packets.router_advertisement(link.own_mac, LINK_LOCAL, "2001:db8:bad::")
    redirect = packets.icmp6("fd00:1::2", "fd00:1::1", 137, bytes(4) + 2 * ipaddress.IPv6Address("fd00:1::2").packed)
    old = packets.packet("10.100.10.102", "10.100.10.101", packets.ICMP, b"\x05\x01\0\0" + bytes(24))

    shouted = packets.ethernet(to_all, link.own_mac, packets.IPV6, advertisement)
    packets.send_frames(webmail.init_pid("web"), "eth0", [shouted, link.frame(redirect), link.frame(old)] * 3)
    assert webmail.guest_ping("web", "fd00:1::1", count=1) == 1

    assert webmail.kernel_state() == before


@pytest.mark.parametrize("device", ["eth0", "eth1"])
def test_a_packet_that_would_go_back_where_it_came_from_is_dropped_and_is_no_forgery(
    webmail: Topology, device: str
) -> None:
    spoofed, bounced = dropped(webmail, "spoofed"), dropped(webmail, "bounced")
    # What a forwarding guest does with a packet for an address of its routed network that it does not have: by its
    # default route it sends it back.
    for source, target in (
        (ROUTER_4, "10.5.5.99"),
        (WORLD_4, "10.5.5.98"),
        (OWN[4]["assigned"], "10.5.5.97"),
        (ROUTER_6, "2001:db8:2:5::99"),
        (MAIL_6, "2001:db8:2:5::98"),
        (OWN[6]["assigned"], "2001:db8:2:5::97"),
    ):
        with packets.sniff(webmail.init_pid("web"), "eth0") as sniffer:
            send(webmail, "web", device, *[packets.udp(source, target)] * 2)
            send(webmail, "mail", "eth0", packets.udp(MAIL_4, "10.5.5.1", data=b"last"))
            heard = sniffer.seen(until=lambda each: each.payload.endswith(b"last"))
        # From the other interface, a packet with an own source is just routed between the two.
        is_routed = device == "eth1" and source in (OWN[4]["assigned"], OWN[6]["assigned"])
        assert len([each for each in heard if each.target == target]) == (2 if is_routed else 0)

    assert not grown(webmail, "spoofed", spoofed)
    assert grown(webmail, "bounced", bounced) == {webmail.veth("web", device): 12 if device == "eth0" else 8}


@pytest.mark.parametrize("version", [4, 6])
def test_a_scan_of_a_routed_network_behind_a_forwarding_guest_does_not_loop(webmail: Topology, version: int) -> None:
    key = "net/ipv4/ip_forward" if version == 4 else "net/ipv6/conf/all/forwarding"
    webmail.guest("web", "sh", "-c", f"echo 1 >/proc/sys/{key}")
    spoofed, bounced = dropped(webmail, "spoofed"), dropped(webmail, "bounced")
    veth = webmail.veth("web")
    targets = [f"10.5.5.{n}" if version == 4 else f"2001:db8:2:5::{n:x}" for n in range(10, 30)]
    try:
        with webmail.capture(webmail.H, veth, "icmp or (icmp6 and ip6[40] = 128)") as capture:
            for target in targets:
                assert webmail.ping(webmail.R, target, count=1, seconds=0.01) == 0
            assert webmail.ping(webmail.R, OWN[version]["assigned"], count=1) == 1
            capture.wait_for(f"> {OWN[version]['assigned']}: ICMP.* request")
            lines = capture.lines
    finally:
        webmail.guest("web", "sh", "-c", f"echo 0 >/proc/sys/{key}")

    for target in targets:
        assert len([line for line in lines if f"> {target}: ICMP" in line and "request" in line]) <= 3
    assert not grown(webmail, "spoofed", spoofed)
    assert set(grown(webmail, "bounced", bounced)) == {veth}


def neighbours(host: Topology, *devices: str) -> list[dict[str, Any]]:
    return [each for each in host.ip_json(host.H, "neigh", "show") if each["dev"] in devices]


def test_the_hosts_neighbours_on_the_links_are_permanent_ones_only(webmail: Topology) -> None:
    own = {4: "1.2.3.40", 6: "2001:db8:2::40"}
    webmail.new_container("shop", via=["10.100.10.40/30", "fd00:4::/126"], addresses=[*own.values()], start=False)
    webmail.osctl("ct", "netif", "new", "routed", "--via", "10.0.0.0/24", "--via", "2001:db8:2:6::/64", "shop", "eth1")
    webmail.osctl("ct", "start", "shop")
    try:
        links = [webmail.veth("shop"), webmail.veth("shop", "eth1")]
        for version, target in ((4, MAIL_4), (6, MAIL_6)):
            assert webmail.ping(webmail.R, own[version]) == 3
            assert webmail.guest_ping("shop", target, count=1) == 1
            assert webmail.guest_ping("mail", own[version], count=1) == 1
            assert webmail.guest_ping("shop", WORLD[version], count=1) == 1
        for nobody in ("10.0.0.77", "2001:db8:2:6::77"):  # in a public via, and not in use
            assert webmail.ping(webmail.R, nobody, count=1, seconds=0.05) == 0

        found = neighbours(webmail, *links)
    finally:
        webmail.osctl("ct", "del", "-f", "shop")

    assert {tuple(each["state"]) for each in found} == {("PERMANENT",)}, found
    assert {each["dst"] for each in found} == {"10.100.10.42", "10.0.0.2", "fd00:4::2", "2001:db8:2:6::2"}


@pytest.mark.parametrize("device", ["eth0", "eth1"])
def test_a_flood_from_a_container_does_not_fill_the_hosts_neighbour_table(webmail: Topology, device: str) -> None:
    veth, link, pid = webmail.veth("web", device), link_of(webmail, "web", device), webmail.init_pid("web")
    chance = random.Random(4711)
    (end_4,) = [
        e["local"] for each in webmail.ip_json(webmail.H, "-4", "addr", "show", veth) for e in each["addr_info"]
    ]
    end_6 = "fd00:1::1" if device == "eth0" else "fd00:2::1"
    frames = []
    for number in range(500):
        mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        any_4 = str(ipaddress.IPv4Address(chance.randrange(1 << 24, 223 << 24)))
        routed_4, routed_6 = f"10.5.5.{number % 256}", f"2001:db8:2:5::{number:x}"
        local_6 = f"fe80::{number + 0x100:x}"
        frames += [packets.arp_request(mac, address, end_4) for address in (any_4, routed_4)]
        for address in (routed_6, local_6):
            for target in (end_6, "fe80::1"):
                frames.append(link.frame(packets.neighbour_solicitation(mac, address, target, to=target)))
                frames.append(link.frame(packets.neighbour_solicitation(mac, address, target)))
                frames.append(link.frame(packets.neighbour_advertisement(mac, address, address, to=target)))
            frames.append(link.frame(packets.router_solicitation(mac, address)))
            frames.append(link.frame(packets.icmp6(address, "fe80::1", 128, bytes(8), hops=64)))
            frames.append(link.frame(packets.udp(address, end_6, port=9)))
        frames.append(link.frame(packets.udp(routed_4, end_4, port=9)))
        frames.append(link.frame(packets.udp(OWN[6]["assigned"], local_6)))
    before = len(neighbours(webmail, veth))

    began = time.monotonic()
    packets.send_frames(pid, device, frames)
    assert webmail.guest_ping("mail", MAIL_4, count=1) == 1

    found = neighbours(webmail, veth)
    # What each of the three limits lets through at once, and what it lets through in the time that all this took:
    # questions by ARP, questions from other addresses, new link-local addresses.
    allowed = 5 + 5 + 4 + (1 + 1 + 1 / 30) * (time.monotonic() - began + 1)
    assert len(found) <= before + allowed, (len(found), before)
    assert webmail.guest_ping("web", WORLD_4, count=1) == 1
    assert webmail.guest_ping("web", WORLD_6, count=1) == 1


def test_a_guest_that_lost_its_permanent_neighbours_finds_the_host_again(webmail: Topology) -> None:
    webmail.guest("mail", "ip", "neigh", "flush", "dev", "eth0", "nud", "permanent", check=False)
    run(
        "nsenter", f"--net=/proc/{webmail.init_pid('mail')}/ns/net", "ip", "neigh", "flush", "dev", "eth0", "nud", "all"
    )

    wait_until(lambda: webmail.guest_ping("mail", WORLD_4, count=1) == 1, "IPv4 answers")
    wait_until(lambda: webmail.guest_ping("mail", WORLD_6, count=1) == 1, "IPv6 answers")
