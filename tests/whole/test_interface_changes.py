"""Properties of interfaces beside their vias: names, MAC addresses, MTUs, rank, order, automatic vias, delegation."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

import pytest

from whole.host import HOST_4, WORLD_4, Settled, Topology, differences, wait_until

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

NEW = ("ct", "netif", "new", "routed")
SET = ("ct", "netif", "set")


@pytest.fixture
def web(shared: Topology) -> Topology:
    """A running container with addresses of both versions."""
    shared.new_container(
        "web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "1.2.3.5", "10.5.5.1/24", "2001:db8:2::4", "2001:db8:2::5"]
    )
    return shared


def addresses(host: Topology) -> list[str]:
    return [each["addr"].partition("/")[0] for each in host.osctl_json("ct", "netif", "ip", "ls", "web")]


def inside(host: Topology, interface: str = "eth0") -> dict[str, object]:
    (link,) = host.guest_ip_json("web", "link", "show", "dev", interface)
    return link


def source(host: Topology, version: int = 4) -> str:
    routes = host.guest_ip_json("web", f"-{version}", "route", "show", "default")
    best = min(routes, key=lambda each: each.get("metric", 0))
    return str(best["prefsrc"])


def all_answer(host: Topology) -> bool:
    """Whether the router reaches each address of the container within a second or so of the change."""
    for each in addresses(host):
        wait_until(lambda each=each: host.ping(host.R, each, count=1, seconds=0.3) == 1, each, seconds=2)  # type: ignore[misc]
    return True


def without_own_link_local(state: dict[str, list[str]]) -> dict[str, list[str]]:
    """The guest's kernel derives its link-local address from the MAC address when the link comes up, and keeps it."""
    return {
        section: [re.sub(r"\bfe80::[0-9a-f:]{4,}", "fe80::", line) for line in lines]
        for section, lines in state.items()
    }


def restart(host: Topology) -> None:
    host.osctl("ct", "stop", "-k", "web")
    host.osctl("ct", "start", "web")


# --- every change -------------------------------------------------------------------------------------------------


def with_a_second_interface(host: Topology) -> None:
    host.osctl(*NEW, "--via", "10.100.20.0/30", "--via", "fd00:2::/126", "web", "eth1")
    host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2:9::5")


def without_ipv6(host: Topology) -> None:
    host.osctl("ct", "netif", "ip", "del", "-v", "6", "web", "eth0", "all")


