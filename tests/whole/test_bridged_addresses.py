"""Addresses of bridged interfaces: static ones, what the network says, beside routed interfaces, and on the move."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.bridges import delete_links, link, make_bridge, master_of, plug_router_in
from whole.host import ROUTER_4, Topology, differences, stays, wait_until
from whole.pings import pings

pytestmark = pytest.mark.requires_kernel("bridge")

#: The host on br0.
BRIDGE = ("192.168.5.1/24", "2001:db8:5::1/64")


@pytest.fixture(scope="module")
def one_host() -> Iterator[Topology]:
    """One host for all tests of this file, with bare namespaces as containers; it forwards already."""
    with Topology(program=BARE) as topology:
        topology.new_container("first")
        topology.delete_containers()
        yield topology


@pytest.fixture
def lan(one_host: Topology) -> Iterator[Topology]:
    """A host with an address on br0, on which the router is a neighbour. Nothing is left on it."""
    before = one_host.comparable_state()
    make_bridge(one_host, "br0", *BRIDGE, mac="02:00:00:00:b0:00")
    plug_router_in(one_host, "br0", "192.168.5.2/24", "2001:db8:5::2/64")
    yield one_host
    one_host.delete_containers()
    delete_links(one_host, one_host.H, ["to-lan0", "to-lan1", "br0", "br1"])
    assert not [each for each in differences(before, one_host.comparable_state()) if " counter" not in each]
    assert one_host.stored()["holding"] == []


def new(host: Topology, *options: str, container: str = "web", name: str = "lan0", bridge: str = "br0") -> None:
    host.osctl("ct", "netif", "new", "bridge", "--link", bridge, *options, container, name)


def add(host: Topology, *addresses: str, container: str = "web", name: str = "lan0") -> None:
    host.osctl("ct", "netif", "ip", "add", container, name, *addresses)


def ping(host: Topology, container: str, address: str, *, count: int = 3) -> int:
    argv = ("ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", "1", address)
    text = host.in_guest_network(container, *argv, check=False).stdout
    return int(text.partition(" received")[0].rpartition(" ")[2] or 0)


def defaults(host: Topology, container: str, version: int) -> list[tuple[str, str, int]]:
    """Link, gateway and metric of each default route inside."""
    found = host.guest_ip_json(container, f"-{version}", "route", "show", "default")
    return [(each["dev"], each.get("gateway", ""), each.get("metric", 0)) for each in found]


def assigned(host: Topology, container: str, name: str = "lan0") -> list[str]:
    (found,) = host.guest_ip_json(container, "addr", "show", "dev", name)
    return [f"{each['local']}/{each['prefixlen']}" for each in found["addr_info"] if each["scope"] == "global"]


# --- static ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_static_pair_reaches_each_other_the_host_and_the_neighbours(lan: Topology, state: str) -> None:
    for number, name in ((10, "web"), (11, "db")):
        lan.new_container(name, start=state == "running")
        new(lan, "--no-dhcp", container=name)
        add(lan, f"192.168.5.{number}", f"2001:db8:5::{number}", container=name)
        lan.osctl("ct", "start", name)

    assert assigned(lan, "web") == ["192.168.5.10/24", "2001:db8:5::10/64"]
    assert [ping(lan, "web", each) for each in ("192.168.5.11", "2001:db8:5::11")] == [3, 3]
    assert [lan.ping(lan.H, each) for each in ("192.168.5.10", "2001:db8:5::10")] == [3, 3]
    assert [lan.ping(lan.R, each) for each in ("192.168.5.10", "2001:db8:5::10")] == [3, 3]
    assert defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0)]
    assert ("lan0", "2001:db8:5::1", 16) in defaults(lan, "web", 6)


def test_addresses_come_go_and_change_places_live_and_are_there_after_a_restart(lan: Topology) -> None:
    lan.new_container("web")
    new(lan, "--no-dhcp")
    add(lan, "192.168.5.10", "192.168.5.11", "192.168.5.12")
    assert ping(lan, "web", "192.168.5.2") == 3

    lan.osctl("ct", "netif", "ip", "reorder", "web", "lan0", "192.168.5.12", "--first")
    (route,) = lan.guest_ip_json("web", "-4", "route", "show", "default")
    assert route["prefsrc"] == "192.168.5.12"
    assert assigned(lan, "web") == [f"192.168.5.{each}/24" for each in (12, 10, 11)]
    lan.osctl("ct", "netif", "ip", "del", "web", "lan0", "192.168.5.10")
    listed = lan.osctl("ct", "netif", "ip", "ls", "-H", "web", "lan0").stdout.split()
    assert listed == ["4", "192.168.5.12/24", "4", "192.168.5.11/24"]

    lan.osctl("ct", "restart", "web")

    assert assigned(lan, "web") == ["192.168.5.12/24", "192.168.5.11/24"]
    lan.osctl("ct", "netif", "ip", "del", "web", "lan0", "all")
    assert assigned(lan, "web") == []
    assert defaults(lan, "web", 4) == []


def test_a_refused_address_changes_nothing(lan: Topology) -> None:
    lan.new_container("db", via=["10.100.10.104/30"], addresses=["1.2.3.4"])
    lan.new_container("web")
    new(lan, "--no-dhcp")
    new(lan, "--no-dhcp", container="db")
    add(lan, "192.168.5.10", container="db")

    for argv, message in (
        (("192.168.5.10",), "192.168.5.10: 192.168.5.10 is assigned to lan0 of db, on br0"),
        (("192.168.5.1",), "192.168.5.1 is an address of the host, on br0"),
        (("192.168.5.255/24",), "192.168.5.255/24 on lan0 is the broadcast address of 192.168.5.0/24"),
        (("192.0.2.77/24",), "192.0.2.77: 192.0.2.0/24 is in use on the host, on up0; --overlap-host permits it"),
        (("1.2.3.4/24",), "1.2.3.4: 1.2.3.4/32 is routed to eth0 of db"),
        (("192.168.5.11", "1.2.3.4"), "1.2.3.4: 1.2.3.4/32 is routed to eth0 of db"),
    ):
        refusal = lan.refusal_without_trace("ct", "netif", "ip", "add", "web", "lan0", *argv, running=["web", "db"])
        assert message in refusal
    refusal = lan.refusal_without_trace("ct", "netif", "ip", "add", "db", "eth0", "192.168.5.10", running=["db"])
    assert "192.168.5.10 is assigned to lan0 of db, on br0" in refusal
    (row,) = [row for row in lan.osctl_json("net", "who", "192.168.5.10") if row["holder"] == "lan0 of db"]
    assert (row["kind"], row["link"], row["what"]) == (
        "address", "br0", "192.168.5.10 is assigned to lan0 of db, on br0",
    )  # fmt: skip


# --- gateways ----------------------------------------------------------------------------------------------------


def test_the_gateway_is_the_bridge_an_address_or_none_live(lan: Topology) -> None:
    lan.new_container("web")
    new(lan)
    add(lan, "192.168.5.10", "2001:db8:5::10")
    assert (defaults(lan, "web", 4), defaults(lan, "web", 6)) == ([], []), "DHCP and advertisements say it"

    def change(*options: str) -> list[tuple[str, str, int]]:
        lan.osctl("ct", "netif", "set", *options, "web", "lan0")
        return defaults(lan, "web", 4) + defaults(lan, "web", 6)

    assert change("--no-dhcp") == [("lan0", "192.168.5.1", 0), ("lan0", "2001:db8:5::1", 16)]
    assert change("--gateway-v4", "192.168.5.2") == [("lan0", "192.168.5.2", 0), ("lan0", "2001:db8:5::1", 16)]
    lan.ip(lan.R, "addr", "add", "198.51.100.9/32", "dev", "lo")
    assert ping(lan, "web", "198.51.100.9") == 3, "beyond the link"
    lan.ip(lan.R, "addr", "del", "198.51.100.9/32", "dev", "lo")
    assert change("--gateway-v6", "none") == [("lan0", "192.168.5.2", 0)]
    assert change("--gateway-v4", "10.77.77.1") == [("lan0", "10.77.77.1", 0)], "said to be on the link"
    assert change("--gateway-v4", "auto", "--gateway-v6", "auto", "--dhcp") == []
    shown = lan.osctl_json("ct", "netif", "show", "web", "lan0")
    assert (shown["dhcp"], shown["gateways"], shown["source"]) == (
        True, {"4": "auto", "6": "auto"}, {"4": "192.168.5.10", "6": "2001:db8:5::10"},
    )  # fmt: skip


@pytest.mark.parametrize("how", ["while the daemon runs", "while no daemon runs"])
def test_the_gateway_follows_the_address_of_the_bridge_and_is_no_tenant_s_change(lan: Topology, how: str) -> None:
    lan.new_container("web")
    new(lan, "--no-dhcp")
    add(lan, "192.168.5.10")
    assert defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0)]
    if how != "while the daemon runs":
        lan.stop_daemon()

    lan.ip(lan.H, "addr", "del", "192.168.5.1/24", "dev", "br0")
    stays(lambda: defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0)], 1.0)
    lan.ip(lan.H, "addr", "add", "192.168.5.7/24", "dev", "br0")
    if how != "while the daemon runs":
        lan.start_daemon()

    wait_until(lambda: defaults(lan, "web", 4) == [("lan0", "192.168.5.7", 0)], "the default route leads there")
    assert lan.osctl_json("self", "status")["drift"] == []
    assert "changed inside" not in lan.log_text()


def test_a_default_route_that_the_tenant_took_away_stays_away_and_is_told(lan: Topology) -> None:
    lan.new_container("web")
    new(lan, "--no-dhcp")
    add(lan, "192.168.5.10")

    lan.in_guest_network("web", "ip", "route", "del", "default")
    lan.osctl("net", "reconcile", "web", check=False)

    assert defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0)], "asked by name, all is put back"
    lan.in_guest_network("web", "ip", "route", "del", "default")
    add(lan, "192.168.5.11")
    assert defaults(lan, "web", 4) == []
    assert "default via 192.168.5.1" in json.dumps(lan.osctl_json("self", "status")["drift"])


# --- beside a routed interface -----------------------------------------------------------------------------------


def test_beside_a_routed_interface_its_default_routes_come_second_unless_asked_for(lan: Topology) -> None:
    lan.new_container("web", start=False)
    new(lan, "--no-dhcp")
    add(lan, "192.168.5.10")
    lan.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.100/30", "web", "eth0")
    lan.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")
    lan.osctl("ct", "start", "web")

    assert defaults(lan, "web", 4) == [("eth0", "10.100.10.101", 0), ("lan0", "192.168.5.1", 100)]
    assert [lan.ping(lan.R, each) for each in ("1.2.3.4", "192.168.5.10")] == [3, 3]
    assert lan.ping(lan.H, "1.2.3.4") == 3
    with lan.capture(lan.R, "down0", "icmp") as capture:
        assert ping(lan, "web", ROUTER_4) == 3
        capture.wait_for(rf"1\.2\.3\.4 > {ROUTER_4}")

    lan.osctl("ct", "netif", "set", "--default", "web", "lan0")
    assert defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0), ("eth0", "10.100.10.101", 100)]
    assert lan.osctl_json("ct", "netif", "show", "web", "lan0")["preferred"] is True
    lan.osctl("ct", "restart", "web")
    assert defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0), ("eth0", "10.100.10.101", 100)]

    lan.osctl("ct", "netif", "set", "--default", "web", "eth0")
    assert defaults(lan, "web", 4) == [("eth0", "10.100.10.101", 0), ("lan0", "192.168.5.1", 100)]


# --- moves -------------------------------------------------------------------------------------------------------


def test_while_it_passes_to_another_bridge_of_the_same_network_next_to_nothing_is_lost(lan: Topology) -> None:
    # One network: the router joins the two bridges, and remembers behind which of its ports a container is.
    for each in BRIDGE:
        lan.ip(lan.H, "addr", "del", each, "dev", "br0")
    make_bridge(lan, "br1", mac="02:00:00:00:b1:00")
    plug_router_in(lan, "br1", link="lan1")
    lan.ip(lan.R, "link", "add", "lan", "type", "bridge", "ageing_time", "100000")
    lan.ip(lan.R, "addr", "flush", "dev", "lan0")
    for each in ("lan0", "lan1"):
        lan.ip(lan.R, "link", "set", each, "master", "lan")
    lan.ip(lan.R, "link", "set", "lan", "up")
    lan.ip(lan.R, "addr", "add", "192.168.5.2/24", "dev", "lan")
    lan.new_container("web")
    new(lan, "--no-dhcp", "--gateway-v4", "192.168.5.2")
    add(lan, "192.168.5.10/24")
    wait_until(lambda: lan.ping(lan.R, "192.168.5.10", count=1), "it is reached")

    with pings(lan, "192.168.5.10") as counts:
        wait_until(lambda: lan.ping(lan.R, "192.168.5.10", count=5) == 5, "all is quiet")
        for bridge in ("br1", "br0", "br1"):
            lan.osctl("ct", "netif", "set", "--link", bridge, "web", "lan0")
            assert lan.ping(lan.R, "192.168.5.10", count=5, seconds=0.5) >= 4

    sent, answered = counts["192.168.5.10"]
    delete_links(lan, lan.R, ["lan"])
    assert sent > 30
    assert sent - answered <= 6, (sent, answered)


def test_who_takes_an_address_over_is_known_to_the_neighbours_at_once(lan: Topology) -> None:
    for name in ("web", "db"):
        lan.new_container(name)
        new(lan, "--no-dhcp", container=name)
    add(lan, "192.168.5.10", "2001:db8:5::10", container="db")
    assert [lan.ping(lan.R, each) for each in ("192.168.5.10", "2001:db8:5::10")] == [3, 3]

    lan.osctl("ct", "netif", "ip", "del", "db", "lan0", "all")
    add(lan, "192.168.5.10", "2001:db8:5::10", container="web")

    assert [lan.ping(lan.R, each) for each in ("192.168.5.10", "2001:db8:5::10")] == [3, 3]
    known = {each["dst"]: each.get("lladdr") for each in lan.ip_json(lan.R, "neigh", "show", "dev", "lan0")}
    mac = lan.osctl_json("ct", "netif", "show", "web", "lan0")["hwaddr"]
    assert (known["192.168.5.10"], known["2001:db8:5::10"]) == (mac, mac)


def test_a_standby_address_is_not_inside_until_it_is_taken(lan: Topology) -> None:
    lan.new_container("web")
    new(lan, "--no-dhcp")
    add(lan, "192.168.5.10", "192.168.5.11")

    lan.osctl("ct", "netif", "standby", "web", "lan0", "192.168.5.10")
    assert assigned(lan, "web") == ["192.168.5.11/24"]

    lan.osctl("ct", "netif", "take", "web", "lan0", "192.168.5.10")
    assert sorted(assigned(lan, "web")) == ["192.168.5.10/24", "192.168.5.11/24"]


# --- what the network says ---------------------------------------------------------------------------------------


@pytest.fixture
def served(host: Topology) -> Iterator[Topology]:
    """A host with real containers, and on br0 a DHCP server that is also an advertising router."""
    make_bridge(host, "br0", "192.168.5.1/24", mac="02:00:00:00:b0:00")
    plug_router_in(host, "br0", "192.168.5.2/24", "2001:db8:5::2/64")
    leases = host.directory / "leases"
    command = [
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=lan0", "--bind-interfaces"),
        *("--dhcp-range=192.168.5.100,192.168.5.120,255.255.255.0", "--dhcp-option=3,192.168.5.2"),
        *("--dhcp-range=2001:db8:5::,ra-only,64", "--enable-ra", f"--dhcp-leasefile={leases}", "--user=root"),
        *("--dhcp-authoritative", "--no-ping"),
    ]
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{host.R}", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stderr is not None
        for line in server.stderr:
            if "RTR-ADVERT" in line or "router advertisement" in line:
                break
        else:
            pytest.fail("dnsmasq did not start")
        try:
            yield host
        finally:
            server.terminate()


SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router" dev "$interface"
"""


