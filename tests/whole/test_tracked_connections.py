"""Where the host tracks connections, those to an address are forgotten when it is deleted or moved, and no others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE
from whole.host import WORLD_4, WORLD_6, Topology, wait_until

pytestmark = pytest.mark.requires_kernel("nftables fib")

ADDRESSES = ["1.2.3.4", "2001:db8:2::4"]
OTHERS = ["1.2.3.5", "2001:db8:2::5"]
BYSTANDER = ["203.0.113.9", "2001:db8:2::9"]
PLENTY = 30.0


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, and `beside` and `db` with it."""
    with Topology(program=BARE) as host:
        host.new_container("beside", via=["10.100.20.100/30", "fd00:2::/126"], addresses=BYSTANDER)
        host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=[*ADDRESSES, *OTHERS])
        host.new_container("db", via=["10.100.30.100/30", "fd00:3::/126"])
        yield host


def track(host: Topology) -> None:
    """As a firewall does that lets answers in."""
    rule = "ct state established counter"
    host.in_namespace(
        host.H, "nft", f"table inet others {{ chain forward {{ type filter hook forward priority 0; {rule}; }}; }}"
    )


def connect(host: Topology) -> None:
    """From beyond to each address, and from a container."""
    for each in (*ADDRESSES, *OTHERS, *BYSTANDER):
        assert host.ping(host.R, each, count=1) == 1
    for source, world in zip(ADDRESSES, (WORLD_4, WORLD_6), strict=True):
        host.in_guest_network("web", "ping", "-n", "-q", "-c", "1", "-W", "5", "-I", source, world)


def tracked(host: Topology, address: str) -> int:
    """How many connections of an address the host tracks, as the kernel lists them for people."""
    lines = host.in_namespace(host.H, "cat", "/proc/net/nf_conntrack").stdout.splitlines()
    word = f"src={ipaddress.ip_address(address).exploded} "
    return sum(word in each for each in lines)


def all_tracked(host: Topology, addresses: list[str]) -> list[bool]:
    return [tracked(host, each) > 0 for each in addresses]


@pytest.mark.parametrize("how", ["delete", "move", "route", "container"])
def test_connections_to_what_is_taken_away_are_forgotten_and_those_of_others_go_on(web: Topology, how: str) -> None:
    track(web)
    connect(web)
    assert all_tracked(web, [*ADDRESSES, *OTHERS, *BYSTANDER]) == [True] * 6

    kept = [*OTHERS, *BYSTANDER]
    match how:
        case "delete":
            web.osctl("ct", "netif", "ip", "del", "web", "eth0", *ADDRESSES)
        case "move":
            web.osctl("ct", "netif", "ip", "move", "web", "eth0", "db", "eth0", *ADDRESSES)
        case "route":
            web.osctl(
                "ct", "netif", "route", "del", "--leave-unrouted", "web", "eth0", *(f"{each}" for each in ADDRESSES)
            )
        case _:
            web.osctl("ct", "del", "-f", "web")
            kept = BYSTANDER

    wait_until(lambda: all_tracked(web, ADDRESSES) == [False, False], "they are forgotten", seconds=PLENTY)
    assert all_tracked(web, kept) == [True] * len(kept)
    if how == "move":
        connect_again = [web.ping(web.R, each) for each in ADDRESSES]
        assert connect_again == [3, 3]


def test_very_many_networks_cost_one_look(web: Topology) -> None:
    networks = "".join(f"10.0.0.{number}/32\n" for number in range(100)) + "10.5.5.0/24\n"
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "-", stdin=networks)
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.1")
    track(web)
    connect(web)
    for each in ("10.5.5.1", "10.0.0.7"):
        web.ping(web.R, each, count=1)
    assert tracked(web, "10.5.5.1")

    web.osctl("ct", "netif", "ip", "del", "web", "eth0", "10.5.5.1")
    web.osctl(
        "ct", "netif", "route", "del", "web", "eth0", "10.5.5.0/24", *(f"10.0.0.{each}/32" for each in range(100))
    )

    wait_until(lambda: not tracked(web, "10.5.5.1"), "it is forgotten", seconds=PLENTY)
    assert all_tracked(web, [*ADDRESSES, *OTHERS, *BYSTANDER]) == [True] * 6


def test_who_was_reached_by_another_address_is_forgotten_by_its_own(web: Topology) -> None:
    rule = "ip daddr 203.0.113.77 dnat to 1.2.3.4"
    web.in_namespace(
        web.H, "nft", f"table ip others {{ chain pre {{ type nat hook prerouting priority -100; {rule}; }}; }}"
    )
    assert web.ping(web.R, "203.0.113.77", count=1) == 1
    assert web.ping(web.R, BYSTANDER[0], count=1) == 1
    assert all_tracked(web, [ADDRESSES[0], BYSTANDER[0]]) == [True, True]

    web.osctl("ct", "netif", "ip", "del", "web", "eth0", ADDRESSES[0])

    wait_until(lambda: not tracked(web, ADDRESSES[0]), "it is forgotten", seconds=PLENTY)
    assert tracked(web, BYSTANDER[0])


def test_a_host_that_tracks_nothing_does_not_begin_to(web: Topology) -> None:
    connect(web)
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", *ADDRESSES)
    web.osctl("ct", "ls")

    assert web.sysctl(web.H, "net/netfilter/nf_conntrack_count") == "0"
    assert "tracked connections" not in web.log_text()