CHANGES: dict[str, tuple[Callable[[Topology], None] | None, tuple[str, ...]]] = {
    "another MAC address": (None, (*SET, "--hwaddr", "02:aa:bb:xx:xx:01", "web", "eth0")),
    "an MTU of 1280": (None, (*SET, "--mtu", "1280", "web", "eth0")),
    "an MTU of 9000": (None, (*SET, "--mtu", "9000", "web", "eth0")),
    "MAC address, MTU and via": (
        None,
        (*SET, "--hwaddr", "02:aa:bb:00:00:01", "--mtu", "1400", "--via", "10.9.0.0/31", "web", "eth0"),
    ),
    "no IPv6": (without_ipv6, (*SET, "--no-via", "6", "web", "eth0")),
    "automatic vias": (None, (*SET, "--via", "auto", "web", "eth0")),
    "a public via": (None, (*SET, "--via-public", "web", "eth0")),
    "another name": (None, ("ct", "netif", "rename", "web", "eth0", "wan0")),
    "another name of two": (with_a_second_interface, ("ct", "netif", "rename", "web", "eth1", "a-longer-name15")),
    "another default": (with_a_second_interface, (*SET, "--default", "web", "eth1")),
    "a third interface": (with_a_second_interface, (*NEW, "web", "eth2")),
    "another order": (None, ("ct", "netif", "ip", "reorder", "web", "eth0", "1.2.3.5", "--first")),
    "another order of IPv6": (
        None,
        ("ct", "netif", "ip", "reorder", "web", "eth0", "2001:db8:2::5", "--before", "2001:db8:2::4"),
    ),
    "a next hop": (None, ("ct", "netif", "route", "add", "--via", "1.2.3.5", "web", "eth0", "203.0.113.0/24")),
    "a next hop of IPv6": (
        None,
        ("ct", "netif", "route", "add", "--via", "2001:db8:2::5", "web", "eth0", "2001:db8:2:7::/64"),
    ),
    "an address left unrouted": (None, ("ct", "netif", "route", "del", "-f", "web", "eth0", "10.5.5.0/24")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_announced_by_its_dry_run_and_leads_to_the_state_of_a_fresh_start(
    web: Topology, name: str
) -> None:
    prepare, argv = CHANGES[name]
    if prepare is not None:
        prepare(web)
    before = web.comparable_state("web"), web.stored()
    init = web.init_pid("web")

    announced = web.osctl("--dry-run", *argv).stdout
    assert (web.comparable_state("web"), web.stored()) == before
    web.osctl(*argv)

    live = web.comparable_state("web")
    assert bool(differences(before[0], live)) == (announced != "# configuration only\n"), announced
    assert web.init_pid("web") == init
    if "unrouted" not in name:
        assert all_answer(web)
    restart(web)
    assert not differences(without_own_link_local(live), without_own_link_local(web.comparable_state("web")))


@pytest.mark.parametrize("name", [each for each, (prepare, _) in CHANGES.items() if prepare is None])
def test_each_change_of_a_stopped_container_leads_where_the_live_one_leads(web: Topology, name: str) -> None:
    _, argv = CHANGES[name]
    web.osctl("ct", "stop", "-k", "web")

    planned = web.osctl("--dry-run", *argv).stdout.splitlines()
    # What is answered for its networks may change, and nothing else.
    rest = [each for each in planned if "element inet osctl stopped" not in each]
    assert rest == ["# stopped: configuration only"] or (rest == ["# on the host"] and rest != planned)
    web.osctl(*argv)

    web.osctl("ct", "start", "web")
    stopped_then_started = web.comparable_state("web")
    restart(web)
    assert not differences(stopped_then_started, web.comparable_state("web"))
    if "unrouted" not in name:
        assert all_answer(web)


# --- names --------------------------------------------------------------------------------------------------------


def test_a_renamed_interface_keeps_its_addresses_routes_order_and_host_link(web: Topology) -> None:
    before, order = web.osctl_json("ct", "netif", "show", "web", "eth0"), addresses(web)

    web.osctl("ct", "netif", "rename", "web", "eth0", "wan0")

    after = web.osctl_json("ct", "netif", "show", "web", "wan0")
    assert {**after, "name": "eth0"} == before
    assert addresses(web) == order
    assert source(web) == "1.2.3.4"
    assert [each["ifname"] for each in web.guest_ip_json("web", "link", "show") if each["ifname"] != "lo"] == ["wan0"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("eth0", "eth1", "already exists"),
        ("eth0", "sixteen-letters-", "longer than 15 bytes"),
        ("eth0", "a/b", "invalid interface name"),
        ("eth0", "a.b", "invalid interface name"),
        ("eth0", "lo", "reserved"),
        ("eth0", "ěth0", "invalid interface name"),
        ("eth9", "eth2", "not found"),
    ],
)
def test_a_name_that_is_taken_or_that_no_link_could_have_is_refused(
    settled: Settled, old: str, new: str, words: str
) -> None:
    message = settled.refusal("ct", "netif", "rename", "web", old, new)

    assert words in message
    assert (old if words == "not found" else new) in message


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """A host with a running container of two interfaces, and a stopped one, to which nothing must happen."""
    with Topology() as own:
        own.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "10.5.5.1/24", "2001:db8:2::4"])
        own.osctl(*NEW, "--via", "10.100.20.0/30", "web", "eth1")
        own.new_container("other", via=["10.200.0.0/30"], start=False)
        own.osctl("ct", "netif", "route", "add", "other", "eth0", "203.0.113.0/24")
        own.osctl("ct", "netif", "ip", "add", "other", "eth0", "203.0.113.9")
        yield Settled(own, running=["web"])


# --- MAC address, MTU, policy -------------------------------------------------------------------------------------


def test_a_mac_address_keeps_what_was_given_of_it_and_stays_the_same(shared: Topology) -> None:
    shared.osctl("ct", "new", "--distribution", "busybox", "web")
    shared.osctl(*NEW, "--via", VIA_4, "--hwaddr", "02:xx:xx:xx:xx:01", "web", "eth0")
    shared.osctl("ct", "start", "web")
    chosen = inside(shared)["address"]

    restart(shared)

    assert str(chosen).startswith("02:")
    assert str(chosen).endswith(":01")
    assert inside(shared)["address"] == chosen == shared.osctl_json("ct", "netif", "show", "web", "eth0")["hwaddr"]
    shared.osctl(*SET, "--hwaddr", "-", "web", "eth0")
    assert inside(shared)["address"] == shared.osctl_json("ct", "netif", "show", "web", "eth0")["hwaddr"] != chosen
    assert shared.ping(shared.H, "10.100.10.102") == 3


