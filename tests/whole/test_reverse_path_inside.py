"""A container with several routed interfaces answers by its first one: its own reverse path filter has to let in what
comes by another."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE
from whole.host import Topology, differences, wait_until
from whole.pings import pings

pytestmark = pytest.mark.requires_kernel("nftables fib")

FIRST, SECOND = ["1.2.3.4", "2001:db8:2::4"], ["198.51.100.5", "2001:db8:2::5"]
BYSTANDER = ["203.0.113.9", "2001:db8:2::9"]
NEW = ("ct", "netif", "new", "routed", "--via", "10.100.30.100/30", "--via", "fd00:3::/126", "web", "eth1")
ADD = ("ct", "netif", "ip", "add", "web", "eth1", *SECOND)


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with Topology(program=BARE) as host:
        host.new_container("beside", via=["10.100.20.100/30", "fd00:2::/126"], addresses=BYSTANDER)
        yield host


@pytest.fixture
def web(topology: Topology) -> Iterator[Topology]:
    """With a container `web` of one interface that checks strictly, as distributions do. A bystander loses nothing."""
    before = topology.comparable_state("beside"), setting(topology, "eth0", "beside")
    topology.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=FIRST)
    be_strict(topology)
    with pings(topology, *BYSTANDER) as counts:
        yield topology
    topology.osctl("ct", "del", "-f", "web")
    assert {sent - answered for sent, answered in counts.values()} == {0}
    assert not [each for each in differences(before[0], topology.comparable_state("beside")) if " counter" not in each]
    assert setting(topology, "eth0", "beside") == before[1]


def be_strict(host: Topology, *links: str) -> None:
    for link in links or ("all", "default", "eth0"):
        host.in_guest_network("web", "sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=1")


def setting(host: Topology, link: str, container: str = "web") -> str:
    return host.in_guest_network(container, "sysctl", "-n", f"net.ipv4.conf.{link}.rp_filter").stdout.strip()


def reached(host: Topology) -> list[int]:
    return [host.ping(host.R, each) for each in (*FIRST, *SECOND)]


def test_a_second_interface_is_reached_in_a_container_that_checks_strictly(web: Topology) -> None:
    assert setting(web, "eth0") == "1"  # with one interface it is the tenant's

    with pings(web, *FIRST) as counts:
        dry = web.osctl("--dry-run", *NEW).stdout.splitlines()
        web.osctl(*NEW)
        web.osctl(*ADD)

    assert {f"sysctl -w net.ipv4.conf.{each}.rp_filter=2" for each in ("eth0", "eth1")} <= {*dry}
    assert [setting(web, each) for each in ("eth0", "eth1", "all")] == ["2", "2", "1"]
    assert reached(web) == [3] * 4
    assert {sent - answered for sent, answered in counts.values()} == {0}


def test_it_is_so_from_the_start_and_under_a_new_name(web: Topology) -> None:
    web.osctl("ct", "stop", "-k", "web")
    web.osctl(*NEW)
    web.osctl(*ADD)
    web.osctl("ct", "start", "web")
    be_strict(web, "all")

    assert reached(web) == [3] * 4
    web.osctl("ct", "netif", "rename", "web", "eth1", "wan0")
    web.restart_daemon()

    assert (setting(web, "wan0"), reached(web)) == ("2", [3] * 4)
    status = web.osctl_json("self", "status")
    assert (status["last_reconcile"], status["drift"]) == ("nothing to repair", [])


def test_a_tenant_who_checks_strictly_all_the_same_is_told_and_left_alone(web: Topology) -> None:
    web.osctl(*NEW)
    web.osctl(*ADD)
    be_strict(web, "eth1")
    web.ip(web.H, "link", "set", web.veth("web", "eth1"), "down")  # it is looked at when something is heard of it

    wait_until(lambda: "eth1.rp_filter = 2" in json.dumps(web.osctl_json("self", "status")["drift"]), "it is told")
    web.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.6")
    assert setting(web, "eth1") == "1"

    web.osctl("net", "reconcile", "web")
    assert setting(web, "eth1") == "2"
    assert reached(web) == [3] * 4


def test_where_only_one_interface_is_left_the_setting_stays_and_is_the_tenants(web: Topology) -> None:
    web.osctl(*NEW)
    web.osctl("ct", "netif", "del", "web", "eth1")
    assert setting(web, "eth0") == "2"

    be_strict(web, "eth0")
    web.restart_daemon()

    assert setting(web, "eth0") == "1"
    assert web.osctl_json("self", "status")["drift"] == []
