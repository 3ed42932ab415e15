"""Interfaces come, change and go on running containers, also after something was broken by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from whole.host import WORLD_6, Topology, differences

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

NEW = ("ct", "netif", "new", "routed")


def restart(host: Topology, name: str) -> None:
    host.osctl("ct", "stop", "-k", name)
    host.osctl("ct", "start", name)


def plug_in_a_second_interface(host: Topology) -> None:
    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.20.0/30", "--via", "fd00:2::/126", "web", "eth1")
    host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2::5")


def take_the_second_interface_out(host: Topology) -> None:
    plug_in_a_second_interface(host)
    host.osctl("ct", "netif", "del", "web", "eth1")


def take_the_first_interface_out(host: Topology) -> None:
    plug_in_a_second_interface(host)
    host.osctl("ct", "netif", "del", "web", "eth0")


def take_out_and_plug_in_again(host: Topology) -> None:
    host.osctl("ct", "netif", "del", "web", "eth0")
    host.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "--via", VIA_6, "web", "eth0")


def another_via_4(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "10.50.0.0/30", "web", "eth0")


def another_via_6(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "fd00:5::/127", "web", "eth0")


def both_vias(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "10.50.0.0/31", "--via", "fd00:5::/126", "web", "eth0")


def swapped_ends(host: Topology) -> None:
    host.osctl(
        *("ct", "netif", "set", "--host-addr", "10.100.10.102", "--ct-addr", "10.100.10.101"),
        *("--host-addr", "fd00:1::2", "--ct-addr", "fd00:1::1", "web", "eth0"),
    )


def a_wider_prefix_of_the_same_ends(host: Topology) -> None:
    host.osctl(
        *("ct", "netif", "set", "--via", "10.100.10.96/28", "--host-addr", "10.100.10.101"),
        *("--ct-addr", "10.100.10.102", "--via", "fd00:1::/120", "web", "eth0"),
    )


def wide_and_narrow_again(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "10.0.0.0/24", "--via", "2001:db8:2:7::/64", "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.0.0.9", "2001:db8:2:7::9")
    host.osctl("ct", "netif", "set", "--via", VIA_4, "--via", VIA_6, "web", "eth0")


CHANGES = [
    plug_in_a_second_interface,
    take_the_second_interface_out,
    take_the_first_interface_out,
    take_out_and_plug_in_again,
    another_via_4,
    another_via_6,
    both_vias,
    swapped_ends,
    a_wider_prefix_of_the_same_ends,
    wide_and_narrow_again,
]


@pytest.mark.parametrize("change", CHANGES, ids=[each.__name__ for each in CHANGES])
def test_a_live_change_leads_to_the_state_of_a_fresh_start(
    shared: Topology, change: Callable[[Topology], None]
) -> None:
    shared.new_container(
        "web",
        via=[VIA_4, VIA_6],
        addresses=["1.2.3.4/32", "1.2.3.5/32", "10.5.5.1/24", "2001:db8:2::4/128", "2001:db8:2:5::1/64"],
    )
    init = shared.init_pid("web")

    change(shared)

    live = shared.comparable_state("web")
    assert shared.init_pid("web") == init
    reachable = [each["addr"].partition("/")[0] for each in shared.osctl_json("ct", "netif", "ip", "ls", "web")]
    assert [shared.ping(shared.R, each, count=1) for each in reachable] == [1] * len(reachable)
    restart(shared, "web")
    assert not differences(live, shared.comparable_state("web"))


def test_an_interface_is_gone_from_the_host_when_it_is_deleted(shared: Topology) -> None:
    shared.new_container("web", start=False)
    bare = shared.comparable_state()
    shared.osctl("ct", "start", "web")
    shared.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "--via", VIA_6, "web", "eth0")
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "2001:db8:2::4")

    shared.osctl("ct", "netif", "del", "web", "eth0")

    assert not differences(bare, shared.comparable_state())
    assert [each["ifname"] for each in shared.guest_ip_json("web", "link")] == ["lo"]
    assert shared.stored()["holding"] == []
    assert "eth0" in shared.refusal("ct", "netif", "show", "web", "eth0")


def test_a_new_via_loses_no_packet_of_a_running_ping(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    argv = ["nsenter", f"--net=/run/netns/{shared.R}", "ping", "-n", "-q", "-i", "0.005", "-c", "200"]
    pings = [
        subprocess.Popen([*argv, address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for address in ("1.2.3.4", "2001:db8:2::4")
    ]

    for number in range(5):
        shared.osctl(
            *("ct", "netif", "set", "--via", f"10.50.{number}.0/30", "--via", f"fd00:5{number}::/126", "web", "eth0")
        )

    for ping in pings:
        said, _ = ping.communicate(timeout=20)
        assert "200 packets transmitted, 200 received" in said


def test_an_address_that_loses_its_network_gets_a_route(shared: Topology) -> None:
    shared.new_container("web", via=["10.0.0.0/24"], addresses=["10.0.0.77/24"])

    shared.osctl("ct", "netif", "set", "--via", VIA_4, "web", "eth0")

    (route,) = shared.ip_json(shared.H, "route", "show", "10.0.0.77")
    assert route["gateway"] == "10.100.10.102"
    assert shared.ping(shared.R, "10.0.0.77") == 3
    (default,) = shared.guest_ip_json("web", "route", "show", "default")
    assert (default["gateway"], default["prefsrc"]) == ("10.100.10.101", "10.0.0.77")


def test_set_keeps_the_version_that_it_does_not_name(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], start=False)

    shared.osctl("ct", "netif", "set", "web", "eth0", "--via", "10.50.0.0/30")

    assert shared.osctl_json("ct", "netif", "show", "web", "eth0")["via"] == {"4": "10.50.0.0/30", "6": VIA_6}


def test_a_version_can_be_added_to_a_running_interface(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4], addresses=["1.2.3.4"])

    shared.osctl("ct", "netif", "set", "--via", VIA_6, "web", "eth0")
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::4")

    assert shared.ping(shared.R, "2001:db8:2::4") == 3
    assert shared.guest_ping("web", WORLD_6, count=1) == 1
    live = shared.comparable_state("web")
    restart(shared, "web")
    assert not differences(live, shared.comparable_state("web"))


def test_a_new_first_interface_of_a_version_moves_the_others_behind_it(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4], addresses=["1.2.3.4"])
    shared.osctl(*NEW, "--via", "10.100.20.0/30", "--via", "fd00:2::/126", "web", "eth1")
    shared.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2::5")

    shared.osctl("ct", "netif", "set", "--via", VIA_6, "web", "eth0")

    found = shared.guest_ip_json("web", "-6", "route", "show", "default")
    assert {(each["dev"], each["metric"]) for each in found} == {("eth0", 16), ("eth1", 116)}
    for address in ("1.2.3.4", "198.51.100.5", "2001:db8:2::5"):
        assert shared.ping(shared.R, address, count=1) == 1
    live = shared.comparable_state("web")
    restart(shared, "web")
    assert not differences(live, shared.comparable_state("web"))


def test_interfaces_with_a_part_of_anothers_network_and_with_the_rest_of_it_can_be_renamed(shared: Topology) -> None:
    shared.new_container("wide", via=["10.100.10.100/30"])
    shared.new_container("part", via=["10.100.10.104/30"], start=False)
    shared.osctl("ct", "netif", "route", "add", "wide", "eth0", "10.5.5.0/24")
    shared.osctl("ct", "netif", "route", "add", "--force", "part", "eth0", "10.5.5.0/28")

    shared.osctl("ct", "netif", "rename", "wide", "eth0", "wan0")
    shared.osctl("ct", "netif", "rename", "part", "eth0", "wan0")

    assert {(each["ctid"], each["netif"]) for each in shared.osctl_json("ct", "netif", "route", "ls")} == {
        ("wide", "wan0"),
        ("part", "wan0"),
    }


def test_an_mtu_too_small_for_ipv6_leaves_ipv4(shared: Topology) -> None:
    shared.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])

    shared.osctl("ct", "netif", "set", "--mtu", "1000", "web", "eth0")
    assert shared.ping(shared.R, "1.2.3.4") == 3
    shared.osctl("ct", "restart", "-k", "web")
    assert shared.ping(shared.R, "1.2.3.4") == 3
    shared.osctl("ct", "netif", "set", "--mtu", "-", "--via", "fd00:1::/126", "web", "eth0")
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::4")

    assert shared.ping(shared.R, "1.2.3.4") == 3
    assert shared.ping(shared.R, "2001:db8:2::4") == 3


# --- after something was broken by hand ------------------------------------------------------------------------------


def break_nothing(_host: Topology) -> None:
    pass


def take_the_link_down_inside(host: Topology) -> None:
    host.guest("web", "ip", "link", "set", "eth0", "down")


def take_the_link_down_on_the_host(host: Topology) -> None:
    host.ip(host.H, "link", "set", host.veth("web"), "down")


def delete_the_link_inside(host: Topology) -> None:
    host.guest("web", "ip", "link", "del", "eth0")


def delete_the_link_on_the_host(host: Topology) -> None:
    host.ip(host.H, "link", "del", host.veth("web"))


def rename_the_link_inside(host: Topology) -> None:
    host.in_guest_network("web", "ip", "link", "set", "eth0", "name", "mine")


def give_the_link_another_mac_inside(host: Topology) -> None:
    host.in_guest_network("web", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")


def put_the_host_link_into_no_group(host: Topology) -> None:
    host.ip(host.H, "link", "set", host.veth("web"), "group", "default")


def flush_the_addresses_on_both_sides(host: Topology) -> None:
    host.in_guest_network("web", "ip", "addr", "flush", "dev", "eth0", "scope", "global")
    host.in_guest_network("web", "ip", "-4", "addr", "flush", "dev", "eth0")
    host.ip(host.H, "addr", "flush", "dev", host.veth("web"))


def flush_the_routes_inside(host: Topology) -> None:
    for version in ("-4", "-6"):
        host.in_guest_network("web", "ip", version, "route", "flush", "table", "main")
    # Not ours: a route for the link-local address that the guest's kernel gave itself.
    host.in_guest_network("web", "ip", "route", "add", "fe80::/64", "dev", "eth0", "proto", "kernel", "metric", "256")


def let_addresses_expire_inside(host: Topology) -> None:
    for address in ("1.2.3.4/32", "2001:db8:2::4/128"):
        lifetime = ("valid_lft", "1000", "preferred_lft", "1000")
        host.in_guest_network("web", "ip", "addr", "change", address, "dev", "eth0", *lifetime)


ACCIDENTS = [
    break_nothing,
    take_the_link_down_inside,
    take_the_link_down_on_the_host,
    delete_the_link_inside,
    delete_the_link_on_the_host,
    rename_the_link_inside,
    put_the_host_link_into_no_group,
]

#: What a tenant may want so: only who is asked to mends it.
CHANGES_INSIDE = [
    *ACCIDENTS,
    give_the_link_another_mac_inside,
    flush_the_addresses_on_both_sides,
    flush_the_routes_inside,
    let_addresses_expire_inside,
]


@pytest.mark.parametrize("accident", ACCIDENTS, ids=[each.__name__ for each in ACCIDENTS])
def test_the_next_change_mends_what_was_broken_by_hand(shared: Topology, accident: Callable[[Topology], None]) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    accident(shared)

    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5", "2001:db8:2::5")

    for address in ("1.2.3.4", "1.2.3.5", "2001:db8:2::4", "2001:db8:2::5"):
        assert shared.ping(shared.R, address, count=1) == 1
    live = shared.comparable_state("web")
    restart(shared, "web")
    assert not differences(live, shared.comparable_state("web"))


@pytest.mark.parametrize("change", CHANGES_INSIDE, ids=[each.__name__ for each in CHANGES_INSIDE])
def test_a_reconcile_mends_what_was_broken_by_hand(shared: Topology, change: Callable[[Topology], None]) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    before = shared.comparable_state("web")
    change(shared)

    shared.osctl("net", "reconcile", "web")

    for address in ("1.2.3.4", "2001:db8:2::4"):
        assert shared.ping(shared.R, address, count=1) == 1
    assert not differences(before, shared.comparable_state("web"))


def test_links_of_others_under_our_names_are_in_the_way_and_stay(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6])
    second = (*NEW, "--via", "10.100.20.0/30", "web", "eth1")

    # given: somebody's own link inside, and on the host one with somebody's own address
    shared.in_guest_network("web", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "mine")
    assert "eth1" in shared.refusal_without_trace(*second, running=["web"])
    shared.in_guest_network("web", "ip", "link", "del", "eth1")
    shared.ip(shared.H, "link", "add", "osweb-eth1", "type", "veth", "peer", "name", "theirs")
    shared.ip(shared.H, "addr", "add", "10.200.0.1/30", "dev", "osweb-eth1")
    assert "osweb-eth1" in shared.refusal_without_trace(*second, running=["web"])

    # when the configuration has it, because the container was stopped
    shared.osctl("ct", "stop", "-k", "web")
    shared.osctl(*second)
    before = shared.comparable_state()
    result = shared.osctl("-q", "ct", "start", "web", check=False)

    # then the start fails in words, and theirs is as it was
    assert (result.status, result.stdout) == (1, "")
    assert "osweb-eth1" in result.stderr
    assert not differences(before, shared.comparable_state())
    shared.ip(shared.H, "link", "del", "osweb-eth1")
    shared.osctl("ct", "start", "web")
    assert shared.ping(shared.H, "10.100.20.2") == 3


def test_a_link_of_the_tenant_under_the_name_of_ours_is_in_the_way_and_stays(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    rename_the_link_inside(shared)
    shared.in_guest_network("web", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "theirs")
    before = shared.comparable_state("web")
    add = ("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    assert "container web already has link eth0" in shared.refusal_without_trace(*add, running=["web"])
    assert "container web already has link eth0" in shared.refusal("net", "reconcile", "web")
    assert "container web already has link eth0" in shared.osctl("net", "reconcile", "web", "--dry-run").stdout

    assert not differences(before, shared.comparable_state("web"))
    assert shared.ping(shared.R, "1.2.3.4") == 3
    shared.in_guest_network("web", "ip", "link", "del", "eth0")
    shared.osctl(*add)
    assert shared.ping(shared.R, "1.2.3.5") == 3


def test_a_freed_network_is_free_for_others_at_once(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4"])
    shared.new_container("other", via=["10.100.30.0/30"])

    shared.osctl("ct", "netif", "set", "--via", "10.50.0.0/30", "web", "eth0")
    shared.osctl("ct", "netif", "set", "--via", VIA_4, "other", "eth0")

    assert shared.ping(shared.H, "10.100.10.102") == 3
    assert shared.ping(shared.R, "1.2.3.4") == 3
    shared.osctl("ct", "del", "-f", "web")
    shared.osctl("ct", "netif", "ip", "add", "other", "eth0", "1.2.3.4")
    assert shared.ping(shared.R, "1.2.3.4") == 3