@pytest.mark.parametrize("mtu", [1280, 9000])
def test_an_mtu_holds_at_both_ends_at_once_and_after_a_start(web: Topology, mtu: int) -> None:
    web.osctl(*SET, "--mtu", str(mtu), "web", "eth0")

    for _ in range(2):
        (outside,) = web.ip_json(web.H, "link", "show", "dev", web.veth("web"))
        assert (outside["mtu"], inside(web)["mtu"]) == (mtu, mtu)
        assert all_answer(web)
        restart(web)
    web.osctl(*SET, "--mtu", "-", "web", "eth0")
    assert inside(web)["mtu"] == 1500


def test_a_host_end_that_gets_ipv6_with_a_larger_mtu_keeps_no_address_that_the_kernel_gave_it(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4], addresses=["1.2.3.4"])
    before = shared.comparable_state("web")
    shared.osctl(*SET, "--mtu", "1000", "web", "eth0")

    planned = shared.osctl(*SET, "--mtu", "1500", "web", "eth0", "--dry-run").stdout
    shared.osctl(*SET, "--mtu", "1500", "web", "eth0")

    veth = shared.veth("web")
    (link,) = shared.ip_json(shared.H, "-6", "addr", "show", "dev", veth)
    assert [each["local"] for each in link["addr_info"]] == ["fe80::1"]
    assert shared.sysctl(shared.H, f"net/ipv6/conf/{veth}/addr_gen_mode") == "1"
    assert f"sysctl -w net.ipv6.conf.{veth}.addr_gen_mode=1" in planned
    assert differences(before, shared.comparable_state("web")) == []


def test_the_guest_policy_is_shown(web: Topology) -> None:
    web.osctl(*SET, "--guest", "enforce", "web", "eth0")

    assert web.osctl_json("ct", "netif", "show", "web", "eth0")["guest"] == "enforce"


@pytest.mark.parametrize(
    ("argv", "words", "status"),
    [
        ((*SET, "--hwaddr", "03:00:00:00:00:01", "web", "eth0"), "'03:00:00:00:00:01' is a multicast address", 1),
        (
            (*SET, "--hwaddr", "00:00:00:00:00:00", "web", "eth0"),
            "'00:00:00:00:00:00' is not a valid interface address",
            1,
        ),
        ((*SET, "--hwaddr", "02:00:00:00:01", "web", "eth0"), "'02:00:00:00:01' is not a MAC address", 1),
        ((*NEW, "--hwaddr", "bogus", "web", "eth2"), "'bogus' is not a MAC address", 1),
        ((*SET, "--mtu", "67", "web", "eth1"), "MTU 67: must be from 68 to 65535", 1),
        ((*SET, "--mtu", "65536", "web", "eth1"), "MTU 65536: must be from 68 to 65535", 1),
        ((*SET, "--mtu", "1279", "web", "eth0"), "MTU 1279: IPv6 requires at least 1280", 1),
        ((*SET, "--mtu", "many", "web", "eth0"), "--mtu many", 64),
        ((*NEW, "--mtu", "1000", "web", "eth2"), "MTU 1000: IPv6 requires at least 1280", 1),
        ((*SET, "--guest", "never", "web", "eth0"), "--guest never", 64),
        ((*SET, "--no-via", "4", "web", "eth0"), "expected network for IPv4, there are routes present: 1.2.3.4/32", 1),
        ((*SET, "--no-via", "6", "web", "eth1"), "eth1: network interface not configured for IPv6", 1),
        ((*SET, "--no-via", "4", "--via", "10.9.0.0/30", "web", "eth1"), "--no-via 4", 64),
        ((*SET, "--no-via", "5", "web", "eth1"), "--no-via 5", 64),
        ((*SET, "--via", "192.0.2.128/30", "web", "eth0"), "192.0.2.128/30: 192.0.2.0/24 is in use on the host", 1),
        ((*NEW, "--via", "192.0.2.0/30", "web", "eth2"), f"{HOST_4} is an address of the host, on up0", 1),
        ((*NEW, "-f", "--via", "192.0.2.0/30", "web", "eth2"), f"{HOST_4} is an address of the host, on up0", 1),
        (("ct", "netif", "ip", "add", "web", "eth0", "192.0.2.77/24"), "assign 192.0.2.77/32 instead", 1),
        (("ct", "netif", "ip", "reorder", "web", "eth0", "1.2.3.4"), "either --first or --before", 64),
        (("ct", "netif", "ip", "reorder", "web", "eth0", "1.2.3.9", "--first"), "1.2.3.9: address not found", 1),
        (
            ("ct", "netif", "ip", "reorder", "web", "eth0", "1.2.3.4", "--before", "2001:db8:2::4"),
            "2001:db8:2::4: IP version mismatch",
            1,
        ),
        (("ct", "netif", "ip", "reorder", "web", "eth0", "1.2.3.4", "--before", "1.2.3.4"), "before itself", 1),
        (
            ("ct", "netif", "route", "add", "--via", "1.2.3.9", "web", "eth0", "198.51.100.0/24"),
            "the next hop of a route must be assigned",
            1,
        ),
        (
            ("ct", "netif", "route", "add", "--via", "1.2.3.4", "web", "eth0", "2001:db8:2:7::/64"),
            "2001:db8:2:7::/64: IP version mismatch",
            1,
        ),
        (("ct", "netif", "ip", "add", "-f", "web", "eth0", "203.0.113.9"), "9 is assigned to eth0 of other", 1),
        (("ct", "netif", "route", "add", "-f", "web", "eth0", "203.0.113.0/24"), "is routed to eth0 of other", 1),
        (("ct", "netif", "route", "add", "-f", "web", "eth0", "203.0.112.0/23"), "9 is assigned to eth0 of other", 1),
        (("ct", "netif", "ip", "add", "web", "eth0", "203.0.113.7"), "is routed to eth0 of other", 1),
        (("ct", "netif", "ip", "add", "-f", "web", "eth0", "10.200.0.2"), "private interconnecting network of eth0", 1),
    ],
)
def test_what_makes_no_sense_is_refused(settled: Settled, argv: tuple[str, ...], words: str, status: int) -> None:
    message = settled.refusal(*argv, status=status)

    assert words in message


