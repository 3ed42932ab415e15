"""Interfaces and changes of them that make no sense, or are in somebody's way: refused, and nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from whole.host import Settled, Topology, wait_until

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

NEW = ("ct", "netif", "new", "routed")
SET = ("ct", "netif", "set")


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """A running `web` with both versions, a stopped `idle` without interface, for what must change nothing."""
    with Topology() as topology:
        topology.new_container(
            "web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "10.5.5.1/24", "2001:db8:2::4", "2001:db8:2:5::1/64"]
        )
        topology.new_container("wide", via=["10.0.0.0/24", "2001:db8:2:7::/64"], start=False)
        topology.new_container("idle", start=False)
        # A kernel that is still busy with itself would be taken for one that was changed.
        wait_until(
            lambda: (
                not any(
                    "tentative" in each for link in topology.guest_ip_json("web", "addr") for each in link["addr_info"]
                )
            ),
            "no tentative address in web",
        )
        yield Settled(topology, running=["web"])


@pytest.mark.parametrize(
    ("options", "quoted", "words"),
    [
        # too small
        (("--via", "10.7.0.0/32"), "10.7.0.0/32", "smaller than /31"),
        (("--via", "10.7.0.1"), "10.7.0.1/32", "smaller than /31"),
        (("--via", "fd00:7::/128"), "fd00:7::/128", "smaller than /127"),
        # ends: one without the other, equal, outside
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.9"), "10.7.0.9", "both host and container"),
        (("--via", "10.7.0.0/24", "--ct-addr", "10.7.0.9"), "10.7.0.9", "both host and container"),
        (("--via", "fd00:7::/64", "--host-addr", "fd00:7::9"), "fd00:7::9", "both host and container"),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.0.9", "--ct-addr", "10.7.0.9"),
            "10.7.0.9",
            "different addresses",
        ),
        (
            ("--via", "fd00:7::/64", "--host-addr", "fd00:7::9", "--ct-addr", "fd00:7:0::9"),
            "fd00:7::9",
            "different addresses",
        ),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.1.9", "--ct-addr", "10.7.0.9"),
            "10.7.1.9",
            "does not include host address",
        ),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.0.9", "--ct-addr", "10.7.1.9"),
            "10.7.1.9",
            "does not include container address",
        ),
        (
            ("--via", "fd00:7::/64", "--host-addr", "fd00:7::9", "--ct-addr", "fd00:8::9"),
            "fd00:8::9",
            "does not include container address",
        ),
        # network and broadcast address, subnet-router anycast
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.0", "--ct-addr", "10.7.0.9"), "10.7.0.0", "network address"),
        (("--via", "10.7.0.0/30", "--host-addr", "10.7.0.1", "--ct-addr", "10.7.0.3"), "10.7.0.3", "broadcast"),
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.255", "--ct-addr", "10.7.0.9"), "10.7.0.255", "broadcast"),
        (("--via", "fd00:7::/64", "--host-addr", "fd00:7::", "--ct-addr", "fd00:7::9"), "fd00:7::", "anycast"),
        (("--via", "fd00:7::/126", "--host-addr", "fd00:7::1", "--ct-addr", "fd00:7::"), "fd00:7::", "anycast"),
        # an end of a version without network
        (("--via", "10.7.0.0/24", "--host-addr", "fd00:9::9", "--ct-addr", "fd00:9::8"), "fd00:9::9", "no IPv6"),
        # twice
        (("--via", "10.7.0.0/24", "--via", "10.8.0.0/24"), "10.8.0.0/24", "already been set"),
        (("--via", "fd00:7::/64", "--via", "fd00:8::/64"), "fd00:8::/64", "already been set"),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.0.8", "--host-addr", "10.7.0.9", "--ct-addr", "10.7.0.7"),
            "10.7.0.9",
            "already been given",
        ),
        # not to be read
        (("--via", "bogus"), "bogus", "not an IP network"),
        (("--via", "10.7.0/24"), "10.7.0/24", "not an IP network"),
        (("--via", "10.7.0.0/33"), "10.7.0.0/33", ""),
        (("--via", "10.7.0.0/+24"), "10.7.0.0/+24", "not an IP network"),
        (("--via", "10.7.0.0/255.255.255.0"), "10.7.0.0/255.255.255.0", "not an IP network"),
        (("--via", "fd00:7::/129"), "fd00:7::/129", ""),
        (("--via", "fe80::1%eth0/64"), "fe80::1%eth0/64", "not an IP network"),
        (("--via", ""), "''", "not an IP network"),
        (("--via", "10.7.0.0/24", "--host-addr", "x", "--ct-addr", "10.7.0.9"), "'x'", "not an IP address"),
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.8", "--ct-addr", "10.7.0.300"), "10.7.0.300", "not an IP"),
        # never a network between two hosts
        (("--via", "0.0.0.0/0"), "0.0.0.0/0", ""),
        (("--via", "::/0"), "::/0", ""),
        (("--via", "127.0.0.0/30"), "127.0.0.0/30", "loopback"),
        (("--via", "224.0.0.0/30"), "224.0.0.0/30", "multicast"),
        (("--via", "255.255.255.252/30"), "255.255.255.252/30", ""),
        (("--via", "ff02::/64"), "ff02::/64", "multicast"),
        (("--via", "fe80::/64"), "fe80::/64", "link-local"),
        (("--via", "::ffff:10.7.0.0/120"), "::ffff:", "IPv4-mapped"),
        # held by others, or by the container itself
        (("--via", VIA_4), VIA_4, "eth0 of web"),
        (("--via", "10.100.0.0/16"), "10.100.0.0/16", "eth0 of web"),
        (("--via", VIA_6), VIA_6, "eth0 of web"),
        (("--via", "10.5.5.128/30"), "10.5.5.128/30", "eth0 of web"),
        (("--via", "1.2.3.0/24"), "1.2.3.0/24", "1.2.3.4"),
        (("--via", "10.0.0.4/30"), "10.0.0.4/30", "eth0 of wide"),
        (("--via", "2001:db8:2:7:8::/126"), "2001:db8:2:7:8::/126", "eth0 of wide"),
    ],
)
def test_a_via_that_makes_no_sense_is_refused(
    settled: Settled, options: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*NEW, *options, "idle", "eth0")

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("options", "quoted", "words"),
    [
        (("--via", "10.7.0.0/32"), "10.7.0.0/32", "smaller than /31"),
        (("--via", "10.7.0.0/24", "--via", "10.8.0.0/24"), "10.8.0.0/24", "already been set"),
        (("--host-addr", "10.100.10.102"), "10.100.10.102", "both host and container"),
        (("--ct-addr", "fd00:1::3"), "fd00:1::3", "both host and container"),
        (("--host-addr", "10.100.10.101", "--ct-addr", "10.100.10.103"), "10.100.10.103", "broadcast"),
        (("--host-addr", "10.100.10.101", "--ct-addr", "10.100.10.105"), "10.100.10.105", "does not include"),
        (("--host-addr", "fd00:1::", "--ct-addr", "fd00:1::1"), "fd00:1::", "anycast"),
        (("--via", "10.0.0.0/30"), "10.0.0.0/30", "eth0 of wide"),
        (("--via", "2001:db8:2::/48"), "2001:db8:2::/48", ""),
        # An end inside what is routed to the interface, or on an address that is assigned to it.
        (("--via", "10.5.5.8/30"), "10.5.5.8/30", "10.5.5.0/24"),
        (("--via", "1.2.3.0/24", "--host-addr", "1.2.3.4", "--ct-addr", "1.2.3.5"), "1.2.3.4", ""),
        (("--via", "1.2.3.4/30"), "1.2.3.4", "network address"),
        (("--via", "2001:db8:2::4/126"), "2001:db8:2::4", "anycast"),
    ],
)
def test_a_change_of_a_via_that_makes_no_sense_is_refused(
    settled: Settled, options: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*SET, *options, "web", "eth0")

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eth0", "already exists"),
        ("a234567890123456", "longer than 15"),
        ("ü234567890123456", "15"),
        ("eth/0", "characters"),
        ("eth 0", "characters"),
        ("eth.0", "characters"),
        ("eth0:1", "characters"),
        ("ethø", "characters"),
        ("eth\n0", "characters"),
        ("eth\x1b", "characters"),
        ("eth%d", "characters"),
        ("..", "characters"),
        ("lo", "reserved"),
        ("all", "reserved"),
        ("", "empty"),
    ],
)
def test_a_name_that_no_link_could_have_is_refused(settled: Settled, name: str, words: str) -> None:
    message = settled.refusal(*NEW, "--via", "10.7.0.0/30", "web", name)

    assert (repr(name)[1:-1] if name.isascii() else name[:3]) in message
    assert words in message


def test_a_name_of_fifteen_bytes_works(shared: Topology) -> None:
    shared.new_container("web")

    shared.osctl(*NEW, "--via", VIA_4, "web", "a23456789012345")

    assert shared.ping(shared.H, "10.100.10.102") == 3
    assert "a23456789012345" in shared.guest("web", "ip", "link").stdout


def test_names_that_differ_late_still_get_host_links_of_their_own(shared: Topology) -> None:
    for number in range(2):
        shared.new_container(f"a-rather-long-name-{number}", start=False)
        for interface in range(2):
            shared.osctl(
                *NEW,
                *(
                    "--via",
                    f"10.9.{number}.{interface * 4}/30",
                    f"a-rather-long-name-{number}",
                    f"interface{interface}",
                ),
            )
        shared.osctl("ct", "start", f"a-rather-long-name-{number}")

    links = [link["ifname"] for link in shared.ip_json(shared.H, "link", "show", "group", "111")]

    assert len(links) == 4
    assert all(link.startswith("os") and len(link) <= 15 for link in links)
    assert shared.ping(shared.H, "10.9.1.6") == 3


@pytest.mark.parametrize(
    ("argv", "quoted", "status"),
    [
        ((*NEW, "--via", "10.7.0.0/30", "nobody", "eth0"), "nobody", 1),
        ((*NEW, "--via", "10.7.0.0/30", "tank:idle", "eth0"), "tank", 1),
        ((*NEW, "--via", "10.7.0.0/30", "--pool", "tank", "idle", "eth0"), "tank", 1),
        ((*SET, "--via", "10.7.0.0/30", "web", "eth9"), "eth9", 1),
        (("ct", "netif", "del", "web", "eth9"), "eth9", 1),
        (("ct", "netif", "show", "web", "eth9"), "eth9", 1),
        ((*NEW, "--host-addr", "10.7.0.1", "idle", "eth0"), "--via", 1),
        ((*SET, "web", "eth0"), "--via", 64),
        ((*NEW, "--via"), "--via", 64),
        ((*NEW, "--via", "10.7.0.0/30", "idle"), "<netif>", 64),
        ((*NEW, "--via", "10.7.0.0/30", "idle", "eth0", "surplus", "more"), "surplus more", 64),
        ((*NEW, "--vja", "10.7.0.0/30", "idle", "eth0"), "--vja", 64),
        ((*NEW, "--via", "10.7.0.0/30", "idle", "eth0", "--frob"), "--frob", 64),
        (("ct", "netif", "new", "brouted", "--via", "10.7.0.0/30", "idle", "eth0"), "brouted", 64),
        (("ct", "netif", "frob"), "frob", 64),
        (("ct", "netif", "del", "web"), "<netif>", 64),
    ],
)
def test_words_that_make_no_sense_are_refused(
    settled: Settled, argv: tuple[str, ...], quoted: str, status: int
) -> None:
    message = settled.refusal(*argv, status=status)

    assert quoted in message


def test_a_via_that_a_stopped_container_holds_is_refused_to_another(shared: Topology) -> None:
    shared.new_container("idle", via=[VIA_4, VIA_6], start=False)
    shared.new_container("web")

    for via in (VIA_4, VIA_6, "10.100.10.102/31", "10.100.8.0/22", "fd00:1::/64"):
        message = shared.refusal_without_trace(*NEW, "--via", via, "web", "eth0", running=["web"])
        assert "eth0 of idle" in message

    shared.osctl("ct", "netif", "del", "idle", "eth0")
    shared.osctl(*NEW, "--via", VIA_4, "--via", VIA_6, "web", "eth0")
    assert shared.ping(shared.H, "10.100.10.102") == 3


def test_two_interfaces_of_one_container_cannot_share_a_via(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4])

    message = shared.refusal_without_trace(*NEW, "--via", VIA_4, "web", "eth1", running=["web"])

    assert VIA_4 in message
    assert "eth0 of web" in message