@pytest.mark.requires_kernel("veth")
def test_dhcp_by_the_guest_s_own_tool_and_advertised_prefixes_work(served: Topology) -> None:
    served.new_container("web", start=False)
    new(served)
    served.osctl("ct", "start", "web")
    served.guest("web", "sh", "-c", "cat >/tmp/script; chmod 755 /tmp/script", stdin=SCRIPT)

    served.guest("web", "udhcpc", "-n", "-q", "-i", "lan0", "-s", "/tmp/script")

    (address,) = [each for each in assigned(served, "web") if each.startswith("192.168.5.")]
    number = int(address.partition("/")[0].rpartition(".")[2])
    assert 100 <= number <= 120
    assert served.guest_ping("web", "192.168.5.2") == 3
    wait_until(
        lambda: [each for each in assigned(served, "web") if each.startswith("2001:db8:5:")], "an advertised address"
    )
    wait_until(lambda: served.guest_ping("web", "2001:db8:5::2") == 3, "the router answers")
    gateways: list[dict[str, Any]] = served.guest_ip_json("web", "-6", "route", "show", "default")
    assert [each["protocol"] for each in gateways] == ["ra"]
    # All of that is the tenant's, and no difference from what was asked for.
    served.osctl("net", "reconcile")
    assert served.osctl_json("self", "status")["drift"] == []
    assert address in assigned(served, "web")


def test_a_bridge_that_comes_back_carries_again(lan: Topology) -> None:
    lan.new_container("web")
    new(lan, "--no-dhcp")
    add(lan, "192.168.5.10")
    assert lan.ping(lan.R, "192.168.5.10") == 3

    lan.ip(lan.H, "link", "del", "br0")
    wait_until(lambda: master_of(lan, lan.veth("web", "lan0")) is None, "it is gone")
    make_bridge(lan, "br0", *BRIDGE, mac="02:00:00:00:b0:00")
    lan.ip(lan.H, "link", "set", "to-lan0", "master", "br0")

    wait_until(lambda: lan.ping(lan.R, "192.168.5.10", count=1), "it is reached again", seconds=2)
    assert defaults(lan, "web", 4) == [("lan0", "192.168.5.1", 0)]
    assert link(lan, lan.veth("web", "lan0"))["master"] == "br0"