# --- automatic vias -----------------------------------------------------------------------------------------------


def test_an_interface_needs_no_more_than_a_name(shared: Topology) -> None:
    shared.osctl("ct", "new", "--distribution", "busybox", "web")

    shared.osctl(*NEW, "web", "eth0")
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "2001:db8:2::4")
    shared.osctl("ct", "start", "web")

    via = shared.osctl_json("ct", "netif", "show", "web", "eth0")["via"]
    assert via["4"] == "169.254.1.0/31"
    assert via["6"].startswith("fd")
    assert via["6"].endswith("/127")
    assert all_answer(shared)
    assert shared.guest_ping("web", WORLD_4, count=1) == 1


def test_two_hundred_automatic_networks_differ_and_freed_ones_are_used_again(shared: Topology) -> None:
    shared.osctl("ct", "new", "--distribution", "busybox", "web")
    for number in range(200):
        shared.osctl(*NEW, "web", f"eth{number}")

    rows = shared.osctl_json("ct", "netif", "ls", "web")
    vias = [via for row in rows for via in row["via"].values()]
    assert len(set(vias)) == len(vias) == 400
    freed = shared.osctl_json("ct", "netif", "show", "web", "eth77")["via"]
    shared.osctl("ct", "netif", "del", "web", "eth77")
    shared.osctl(*NEW, "web", "again")
    assert shared.osctl_json("ct", "netif", "show", "web", "again")["via"] == freed


def test_auto_fills_the_version_that_is_not_named(shared: Topology) -> None:
    shared.osctl("ct", "new", "--distribution", "busybox", "web")

    shared.osctl(*NEW, "--via", VIA_4, "--via", "auto", "web", "eth0")
    shared.osctl(*NEW, "--no-via", "6", "web", "eth1")

    via = shared.osctl_json("ct", "netif", "show", "web", "eth0")["via"]
    assert via["4"] == VIA_4
    assert via["6"].startswith("fd")
    assert shared.osctl_json("ct", "netif", "show", "web", "eth1")["via"] == {"4": "169.254.1.0/31"}


def test_an_automatic_network_is_none_that_the_host_uses(shared: Topology) -> None:
    shared.osctl("ct", "new", "--distribution", "busybox", "web")
    shared.ip(shared.H, "addr", "add", "169.254.1.9/28", "dev", "up0")
    try:
        shared.osctl(*NEW, "web", "eth0")
    finally:
        shared.ip(shared.H, "addr", "del", "169.254.1.9/28", "dev", "up0")

    assert shared.osctl_json("ct", "netif", "show", "web", "eth0")["via"]["4"] == "169.254.1.16/31"


