"""Shorter ways to say the same: the only interface unnamed, IP versions as -4 and -6, commands that may be repeated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import osctl.client
from whole.bare_daemon import BARE
from whole.host import Topology


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    with Topology(program=BARE) as topology:
        yield topology


@pytest.fixture
def emptied(made: Topology) -> Iterator[Topology]:
    """The host of this file, without a container before and after."""
    yield made
    made.delete_containers()


@pytest.fixture
def web(emptied: Topology) -> Topology:
    """One container with one interface, running."""
    emptied.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4", "2001:db8:2::4"])
    return emptied


def listed(host: Topology, what: str, *options: str) -> list[str]:
    return host.osctl("ct", "netif", what, "ls", "-H", "-o", "addr", *options, "web").stdout.split()


def test_the_only_interface_of_a_container_need_not_be_named(web: Topology) -> None:
    web.osctl("ct", "netif", "ip", "add", "web", "1.2.3.5", "1.2.3.6")
    web.osctl("ct", "netif", "ip", "reorder", "--first", "web", "1.2.3.6")
    web.osctl("ct", "netif", "ip", "del", "web", "1.2.3.5")
    web.osctl("ct", "netif", "ip", "add", "web", "-", stdin="1.2.3.8\n")
    web.osctl("ct", "netif", "route", "add", "web", "10.5.5.0/24", "10.5.6.0/24")
    web.osctl("ct", "netif", "route", "del", "web", "10.5.6.0/24")
    web.osctl("ct", "netif", "source", "add", "web", "203.0.113.0/24")

    assert listed(web, "ip", "-4") == ["1.2.3.6/32", "1.2.3.4/32", "1.2.3.8/32"]
    assert web.ping(web.R, "1.2.3.8") == 3
    assert "10.5.5.0/24" in listed(web, "route")
    assert listed(web, "source") == ["203.0.113.0/24"]
    web.osctl("ct", "netif", "source", "del", "web", "all")
    assert listed(web, "source") == []
    web.osctl("ct", "netif", "set", "--mtu", "1400", "web")
    assert web.osctl("ct", "netif", "show", "-H", "-o", "mtu", "web").stdout.strip() == "1400"
    web.osctl("ct", "netif", "rename", "web", "wan0")
    assert web.osctl("ct", "netif", "ls", "-H", "-o", "name", "web").stdout.split() == ["wan0"]


def test_of_several_interfaces_or_none_one_has_to_be_named(web: Topology) -> None:
    web.osctl("ct", "netif", "new", "routed", "web", "eth1")
    web.new_container("empty", start=False)

    for argv in (
        ("ip", "add", "web", "1.2.3.5"),
        ("ip", "del", "web", "all"),
        ("route", "add", "web", "10.5.5.0/24"),
        ("source", "add", "web", "203.0.113.0/24"),
        ("set", "--mtu", "1400", "web"),
        ("rename", "web", "wan0"),
        ("show", "web"),
    ):
        told = web.refusal_without_trace("ct", "netif", *argv, running=["web"])
        assert told == "'web': name one of its interfaces: eth0, eth1"
    assert web.refusal("ct", "netif", "ip", "add", "empty", "1.2.3.5") == "'empty': container has no interface"


def test_what_goes_has_to_be_named(web: Topology) -> None:
    assert "missing argument <netif>" in web.refusal_without_trace(
        "ct", "netif", "del", "web", running=["web"], status=64
    )


def test_an_address_is_missing_where_only_an_interface_was_named(web: Topology) -> None:
    for verb, told in (("add", "missing argument <addr>, or --from-pool NAME"), ("del", "missing argument <addr>")):
        assert web.refusal("ct", "netif", "ip", verb, "web", "eth0", status=64) == told


def test_a_digit_stands_for_an_ip_version(web: Topology) -> None:
    assert listed(web, "ip", "-4") == listed(web, "ip", "-v", "4") == ["1.2.3.4/32"]
    assert listed(web, "ip", "-6") == ["2001:db8:2::4/128"]
    assert listed(web, "route", "-6") == ["2001:db8:2::4/128"]

    web.osctl("ct", "netif", "ip", "del", "-6", "web", "all")

    assert listed(web, "ip") == ["1.2.3.4/32"]
    assert "given twice" in web.refusal("ct", "netif", "ip", "ls", "-4", "-6", status=64)


def test_an_address_that_is_assigned_already_is_left_alone_when_asked_so(web: Topology) -> None:
    def changed(*addresses: str) -> bool:
        argv = ("ct", "netif", "ip", "add", "--if-needed", "--dry-run", "web", *addresses)
        planned = web.osctl(*argv).stdout
        web.osctl(*(each for each in argv if each != "--dry-run"))
        return planned != "# nothing to change\n"

    before = web.comparable_state("web")
    for same in ("1.2.3.4", "1.2.3.4/32", "2001:db8:2::4"):
        assert not changed(same)
    assert web.comparable_state("web") == before
    assert "already assigned" in web.refusal("ct", "netif", "ip", "add", "web", "1.2.3.4")
    assert "already assigned to eth0 as 1.2.3.4/32" in web.refusal_without_trace(
        "ct", "netif", "ip", "add", "--if-needed", "web", "1.2.3.4/30", running=["web"]
    )

    assert changed("1.2.3.4", "1.2.3.5")

    assert listed(web, "ip", "-4") == ["1.2.3.4/32", "1.2.3.5/32"]
    assert web.ping(web.R, "1.2.3.5") == 3
    assert not changed("1.2.3.4", "1.2.3.5", "1.2.3.5")


def test_the_next_hop_of_a_route_has_a_name_of_its_own(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "--next-hop", "1.2.3.4", "web", "10.5.5.0/24")

    (route,) = web.ip_json(web.H, "route", "show", "10.5.5.0/24")
    assert route["gateway"] == "1.2.3.4"
    assert "given twice" in web.refusal(
        "ct", "netif", "route", "add", "--via", "1.2.3.4", "--next-hop", "1.2.3.4", "web", "10.5.6.0/24", status=64
    )


def test_completion_offers_addresses_where_the_only_interface_may_stay_unnamed(web: Topology) -> None:
    def completed(*words: str) -> list[str]:
        return [line.partition("\t")[0] for line in web.osctl("--complete", "ct", "netif", *words).stdout.splitlines()]

    assert completed("ip", "del", "web", "") == ["eth0", "all", "1.2.3.4/32", "2001:db8:2::4/128"]
    assert completed("ip", "del", "web", "1.2.3.4/32", "") == ["2001:db8:2::4/128"]
    assert completed("ip", "del", "web", "eth0", "1.2.3.4/32", "") == ["2001:db8:2::4/128"]
    web.osctl("ct", "netif", "new", "routed", "web", "eth1")
    assert completed("ip", "del", "web", "") == ["eth0", "eth1"]
    assert completed("ip", "del", "web", "eth1", "") == ["all"]


def test_a_program_may_leave_the_interface_out_as_well(web: Topology) -> None:
    with osctl.client.connect(str(web.socket)) as daemon:
        assert daemon.ask("ct_netif_ip_add", container="web", addresses=["1.2.3.5"]).changed
        assert not daemon.ask("ct_netif_ip_add", container="web", addresses=["1.2.3.5"], if_needed=True).changed


def test_each_meaning_of_force_has_a_name_of_its_own(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "web", "198.51.100.0/24")
    web.new_container("part", via=["10.100.10.104/30"])

    for verb, network in (("route", "198.51.100.64/28"), ("ip", "198.51.100.9")):
        told = web.refusal_without_trace("ct", "netif", verb, "add", "part", network, running=["part"])
        assert "198.51.100.0/24 is routed to eth0 of web" in told
        web.osctl("ct", "netif", verb, "add", "--delegate", "part", network)
    told = web.refusal("ct", "netif", "new", "routed", "--via", "192.0.2.64/30", "part", "eth1")
    assert "192.0.2.0/24 is in use on the host" in told
    assert told == web.refusal("ct", "netif", "new", "routed", "--delegate", "--via", "192.0.2.64/30", "part", "eth1")
    web.osctl("ct", "netif", "new", "routed", "--overlap-host", "--via", "192.0.2.64/30", "part", "eth1")
    assert "198.51.100.0/24" in web.refusal(
        "ct", "netif", "new", "routed", "--overlap-host", "--via", "198.51.100.128/30", "part", "eth2"
    )
    web.osctl("ct", "netif", "ip", "add", "web", "10.5.5.1/24")
    assert "--leave-unrouted permits it" in web.refusal("ct", "netif", "route", "del", "web", "10.5.5.0/24")
    web.osctl("ct", "netif", "route", "del", "--leave-unrouted", "web", "10.5.5.0/24")
    assert "--allow-foreign-source permits it" in web.refusal("ct", "netif", "source", "add", "web", "10.100.10.104/30")
    web.osctl("ct", "netif", "source", "add", "--allow-foreign-source", "web", "10.100.10.104/30")


def test_force_means_what_it_always_meant(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "web", "198.51.100.0/24")
    web.new_container("part", start=False)

    web.osctl("ct", "netif", "new", "routed", "-f", "--via", "192.0.2.64/30", "part", "eth0")
    web.osctl("ct", "netif", "set", "--force", "--via", "198.51.100.128/30", "part", "eth0")
    web.osctl("ct", "netif", "ip", "add", "--force", "part", "198.51.100.9")
    assert "nothing to set" in web.refusal("ct", "netif", "set", "--force", "--delegate", "part", status=64)
