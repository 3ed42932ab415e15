"""Our links are nobody's ports, and the host is a router for containers alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from whole import packets
from whole.bare_daemon import BARE
from whole.guest_packets import send
from whole.host import WORLD_4, Topology, differences, wait_until
from whole.lan import ALL_WAYS, LAN, lan_of, passing
from whole.monitor import events_of, everything

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESSES = ["1.2.3.4", "2001:db8:2::4"]

pytestmark = pytest.mark.requires_kernel("nftables fib")


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, with an address of each version."""
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        yield host


def master_of(host: Topology, link: str) -> str | None:
    (found,) = host.ip_json(host.H, "link", "show", link)
    return found.get("master")


def bridge_with_a_witness(host: Topology) -> None:
    """vmbr0 on the host, and `away0`, its other port, behind which R listens at `beyond0`."""
    host.ip(host.H, "link", "add", "vmbr0", "type", "bridge")
    host.ip(host.H, "link", "add", "away0", "type", "veth", "peer", "name", "beyond0", "netns", host.R)
    for command in ("set away0 master vmbr0 up", "set vmbr0 up"):
        host.ip(host.H, "link", *command.split())
    host.ip(host.R, "link", "set", "beyond0", "up")


def found_ports(host: Topology) -> list[dict[str, Any]]:
    # Its exit status is 1 when there are errors among the findings.
    findings = json.loads(host.osctl("-j", "self", "check", check=False).stdout)
    return [each for each in findings if each["code"] == "bridge-port"]


# --- ports -------------------------------------------------------------------------------------------------------


@pytest.mark.requires_kernel("bridge")
def test_a_link_that_is_made_a_bridge_port_is_taken_out_within_a_second_and_told(web: Topology) -> None:
    bridge_with_a_witness(web)
    before, veth = web.comparable_state("web"), web.veth("web")

    with everything(web) as listener:
        web.ip(web.H, "link", "set", veth, "master", "vmbr0")
        wait_until(lambda: events_of(listener, "mended"), "an event tells", seconds=1)
        (told,) = events_of(listener, "mended")

    assert (told["id"], f"link {veth}" in json.dumps(told["what"])) == ("web", True)
    assert master_of(web, veth) is None
    # The bridge itself takes an address of its ports, and is none of ours.
    assert not [each for each in differences(before, web.comparable_state("web")) if veth in each]
    assert [web.ping(web.R, each) for each in ADDRESSES] == [3, 3]


@pytest.mark.requires_kernel("bridge")
def test_nothing_enters_a_bridge_by_a_link_of_ours_even_where_it_is_left_there() -> None:
    with Topology(program=BARE, settings='[host]\nforeign_master = "report"\n') as host:
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        bridge_with_a_witness(host)
        veth = host.veth("web")
        host.ip(host.H, "link", "set", veth, "master", "vmbr0")
        assert host.osctl("net", "reconcile").stdout == "nothing to repair\n"
        assert master_of(host, veth) == "vmbr0"

        with host.capture(host.R, "beyond0", "udp") as capture:
            send(host, "web", "eth0", *[packets.udp("203.0.113.77", WORLD_4)] * 3)
            wait_until(
                lambda: host.osctl_json("ct", "netif", "show", "web", "eth0")["dropped_bridged"] >= 3,
                "what came is counted",
            )
            # Behind them, one of the host's own by that bridge: what has not been seen by now never comes.
            host.ip(host.H, "addr", "add", "198.51.100.1/24", "dev", "vmbr0")
            host.ip(host.H, "neigh", "add", "198.51.100.2", "lladdr", "02:00:00:00:00:02", "dev", "vmbr0")
            host.in_namespace(host.H, "bash", "-c", "echo >/dev/udp/198.51.100.2/7777")
            capture.wait_for(r"> 198\.51\.100\.2\.7777: ")
            seen = [line for line in capture.lines if "203.0.113.77" in line]

    assert seen == []


@pytest.mark.requires_kernel("bridge")
def test_a_link_that_was_made_a_port_while_no_daemon_ran_is_taken_out_too(web: Topology) -> None:
    bridge_with_a_witness(web)
    veth = web.veth("web")
    web.kill_daemon()
    web.ip(web.H, "link", "set", veth, "master", "vmbr0")
    web.start_daemon()

    wait_until(lambda: master_of(web, veth) is None, "the new daemon has taken it out")

    assert [web.ping(web.R, each) for each in ADDRESSES] == [3, 3]


@pytest.mark.requires_kernel("bridge")
def test_a_port_that_is_left_is_found_with_the_command_that_takes_it_out() -> None:
    with Topology(program=BARE, settings='[host]\nforeign_master = "report"\n') as host:
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        bridge_with_a_witness(host)
        veth = host.veth("web")
        host.ip(host.H, "link", "set", veth, "master", "vmbr0")

        found = found_ports(host)

        assert [each["what"] for each in found] == [f"{veth} is a port of vmbr0 (bridge)"]
        for command in found[0]["commands"]:
            host.in_namespace(host.H, *command.split())
        assert [host.ping(host.R, each) for each in ADDRESSES] == [3, 3]
        assert found_ports(host) == []


# --- transit -----------------------------------------------------------------------------------------------------


def test_a_host_forwards_for_containers_and_is_no_router_between_its_lan_and_its_uplink(web: Topology) -> None:
    with lan_of(web) as lan:
        assert passing(web, lan) == set()

        # Its own traffic and that of containers passes, by either link.
        assert [web.ping(web.R, each) for each in ADDRESSES] == [3, 3]
        assert web.ping(lan, ADDRESSES[1]) == 3
        assert [web.ping(web.H, LAN[version][1]) for version in LAN] == [3, 3]


def test_a_host_whose_last_container_has_gone_is_no_router_either(web: Topology) -> None:
    with lan_of(web) as lan:
        web.osctl("ct", "del", "-f", "web")
        web.osctl("net", "reconcile")

        assert passing(web, lan) == set()  # what was switched on for containers stays on


def test_a_host_that_others_made_a_router_goes_on_to_be_one() -> None:
    with Topology(program=BARE, start_daemon=False) as host:
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            host.sysctl(host.H, key, "1")
        host.start_daemon()
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        with lan_of(host) as lan:
            assert passing(host, lan) == ALL_WAYS


def test_who_switches_ipv4_forwarding_on_later_gets_what_it_is_for(web: Topology) -> None:
    """As docker does for its bridge."""
    with lan_of(web) as lan:
        web.sysctl(web.H, "net/ipv4/ip_forward", "1")

        wait_until(lambda: passing(web, lan) == {"out 4", "in 4"}, "IPv4 passes")


@pytest.mark.parametrize(("transit", "expected"), [("reject", set()), ("allow", ALL_WAYS)])
def test_the_setting_decides_whoever_switched_forwarding_on(transit: str, expected: set[str]) -> None:
    with Topology(program=BARE, settings=f'[host]\ntransit = "{transit}"\n') as host:
        host.sysctl(host.H, "net/ipv4/ip_forward", "1")
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        with lan_of(host) as lan:
            assert passing(host, lan) == expected