def test_exhausted_pools_are_named() -> None:
    settings = '[via]\nipv4_pools = ["10.77.0.0/30"]\nipv6_pools = ["fd77::/126"]\nreserved = []\n'
    with Topology(settings=settings) as host:
        host.osctl("ct", "new", "--distribution", "busybox", "web")
        for name in ("eth0", "eth1"):
            host.osctl(*NEW, "web", name)

        message = host.refusal_without_trace(*NEW, "web", "eth2")

        assert "via.ipv4_pools = 10.77.0.0/30" in message


# --- order, next hops, delegation ---------------------------------------------------------------------------------


def test_the_first_address_in_order_is_the_one_that_the_world_sees(web: Topology) -> None:
    web.osctl("ct", "netif", "ip", "reorder", "web", "eth0", "1.2.3.5", "--first")

    assert addresses(web)[:2] == ["1.2.3.5", "1.2.3.4"]
    assert source(web) == "1.2.3.5"
    with web.capture(web.R, "down0", "icmp") as capture:
        assert web.guest_ping("web", WORLD_4, count=1) == 1
        capture.wait_for(f"1.2.3.5 > {WORLD_4}: ICMP echo request")
    web.osctl("ct", "netif", "ip", "reorder", "web", "eth0", "10.5.5.1", "--before", "1.2.3.5")
    assert addresses(web)[:3] == ["10.5.5.1", "1.2.3.5", "1.2.3.4"]
    assert source(web) == "10.5.5.1"


def listed_inside(host: Topology, network: str) -> list[str]:
    """The addresses of a subnet as the guest's kernel lists them."""
    (link,) = host.guest_ip_json("web", "-4", "addr", "show", "dev", "eth0")
    return [each["local"] for each in link["addr_info"] if f"{each['local']}/{each['prefixlen']}" in within(network)]


def within(network: str) -> set[str]:
    subnet = ipaddress.ip_network(network)
    return {f"{each}/{subnet.prefixlen}" for each in subnet.hosts()}


def test_addresses_of_one_subnet_stand_inside_as_the_operator_orders_them(web: Topology) -> None:
    first, second, third = "198.51.100.7", "198.51.100.8", "198.51.100.9"
    reorder = ("ct", "netif", "ip", "reorder", "web", "eth0")
    web.osctl("ct", "netif", "ip", "del", "-v", "4", "web", "eth0", "all")
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", *(f"{each}/28" for each in (first, second, third)))
    assert listed_inside(web, "198.51.100.0/28") == [first, second, third]
    assert source(web) == first
    init = web.init_pid("web")

    for argv, expected in (
        ((third, "--first"), [third, first, second]),
        ((second, "--before", first), [third, second, first]),
        ((second, "--first"), [second, third, first]),
    ):
        web.osctl(*reorder, *argv)

        assert listed_inside(web, "198.51.100.0/28") == expected
        assert [each for each in addresses(web) if ":" not in each] == expected
        assert source(web) == expected[0]
        assert [web.ping(web.R, each) for each in expected] == [3, 3, 3]
        assert web.guest_ping("web", WORLD_4, count=1) == 1

    assert web.osctl("--dry-run", *reorder, second, "--first").stdout == "# nothing to change\n"
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", second)
    assert listed_inside(web, "198.51.100.0/28") == [third, first]
    assert source(web) == third
    assert web.init_pid("web") == init
    restart(web)
    assert listed_inside(web, "198.51.100.0/28") == [third, first]


def test_an_order_that_the_tenant_made_is_left_until_that_is_not_to_be_or_another_is_asked_for(web: Topology) -> None:
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.2/24", "10.5.5.3/24")
    web.in_guest_network("web", "ip", "addr", "del", "10.5.5.2/24", "dev", "eth0")
    web.in_guest_network("web", "ip", "addr", "add", "10.5.5.2/24", "brd", "+", "dev", "eth0")
    assert listed_inside(web, "10.5.5.0/24") == ["10.5.5.1", "10.5.5.3", "10.5.5.2"]

    web.restart_daemon()
    assert listed_inside(web, "10.5.5.0/24") == ["10.5.5.1", "10.5.5.3", "10.5.5.2"]
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.4/24")
    assert listed_inside(web, "10.5.5.0/24") == ["10.5.5.1", "10.5.5.3", "10.5.5.2", "10.5.5.4"]
    web.osctl("ct", "netif", "ip", "reorder", "web", "eth0", "10.5.5.4", "--before", "10.5.5.2")
    assert listed_inside(web, "10.5.5.0/24") == ["10.5.5.1", "10.5.5.4", "10.5.5.2", "10.5.5.3"]
    web.in_guest_network("web", "ip", "addr", "del", "10.5.5.4/24", "dev", "eth0")
    web.in_guest_network("web", "ip", "addr", "add", "10.5.5.4/24", "brd", "+", "dev", "eth0")
    assert listed_inside(web, "10.5.5.0/24") == ["10.5.5.1", "10.5.5.2", "10.5.5.3", "10.5.5.4"]

    web.osctl(*SET, "--guest", "enforce", "web", "eth0")

    assert listed_inside(web, "10.5.5.0/24") == ["10.5.5.1", "10.5.5.4", "10.5.5.2", "10.5.5.3"]
    assert all_answer(web)


