"""Programs inside that masquerade, as nested docker, wg-quick and tailscale do, take an address that gets beyond the
host: they ask no route for its source, but the link."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE
from whole.host import WORLD_4, WORLD_6, Topology, differences
from whole.pings import pings

pytestmark = pytest.mark.requires_kernel("nftables fib")

VIAS = {4: "10.100.10.100/30", 6: "fd00:1::/126"}
END = {4: "10.100.10.102", 6: "fd00:1::2"}
#: Two that are routed, and one that is assigned alone.
ROUTED = {4: ("1.2.3.4", "1.2.3.5"), 6: ("2001:db8:2::4", "2001:db8:2::5")}
WORLD = {4: WORLD_4, 6: WORLD_6}
#: What is behind the container: an address of its own that nobody else knows.
BEHIND = {4: "172.17.0.1", 6: "fd17::1"}
#: Somebody to whom nothing of all this matters.
BYSTANDER = ["203.0.113.9", "2001:db8:2::9"]

ADD, DEL = ("ct", "netif", "ip", "add"), ("ct", "netif", "ip", "del")
both_versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with Topology(program=BARE) as host:
        host.new_container("beside", via=["10.100.20.100/30", "fd00:2::/126"], addresses=BYSTANDER)
        yield host


@pytest.fixture
def web(topology: Topology) -> Iterator[Topology]:
    """With a container `web`, no address yet, which masquerades what is behind it. The bystander loses nothing."""
    before = topology.comparable_state("beside")
    topology.new_container("web", via=[*VIAS.values()])
    for version, address in BEHIND.items():
        length = {4: 32, 6: 128}[version]
        topology.in_guest_network("web", "ip", "addr", "add", f"{address}/{length}", "dev", "lo")
    masquerade = 'chain post { type nat hook postrouting priority 100; oifname "eth0" masquerade; }'
    for family in ("ip", "ip6"):
        topology.in_guest_network("web", "nft", f"table {family} nested {{ {masquerade}; }}")
    with pings(topology, *BYSTANDER) as counts:
        yield topology
    topology.osctl("ct", "del", "-f", "web")
    assert {sent - answered for sent, answered in counts.values()} == {0}
    left = differences(before, topology.comparable_state("beside"))
    assert not [each for each in left if " counter" not in each]


def sends_as(host: Topology, version: int) -> str | None:
    """The source that the world sees of what is behind the container, and answers to; None when nothing arrives."""
    word = "icmp" if version == 4 else "icmp6"
    with host.capture(host.R, "down0", word) as capture:
        argv = ["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", BEHIND[version], WORLD[version]]
        if host.in_guest_network("web", *argv, check=False).status:
            return None
        line = capture.wait_for(f"> {WORLD[version]}: .*echo request")
    return line.split(f" > {WORLD[version]}:")[0].split()[-1]


def may_be_chosen(host: Topology, address: str) -> bool:
    (link,) = host.guest_ip_json("web", "addr", "show", "dev", "eth0")
    (found,) = (each for each in link["addr_info"] if each["local"] == address)
    if ":" in address:
        assert found["nodad"] is True
        return not found.get("deprecated", False)
    return bool(found["scope"] == "global")


def source(host: Topology, version: int) -> str:
    (route,) = host.guest_ip_json("web", f"-{version}", "route", "show", "default")
    return str(route["prefsrc"])


def restart_the_daemon(host: Topology) -> None:
    """Which finds all as it should be: nothing to repair, nothing that the tenant changed."""
    host.restart_daemon()
    status = host.osctl_json("self", "status")
    assert (status["last_reconcile"], status["drift"]) == ("nothing to repair", [])


@both_versions
def test_what_masquerades_sends_from_the_first_routed_address(web: Topology, version: int) -> None:
    first, _ = ROUTED[version]
    web.osctl(*ADD, "web", "eth0", first)

    assert sends_as(web, version) == first

    web.osctl("ct", "restart", "-k", "web")
    assert not may_be_chosen(web, END[version])
    restart_the_daemon(web)


@both_versions
def test_the_container_end_is_hidden_with_the_first_routed_address_and_back_with_the_last(
    web: Topology, version: int
) -> None:
    first, second = ROUTED[version]
    fresh = web.comparable_state("web")

    assert may_be_chosen(web, END[version])
    web.osctl(*ADD, "web", "eth0", "--no-route", first)
    assert may_be_chosen(web, END[version])  # it is no source while nothing leads back to it
    web.osctl("ct", "netif", "route", "add", "web", "eth0", first)
    assert (may_be_chosen(web, END[version]), source(web, version)) == (False, first)
    web.osctl(*ADD, "web", "eth0", second)
    restart_the_daemon(web)
    assert sends_as(web, version) is not None
    web.osctl(*DEL, "web", "eth0", first)
    assert (may_be_chosen(web, END[version]), sends_as(web, version)) == (False, second)
    web.osctl("ct", "netif", "route", "del", "--leave-unrouted", "web", "eth0", "all")
    assert (may_be_chosen(web, END[version]), source(web, version)) == (True, END[version])
    web.osctl(*DEL, "web", "eth0", "all")

    assert not differences(fresh, web.comparable_state("web"))
    restart_the_daemon(web)


@both_versions
def test_a_public_interconnecting_network_hides_nothing_and_changes_both_ways_without_loss(
    web: Topology, version: int
) -> None:
    first, _ = ROUTED[version]
    web.osctl(*ADD, "web", "eth0", first)
    private = web.comparable_state("web")

    with pings(web, first) as counts:
        web.osctl("ct", "netif", "set", "--via-public", "web", "eth0")
        assert may_be_chosen(web, END[version])
        restart_the_daemon(web)
        web.osctl("ct", "netif", "set", "--no-via-public", "web", "eth0")

    assert not differences(private, web.comparable_state("web"))
    assert {sent - answered for sent, answered in counts.values()} == {0}
    assert sends_as(web, version) == first


@both_versions
def test_the_order_of_addresses_changes_nothing_about_the_container_end(web: Topology, version: int) -> None:
    first, second = ROUTED[version]
    web.osctl(*ADD, "web", "eth0", first, second, END[version])

    with pings(web, first, second) as counts:
        for address in (second, END[version], first):
            web.osctl("ct", "netif", "ip", "reorder", "web", "eth0", address, "--first")
            assert not may_be_chosen(web, END[version])
            assert sends_as(web, version) in (first, second)
        web.osctl(*DEL, "web", "eth0", END[version])  # its place alone
        assert not may_be_chosen(web, END[version])

    assert {sent - answered for sent, answered in counts.values()} == {0}


@pytest.mark.parametrize("is_promoting", [False, True])
def test_all_addresses_of_a_private_network_are_hidden_together(web: Topology, is_promoting: bool) -> None:
    """Of one IPv4 subnet the kernel takes no two of different scopes."""
    web.in_guest_network("web", "sysctl", "-qw", f"net.ipv4.conf.eth0.promote_secondaries={int(is_promoting)}")
    web.osctl("ct", "netif", "set", "--via", "10.0.0.0/24", "--no-via-public", "web", "eth0")
    web.osctl(*ADD, "web", "eth0", "10.0.0.5/24", "10.0.0.6/24")
    before = web.comparable_state("web")

    web.osctl(*ADD, "web", "eth0", "1.2.3.4")

    hidden = ["10.0.0.2", "10.0.0.5", "10.0.0.6"]
    assert [may_be_chosen(web, each) for each in (*hidden, "1.2.3.4")] == [False, False, False, True]
    assert sends_as(web, 4) == "1.2.3.4"
    (link,) = web.guest_ip_json("web", "-4", "addr", "show", "dev", "eth0")
    assert [each["local"] for each in link["addr_info"] if each["local"] in hidden] == hidden
    restart_the_daemon(web)
    web.osctl(*DEL, "web", "eth0", "1.2.3.4")
    assert not differences(before, web.comparable_state("web"))


def test_an_address_of_the_tenants_in_the_private_network_hinders_nothing(web: Topology) -> None:
    web.osctl("ct", "netif", "set", "--via", "10.0.0.0/24", "--no-via-public", "web", "eth0")
    web.in_guest_network("web", "ip", "addr", "add", "10.0.0.77/24", "dev", "eth0")

    web.osctl(*ADD, "web", "eth0", "1.2.3.4")

    assert [may_be_chosen(web, each) for each in ("10.0.0.2", "10.0.0.77", "1.2.3.4")] == [True] * 3
    assert (source(web, 4), web.ping(web.R, "1.2.3.4")) == ("1.2.3.4", 3)
    restart_the_daemon(web)
    web.in_guest_network("web", "ip", "addr", "del", "10.0.0.77/24", "dev", "eth0")
    web.osctl("net", "reconcile", "web")
    assert not may_be_chosen(web, "10.0.0.2")


def test_a_dry_run_says_what_becomes_of_the_container_end(web: Topology) -> None:
    addresses = [ROUTED[version][0] for version in (4, 6)]

    coming = web.osctl("--dry-run", *ADD, "web", "eth0", *addresses).stdout.splitlines()
    web.osctl(*ADD, "web", "eth0", *addresses)
    going = web.osctl("--dry-run", *DEL, "web", "eth0", "all").stdout.splitlines()

    assert "ip addr add 10.100.10.102/30 brd 10.100.10.103 dev eth0 scope link" in coming
    assert "ip addr change fd00:1::2/126 dev eth0 nodad valid_lft forever preferred_lft 0" in coming
    assert "ip addr add 10.100.10.102/30 brd 10.100.10.103 dev eth0" in going
    assert "ip addr change fd00:1::2/126 dev eth0 nodad valid_lft forever preferred_lft forever" in going
    # The source of what is sent exists at any moment.
    (source_4,) = (each for each in going if each.endswith("src 10.100.10.102"))
    assert going.index("ip addr add 10.100.10.102/30 brd 10.100.10.103 dev eth0") < going.index(source_4)
    assert going.index(source_4) < going.index("ip addr del 1.2.3.4/32 dev eth0")


def test_a_tenant_who_chooses_otherwise_is_told_and_left_alone(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", ROUTED[6][0])
    forever = ("nodad", "preferred_lft", "forever")

    web.in_guest_network("web", "ip", "addr", "change", "fd00:1::2/126", "dev", "eth0", *forever)
    web.restart_daemon()

    assert may_be_chosen(web, END[6])
    assert "addr fd00:1::2/126 dev eth0 preferred_lft 0" in json.dumps(web.osctl_json("self", "status")["drift"])
    web.osctl("net", "reconcile", "web")
    assert not may_be_chosen(web, END[6])