def test_the_default_interface_is_the_first_one(web: Topology) -> None:
    with_a_second_interface(web)
    assert (source(web), source(web, 6)) == ("1.2.3.4", "2001:db8:2::4")

    web.osctl(*SET, "--default", "web", "eth1")

    assert (source(web), source(web, 6)) == ("198.51.100.5", "2001:db8:2:9::5")
    assert [each["name"] for each in web.osctl_json("ct", "netif", "ls", "web")] == ["eth1", "eth0"]


def test_a_route_goes_with_its_next_hop_and_that_is_said(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "--via", "1.2.3.5", "web", "eth0", "203.0.113.0/24")
    assert re.search(r"203\.0\.113\.0/24 +1\.2\.3\.5\b", web.osctl("ct", "netif", "route", "ls", "web", "eth0").stdout)

    said = web.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.5").stdout

    assert said == "removed route 203.0.113.0/24 via 1.2.3.5\n"
    assert web.ip_json(web.H, "route", "show", "203.0.113.0/24") == []


def test_a_part_of_a_network_is_given_on_by_force_and_cannot_be_used_twice(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4])
    shared.osctl("ct", "netif", "route", "add", "web", "eth0", "203.0.113.0/24")
    shared.new_container("inner", via=["10.100.20.0/30"])
    assert "is routed to eth0 of web" in shared.refusal("ct", "netif", "ip", "add", "inner", "eth0", "203.0.113.7")

    shared.osctl("ct", "netif", "ip", "add", "--force", "inner", "eth0", "203.0.113.7")

    assert shared.ping(shared.R, "203.0.113.7") == 3
    message = shared.refusal_without_trace("ct", "netif", "ip", "add", "web", "eth0", "203.0.113.7", running=["web"])
    assert "203.0.113.7/32 is routed to eth0 of inner" in message
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "203.0.113.8")
    assert shared.ping(shared.R, "203.0.113.8") == 3


def test_who_was_given_a_part_may_keep_less_of_it_without_asking_again(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4])
    shared.osctl("ct", "netif", "route", "add", "web", "eth0", "203.0.113.0/24")
    shared.new_container("inner", via=["10.100.20.0/30"], addresses=["1.2.3.4"])
    shared.osctl("ct", "netif", "ip", "add", "--force", "inner", "eth0", "203.0.113.7")
    shared.osctl("ct", "netif", "route", "add", "--force", "--via", "1.2.3.4", "inner", "eth0", "203.0.113.16/28")
    shared.osctl("ct", "netif", "ip", "add", "inner", "eth0", "203.0.113.17")

    shared.osctl("ct", "netif", "route", "del", "--force", "inner", "eth0", "203.0.113.7")
    shared.osctl("ct", "netif", "ip", "del", "inner", "eth0", "1.2.3.4")

    assert re.search(r"203\.0\.113\.7/32 +unrouted", shared.osctl("ct", "netif", "ip", "ls", "inner", "eth0").stdout)
    assert shared.osctl("ct", "netif", "route", "ls", "-H", "-o", "addr", "inner").stdout.split() == ["203.0.113.17/32"]
    assert shared.ping(shared.R, "203.0.113.17") == 3
    assert "is routed to eth0 of web" in shared.refusal("ct", "netif", "ip", "add", "inner", "eth0", "203.0.113.18")


def test_a_network_of_ipv6_that_comes_with_an_address_is_none_of_the_host_as_it_is_now(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_6])
    shared.restart_daemon()

    message = shared.refusal_without_trace("ct", "netif", "ip", "add", "web", "eth0", "2001:db8::5/32", running=["web"])

    assert message == "2001:db8::/32: 2001:db8:1::1 is an address of the host, on up0; assign 2001:db8::5/128 instead"
