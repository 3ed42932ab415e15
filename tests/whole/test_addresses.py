"""Addresses: assigned, routed, refused and taken away, on stopped and on running containers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from whole.host import ROUTER_4, ROUTER_6, WORLD_4, WORLD_6, Settled, Topology, differences, wait_until

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

ADD = ("ct", "netif", "ip", "add")
DEL = ("ct", "netif", "ip", "del")


@pytest.fixture
def web(shared: Topology) -> Topology:
    """A host with a running container `web`, both versions, no address yet."""
    shared.new_container("web", via=[VIA_4, VIA_6])
    return shared


def listed(host: Topology, *argv: str) -> list[str]:
    return [each["addr"] for each in host.osctl_json("ct", "netif", "ip", "ls", *(argv or ("web", "eth0")))]


def routes(host: Topology) -> dict[str, bool]:
    """What is routed to eth0 of web, and whether it came with an address."""
    found = host.osctl_json("ct", "netif", "route", "ls", "web", "eth0")
    return {each["addr"]: each["origin"] == "automatic" for each in found}


def host_routes(host: Topology, container: str = "web") -> list[str]:
    """What the host's kernel routes to the container: networks, single addresses without their prefix length."""
    found = [
        route["dst"]
        for version in ("-4", "-6")
        for route in host.ip_json(host.H, version, "route", "show", "dev", host.veth(container), "proto", "111")
    ]
    return sorted(found)


def on_link(host: Topology, container: str = "web", version: int = 4) -> list[str]:
    """The addresses on eth0 inside, in the kernel's order, without the link-local one that the kernel made."""
    # A private container end has `scope link` beside a routed address of IPv4.
    scope = ["scope", "global"] if version == 6 else []
    (link,) = host.guest_ip_json(container, f"-{version}", "addr", "show", "dev", "eth0", *scope)
    return [f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each]


def source(host: Topology, version: int = 4) -> str:
    (route,) = host.guest_ip_json("web", f"-{version}", "route", "show", "default")
    return str(route["prefsrc"])


def restart(host: Topology, name: str = "web") -> None:
    host.osctl("ct", "stop", "-k", name)
    host.osctl("ct", "start", name)


def pinged(host: Topology, address: str) -> bool:
    return host.ping(host.R, address, count=1, seconds=0.2) == 1


def says_unreachable(host: Topology, address: str) -> bool:
    """Whether the router is told that nobody is there, rather than left waiting."""
    argv = ["ping", "-n", "-c", "2", "-i", "0.05", "-W", "1", address]
    said = host.in_namespace(host.R, *argv, check=False).stdout
    return "nreachable" in said or "errors" in said


# --- add ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "address", "world"),
    [(4, "1.2.3.4", WORLD_4), (6, "2001:db8:2::4", WORLD_6)],
)
@pytest.mark.parametrize("is_running", [False, True], ids=["stopped", "running"])
def test_an_added_address_is_reachable_within_a_second_and_leads_out(
    shared: Topology, version: int, address: str, world: str, is_running: bool
) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], start=is_running)

    shared.osctl(*ADD, "web", "eth0", address)
    if not is_running:
        shared.osctl("ct", "start", "web")

    wait_until(lambda: pinged(shared, address), f"{address} reachable", seconds=1)
    assert source(shared, version) == address
    with shared.capture(shared.R, "down0", "icmp or icmp6") as capture:
        assert shared.guest_ping("web", world, count=1) == 1
        capture.wait_for(f" {address} > {world}: .*echo request")


def test_addresses_keep_the_order_in_which_they_were_added(web: Topology) -> None:
    fours = ["1.2.3.9/32", "1.2.3.4/32", "198.51.100.7/32"]
    sixes = ["2001:db8:2::9/128", "2001:db8:2::4/128", "2001:db8:2::7/128"]

    for four, six in zip(fours, sixes, strict=True):
        web.osctl(*ADD, "web", "eth0", four, six)

    for _ in range(2):
        assert listed(web) == fours + sixes
        assert on_link(web) == ["10.100.10.102/30", *fours]
        assert set(on_link(web, version=6)) == {"fd00:1::2/126", *sixes}
        assert source(web, 4) == "1.2.3.9"
        assert source(web, 6) == "2001:db8:2::9"
        restart(web)


def test_the_next_address_becomes_the_source_when_the_first_is_deleted(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "1.2.3.9", "1.2.3.4", "2001:db8:2::9", "2001:db8:2::4")

    web.osctl(*DEL, "web", "eth0", "1.2.3.9", "2001:db8:2::9")

    assert source(web, 4) == "1.2.3.4"
    assert source(web, 6) == "2001:db8:2::4"
    web.osctl(*DEL, "web", "eth0", "all")
    assert source(web, 4) == "10.100.10.102"
    assert source(web, 6) == "fd00:1::2"
    assert web.guest_ping("web", web.ip_json(web.H, "-4", "addr", "show", "up0")[0]["addr_info"][0]["local"]) == 3


def test_255_addresses_in_one_command_are_one_change(web: Topology) -> None:
    many = [f"198.51.100.{number}/32" for number in range(255)]

    web.osctl(*ADD, "web", "eth0", *many)

    assert listed(web) == many
    assert on_link(web) == ["10.100.10.102/30", *many]
    assert len(host_routes(web)) == 255
    for number in (0, 1, 77, 128, 254):
        assert pinged(web, f"198.51.100.{number}")
    assert [command for _, _, command, *_ in web.stored()["history"]][-1].count("198.51.100.") == 255
    live = web.comparable_state("web")
    restart(web)
    assert not differences(live, web.comparable_state("web"))

    web.osctl(*DEL, "web", "eth0", *many)
    assert (listed(web), host_routes(web), on_link(web)) == ([], [], ["10.100.10.102/30"])


def test_addresses_of_both_versions_come_from_standard_input(web: Topology) -> None:
    words = [f"1.2.3.{number}" for number in range(1, 101)] + [f"2001:db8:2::{number:x}" for number in range(1, 101)]

    web.osctl(*ADD, "web", "eth0", "-", stdin="  ".join(words[:150]) + "\n\n" + "\n".join(words[150:]))

    assert len(listed(web)) == 200
    assert pinged(web, "1.2.3.100")
    assert pinged(web, "2001:db8:2::64")
    web.osctl(*DEL, "-", "web", "eth0", check=False)  # the container is no word of standard input
    web.osctl(*DEL, "web", "eth0", "-", stdin="\n".join(words))
    assert listed(web) == []
    assert host_routes(web) == []


def test_an_address_with_a_prefix_routes_its_network_and_says_so(web: Topology) -> None:
    said = web.osctl(*ADD, "web", "eth0", "10.5.5.1/24").stdout

    assert said == "routed 10.5.5.0/24 (256 addresses)\n"
    assert host_routes(web) == ["10.5.5.0/24"]
    assert on_link(web) == ["10.100.10.102/30", "10.5.5.1/24"]
    assert pinged(web, "10.5.5.1")
    assert web.osctl(*ADD, "web", "eth0", "1.2.3.4").stdout == ""


@pytest.mark.parametrize(
    ("network", "address", "version"),
    [
        ("10.5.5.0/24", "10.5.5.1/24", 4),
        ("10.5.5.0/24", "10.5.5.1", 4),
        ("10.5.4.0/23", "10.5.5.1/24", 4),
        ("2001:db8:2:5::/64", "2001:db8:2:5::1/64", 6),
        ("2001:db8:2::/48", "2001:db8:2:5::1/64", 6),
    ],
)
@pytest.mark.parametrize("is_running", [False, True], ids=["stopped", "running"])
def test_an_address_of_a_routed_network_needs_no_second_route(
    shared: Topology, network: str, address: str, version: int, is_running: bool
) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], start=is_running)
    shared.osctl("ct", "netif", "route", "add", "web", "eth0", network)

    assert shared.osctl(*ADD, "web", "eth0", address).stdout == ""

    if not is_running:
        shared.osctl("ct", "start", "web")
    assert routes(shared) == {network: False}
    assert host_routes(shared) == [network]
    bare = address.partition("/")[0]
    assert pinged(shared, bare)
    assert source(shared, version) == bare


def test_no_route_leaves_an_address_unrouted_and_the_source_as_it_was(web: Topology) -> None:
    web.osctl(*ADD, "--no-route", "web", "eth0", "1.2.3.4", "2001:db8:2::4")

    assert host_routes(web) == []
    assert set(on_link(web)) == {"10.100.10.102/30", "1.2.3.4/32"}
    assert {each["state"] for each in web.osctl_json("ct", "netif", "ip", "ls", "web", "eth0")} == {"unrouted"}
    assert web.osctl("ct", "netif", "ip", "ls", "web").stdout.count("unrouted") == 2
    assert source(web, 4) == "10.100.10.102"
    assert source(web, 6) == "fd00:1::2"
    assert not pinged(web, "1.2.3.4")

    web.osctl("ct", "netif", "route", "add", "web", "eth0", "1.2.3.0/24", "2001:db8:2::/64")

    assert source(web, 4) == "1.2.3.4"
    assert pinged(web, "1.2.3.4")
    assert pinged(web, "2001:db8:2::4")


def test_options_may_stand_behind_the_arguments(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "1.2.3.4", "--no-route")

    assert host_routes(web) == []


@pytest.mark.parametrize(
    ("network", "address"), [("10.5.5.0/24", "10.5.5.1"), ("2001:db8:2:5::/64", "2001:db8:2:5::1")]
)
def test_route_as_routes_a_network_of_choice_with_an_address(web: Topology, network: str, address: str) -> None:
    web.osctl(*ADD, "--route-as", network, "web", "eth0", address)

    assert host_routes(web) == [network]
    assert routes(web) == {network: True}
    assert pinged(web, address)

    web.osctl(*DEL, "web", "eth0", address)
    assert host_routes(web) == []


def test_the_container_end_may_be_given_a_place_in_the_order_and_never_goes_down(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "1.2.3.4", "10.100.10.102/30", "2001:db8:2::4", "fd00:1::2")

    assert listed(web) == ["1.2.3.4/32", "10.100.10.102/30", "2001:db8:2::4/128", "fd00:1::2/126"]
    assert host_routes(web) == ["1.2.3.4", "2001:db8:2::4"]
    live = web.comparable_state("web")
    restart(web)
    assert not differences(live, web.comparable_state("web"))

    web.osctl(*DEL, "web", "eth0", "10.100.10.102", "fd00:1::2/126")

    assert listed(web) == ["1.2.3.4/32", "2001:db8:2::4/128"]
    assert set(on_link(web)) == {"10.100.10.102/30", "1.2.3.4/32"}
    assert set(on_link(web, version=6)) == {"fd00:1::2/126", "2001:db8:2::4/128"}
    assert pinged(web, "1.2.3.4")
    assert pinged(web, "2001:db8:2::4")


def test_a_dry_run_says_what_the_real_run_does_and_does_nothing(web: Topology) -> None:
    before = web.comparable_state("web"), web.stored()
    said = web.osctl("--dry-run", *ADD, "web", "eth0", "1.2.3.4", "2001:db8:2::4").stdout

    assert (web.comparable_state("web"), web.stored()) == before
    assert "# in container web\n" in said
    assert f"ip route add 1.2.3.4/32 via 10.100.10.102 dev {web.veth('web')} proto 111\n" in said
    assert web.osctl(*ADD, "web", "eth0", "1.2.3.4", "2001:db8:2::4", "--dry-run").stdout == said
    web.osctl("ct", "stop", "-k", "web")
    planned = web.osctl(*ADD, "web", "eth0", "1.2.3.4", "--dry-run").stdout
    assert planned == "# on the host\nnft add element inet osctl stopped4 '{ 1.2.3.4/32 }'\n"


# --- delete ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["1.2.3.4", "2001:db8:2::4"])
def test_a_deleted_address_is_gone_and_the_router_is_told_so(web: Topology, address: str) -> None:
    web.osctl(*ADD, "web", "eth0", address)
    assert pinged(web, address)
    bare = web.comparable_state("web")
    # Where nothing else leads, the host says so itself.
    web.ip(web.H, "route", "del", "default", "via", ROUTER_4)
    web.ip(web.H, "route", "del", "::/0", "via", ROUTER_6)

    web.osctl(*DEL, "web", "eth0", address)

    assert listed(web) == []
    assert host_routes(web) == []
    assert says_unreachable(web, address)
    web.ip(web.H, "route", "add", "default", "via", ROUTER_4)
    web.ip(web.H, "route", "add", "::/0", "via", ROUTER_6)
    web.osctl(*ADD, "web", "eth0", address)
    assert not differences(bare, web.comparable_state("web"))


def test_deleting_and_adding_lead_to_the_state_of_a_fresh_start(web: Topology) -> None:
    web.osctl(
        *(*ADD, "web", "eth0"),
        *(
            "10.5.5.1/24",
            "10.5.5.2/24",
            "10.5.5.3/24",
            "1.2.3.4",
            "1.2.3.5",
            "2001:db8:2:5::1/64",
            "2001:db8:2:5::2/64",
        ),
    )

    # The first of a subnet takes the others along in the kernel, and the default route that speaks from it.
    for gone in ("10.5.5.1", "1.2.3.4", "2001:db8:2:5::1/64", "10.5.5.2/24"):
        web.osctl(*DEL, "web", "eth0", gone)

        live = web.comparable_state("web")
        for address in listed(web):
            assert pinged(web, address.partition("/")[0]), (gone, address)
        assert web.guest_ping("web", WORLD_4, count=1) == 1
        assert web.guest_ping("web", WORLD_6, count=1) == 1
        restart(web)
        assert not differences(live, web.comparable_state("web"))


def test_an_automatic_route_goes_with_its_last_address(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "10.5.5.1/24", "10.5.5.2/24", "10.5.5.9")
    web.osctl(*DEL, "web", "eth0", "10.5.5.1")
    assert host_routes(web) == ["10.5.5.0/24"]
    assert source(web) == "10.5.5.2"
    web.osctl(*DEL, "web", "eth0", "10.5.5.2/24")
    assert host_routes(web) == ["10.5.5.0/24"]
    assert pinged(web, "10.5.5.9")

    web.osctl(*DEL, "web", "eth0", "10.5.5.9/32")

    assert host_routes(web) == []
    assert routes(web) == {}


def test_a_route_of_the_operator_outlives_its_addresses(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24")
    web.osctl(*ADD, "web", "eth0", "10.5.5.1")

    web.osctl(*DEL, "web", "eth0", "10.5.5.1")

    assert host_routes(web) == ["10.5.5.0/24"]


def test_keep_route_makes_the_route_the_operators(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "1.2.3.4", "2001:db8:2:5::1/64")

    web.osctl(*DEL, "web", "eth0", "--keep-route", "all")

    assert listed(web) == []
    assert host_routes(web) == ["1.2.3.4", "2001:db8:2:5::/64"]
    assert routes(web) == {"1.2.3.4/32": False, "2001:db8:2:5::/64": False}
    web.osctl(*ADD, "web", "eth0", "1.2.3.4")
    web.osctl(*DEL, "web", "eth0", "1.2.3.4")
    assert host_routes(web) == ["1.2.3.4", "2001:db8:2:5::/64"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("all",), []),
        (("-v", "4", "all"), ["2001:db8:2::4/128", "2001:db8:2::5/128"]),
        (("all", "-v6"), ["1.2.3.4/32", "1.2.3.5/32"]),
    ],
)
@pytest.mark.parametrize("is_running", [False, True], ids=["stopped", "running"])
def test_all_addresses_or_those_of_a_version_go_at_once(
    shared: Topology, options: tuple[str, ...], left: list[str], is_running: bool
) -> None:
    shared.new_container(
        "web",
        via=[VIA_4, VIA_6],
        addresses=["1.2.3.4", "2001:db8:2::4", "1.2.3.5", "2001:db8:2::5"],
        start=is_running,
    )

    shared.osctl(*DEL, "web", "eth0", *options)

    assert listed(shared) == left
    assert list(routes(shared)) == left
    if is_running:
        assert host_routes(shared) == [each.partition("/")[0] for each in left]
        assert pinged(shared, "1.2.3.4") == ("1.2.3.4/32" in left)
        assert pinged(shared, "2001:db8:2::4") == ("2001:db8:2::4/128" in left)
    shared.osctl(*DEL, "web", "eth0", *options)  # none is left, and that is no mistake


def test_a_route_below_an_address_is_kept_unless_forced(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "1.2.3.4", "1.2.3.5", "2001:db8:2::4")

    for argv in (("1.2.3.4",), ("1.2.3.4/32", "1.2.3.5"), ("all", "-v", "4"), ("all",), ("2001:db8:2::4",)):
        message = web.refusal_without_trace("ct", "netif", "route", "del", "web", "eth0", *argv, running=["web"])
        assert argv[0] in message
        assert ("2001:db8:2::4" if ":" in argv[0] else "1.2.3.4") in message

    web.osctl("ct", "netif", "route", "del", "--force", "web", "eth0", "1.2.3.4")

    states = {each["addr"]: each["state"] for each in web.osctl_json("ct", "netif", "ip", "ls", "web", "eth0")}
    assert states == {"1.2.3.4/32": "unrouted", "1.2.3.5/32": "routed", "2001:db8:2::4/128": "routed"}
    assert host_routes(web) == ["1.2.3.5", "2001:db8:2::4"]
    assert source(web) == "1.2.3.5"
    assert not pinged(web, "1.2.3.4")
    live = web.comparable_state("web")
    restart(web)
    assert not differences(live, web.comparable_state("web"))


# --- one holder --------------------------------------------------------------------------------------------------


def test_what_another_container_holds_is_refused_by_name_whether_it_runs_or_not(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6])
    shared.new_container("other", via=["10.100.30.0/30", "fd00:3::/126"], start=False)
    shared.osctl(*ADD, "other", "eth0", "1.2.3.4", "2001:db8:2::4")
    shared.osctl("ct", "netif", "route", "add", "other", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64")

    for _ in ("stopped", "running"):
        for address, held in (
            ("1.2.3.4", "1.2.3.4/32 is routed to eth0 of other"),
            ("1.2.3.9/24", "1.2.3.4/32 is routed to eth0 of other"),
            ("10.5.5.77", "10.5.5.0/24 is routed to eth0 of other"),
            ("10.5.5.77/25", "10.5.5.0/24 is routed to eth0 of other"),
            ("10.100.30.2", "10.100.30.0/30 is the interconnecting network of eth0 of other"),
            ("2001:db8:2::4", "2001:db8:2::4/128 is routed to eth0 of other"),
            ("2001:db8:2::9/64", "2001:db8:2::4/128 is routed to eth0 of other"),
            ("2001:db8:2:5:7::1", "2001:db8:2:5::/64 is routed to eth0 of other"),
            ("fd00:3::9/64", "fd00:3::/126 is the interconnecting network of eth0 of other"),
        ):
            message = shared.refusal_without_trace(*ADD, "web", "eth0", address, running=["web"])
            assert held in message
            assert address.partition("/")[0] in message
        shared.osctl("ct", "start", "other")

    shared.osctl(*DEL, "other", "eth0", "1.2.3.4")
    shared.osctl(*ADD, "web", "eth0", "1.2.3.4")
    assert pinged(shared, "1.2.3.4")


def test_a_wide_address_suggests_a_single_one_when_somebody_holds_a_part(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6])
    shared.new_container("other", via=["10.100.30.0/30", "fd00:3::/126"], addresses=["10.5.5.9", "2001:db8:2:5::9"])

    for address, single in (("10.5.5.1/24", "10.5.5.1/32"), ("2001:db8:2:5::1/64", "2001:db8:2:5::1/128")):
        message = shared.refusal_without_trace(*ADD, "web", "eth0", address, running=["web", "other"])
        assert f"assign {single} instead" in message
        assert "eth0 of other" in message
        shared.osctl(*ADD, "web", "eth0", single)
        assert pinged(shared, single.partition("/")[0])


def test_nobody_is_sent_to_a_single_address_that_is_refused_as_well(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6])
    shared.new_container("other", via=["10.100.30.0/30", "fd00:3::/126"], addresses=["10.5.5.9", "2001:db8:2:5::9"])
    shared.ip(shared.H, "addr", "add", "1.2.3.7/32", "dev", "lo")
    try:
        for address in ("10.5.5.9/24", "2001:db8:2:5::9/64", "1.2.3.7/24", "10.100.10.101/24"):
            assert "instead" not in shared.refusal(*ADD, "web", "eth0", address)
        for address in ("10.5.5.8/24", "2001:db8:2:5::8/64", "1.2.3.8/24", "10.100.10.9/24"):
            assert f"assign {address.partition('/')[0]}/" in shared.refusal(*ADD, "web", "eth0", address)
    finally:
        shared.ip(shared.H, "addr", "del", "1.2.3.7/32", "dev", "lo")


def test_an_unrouted_address_is_held_too(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4])
    shared.new_container("other", via=["10.100.30.0/30"], start=False)
    shared.osctl(*ADD, "--no-route", "other", "eth0", "1.2.3.4")

    assert "1.2.3.4 is assigned to eth0 of other" in shared.refusal(*ADD, "web", "eth0", "1.2.3.4")
    assert "eth0 of other" in shared.refusal(*ADD, "web", "eth0", "--no-route", "1.2.3.4")
    assert "eth0 of other" in shared.refusal("ct", "netif", "route", "add", "web", "eth0", "1.2.3.0/24")


def test_two_interfaces_of_one_container_cannot_hold_the_same(web: Topology) -> None:
    web.osctl("ct", "netif", "new", "routed", "--via", "10.100.20.0/30", "web", "eth1")
    web.osctl(*ADD, "web", "eth0", "1.2.3.4")

    message = web.refusal_without_trace(*ADD, "web", "eth1", "1.2.3.4", running=["web"])

    assert "eth0 of web" in message


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """A running `web` with addresses of both versions, `four` with IPv4 alone; for what must change nothing."""
    with Topology() as topology:
        topology.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4", "10.5.5.1/24"])
        topology.new_container("four", via=["10.100.40.0/29"], start=False)
        topology.new_container("bare", start=False)
        yield Settled(topology, running=["web"])


@pytest.mark.parametrize(
    ("arguments", "quoted", "words"),
    [
        # twice
        (("web", "eth0", "1.2.3.4"), "1.2.3.4", "already assigned to eth0"),
        (("web", "eth0", "1.2.3.4/24"), "1.2.3.4", "already assigned to eth0"),
        (("web", "eth0", "2001:db8:2::4/64"), "2001:db8:2::4", "already assigned to eth0"),
        (("web", "eth0", "1.2.3.5", "1.2.3.6", "1.2.3.5"), "1.2.3.5", "already assigned to eth0"),
        (("web", "eth0", "2001:db8:2::4"), "2001:db8:2::4", "already assigned"),
        (("web", "eth0", "2001:DB8:2:0:0:0:0:4"), "2001:db8:2::4", "already assigned"),
        # no via of that version
        (("four", "eth0", "2001:db8:2::9"), "2001:db8:2::9", "not configured for IPv6"),
        (("four", "eth0", "1.2.3.9", "2001:db8:2::9"), "2001:db8:2::9", "not configured for IPv6"),
        # ends and edges of the own via
        (("web", "eth0", "10.100.10.101"), "10.100.10.101", "host's address"),
        (("web", "eth0", "10.100.10.101/30"), "10.100.10.101", "host's address"),
        (("web", "eth0", "fd00:1::1"), "fd00:1::1", "host's address"),
        (("web", "eth0", "10.100.10.100"), "10.100.10.100", "network address"),
        (("web", "eth0", "10.100.10.103/32"), "10.100.10.103", "broadcast"),
        (("web", "eth0", "fd00:1::"), "fd00:1::", "anycast"),
        (("four", "eth0", "10.100.40.7/29"), "10.100.40.7", "broadcast"),
        # a network around the own via
        (("web", "eth0", "10.100.10.5/24"), "10.100.10.5/24", "10.100.10.101"),
        (("web", "eth0", "fd00:1::77/64"), "fd00:1::77/64", "fd00:1::1"),
        # what no container can have
        (("web", "eth0", "0.0.0.0"), "0.0.0.0", "unspecified"),
        (("web", "eth0", "::"), "::", "unspecified"),
        (("web", "eth0", "127.0.0.2"), "127.0.0.2", "loopback"),
        (("web", "eth0", "::1"), "::1", "loopback"),
        (("web", "eth0", "224.0.0.9"), "224.0.0.9", "multicast"),
        (("web", "eth0", "ff02::1"), "ff02::1", "multicast"),
        (("web", "eth0", "255.255.255.255"), "255.255.255.255", "broadcast"),
        (("web", "eth0", "::ffff:1.2.3.9"), "::ffff:", "IPv4-mapped"),
        (("web", "eth0", "169.254.7.7"), "169.254.7.7", "link-local"),
        (("web", "eth0", "fe80::7"), "fe80::7", "link-local"),
        (("web", "eth0", "1.2.3.9/0"), "1.2.3.9/0", ""),
        # not to be read
        (("web", "eth0", "bogus"), "bogus", "not an IP address"),
        (("web", "eth0", "1.2.3"), "1.2.3", "not an IP address"),
        (("web", "eth0", "1.2.3.400"), "1.2.3.400", "not an IP address"),
        (("web", "eth0", "01.2.3.9"), "01.2.3.9", "not an IP address"),
        (("web", "eth0", "1.2.3.9/"), "1.2.3.9/", "not an IP address"),
        (("web", "eth0", "1.2.3.9/33"), "1.2.3.9/33", "the longest IPv4 prefix is /32"),
        (("web", "eth0", "1.2.3.9/-1"), "1.2.3.9/-1", "not an IP address"),
        (("web", "eth0", "1.2.3.9/24/24"), "1.2.3.9/24/24", "not an IP address"),
        (("web", "eth0", "2001:db8:2::9%eth0"), "2001:db8:2::9%eth0", "not an IP address"),
        (("web", "eth0", ""), "''", "not an IP address"),
        (("web", "eth0", "1.2.3.9\n"), "1.2.3.9", "not an IP address"),
        (("web", "eth0", "١.2.3.9"), "١.2.3.9", "not an IP address"),
        # --route-as
        (("--route-as", "2001:db8:2:9::/64", "web", "eth0", "1.2.3.9"), "2001:db8:2:9::/64", "version"),
        (("--route-as", "10.6.6.0/24", "web", "eth0", "1.2.3.9"), "10.6.6.0/24", "does not include 1.2.3.9"),
        (("--route-as", "2001:db8:2:9::/64", "web", "eth0", "2001:db8:2:8::9"), "2001:db8:2:9::/64", "not include"),
        (("--route-as", "bogus", "web", "eth0", "1.2.3.9"), "bogus", "not an IP network"),
        (("--route-as", "0.0.0.0/0", "web", "eth0", "1.2.3.9"), "0.0.0.0/0", "default"),
        (("--route-as", "10.100.0.0/16", "web", "eth0", "10.100.7.7"), "10.100.0.0/16", "10.100.10.101"),
        # what is not there
        (("bare", "eth0", "1.2.3.9"), "eth0", "not found"),
        (("web", "eth7", "1.2.3.9"), "eth7", "not found"),
        (("nobody", "eth0", "1.2.3.9"), "nobody", "not found"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(
    settled: Settled, arguments: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*ADD, *arguments)

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("arguments", "quoted", "words"),
    [
        (("web", "eth0", "1.2.3.9"), "1.2.3.9", "not found"),
        (("web", "eth0", "1.2.3.4/24"), "1.2.3.4/24", "not found"),
        (("web", "eth0", "10.5.5.1/32"), "10.5.5.1/32", "not found"),
        (("web", "eth0", "10.100.10.102"), "10.100.10.102", "not found"),
        (("web", "eth0", "1.2.3.4", "1.2.3.9"), "1.2.3.9", "not found"),
        (("web", "eth0", "bogus"), "bogus", "not an IP address"),
        (("web", "eth7", "all"), "eth7", "not found"),
        (("nobody", "eth0", "all"), "nobody", "not found"),
    ],
)
def test_an_address_that_is_not_assigned_cannot_be_deleted(
    settled: Settled, arguments: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*DEL, *arguments)

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("argv", "quoted"),
    [
        ((*ADD, "web", "eth0"), "<addr>"),
        ((*ADD, "web"), "<addr>"),
        ((*DEL, "web", "eth0"), "<addr>"),
        ((*DEL, "-v", "six", "web", "eth0", "all"), "-v six"),
        ((*DEL, "-v", "5", "web", "eth0", "all"), "-v 5"),
        ((*DEL, "-v", "4", "web", "eth0", "1.2.3.4"), "1.2.3.4"),
        ((*DEL, "web", "eth0", "all", "1.2.3.4"), "all 1.2.3.4: all cannot be combined with other values"),
        ((*ADD, "--rout", "web", "eth0", "1.2.3.9"), "--rout"),
        ((*ADD, "--no-rote", "web", "eth0", "1.2.3.9"), "--no-rote"),
        ((*ADD, "--route-as", "1.2.3.0/24", "--route-as", "1.2.0.0/16", "web", "eth0", "1.2.3.9"), "--route-as"),
        (("ct", "netif", "ip", "ls", "web", "eth0", "surplus"), "surplus"),
    ],
)
def test_words_about_addresses_that_make_no_sense_are_refused(
    settled: Settled, argv: tuple[str, ...], quoted: str
) -> None:
    assert quoted in settled.refusal(*argv, status=64)


@pytest.mark.parametrize(
    ("bad", "words"), [("1.2.3.999", "1.2.3.999"), ("1.2.3.4", "1.2.3.4"), ("10.100.10.101", "host's"), ("x\x1by", "")]
)
@pytest.mark.parametrize("is_from_stdin", [False, True], ids=["arguments", "standard input"])
def test_one_bad_value_among_fifty_changes_nothing(settled: Settled, bad: str, words: str, is_from_stdin: bool) -> None:
    values = [f"198.51.100.{number}" for number in range(1, 50)]
    values.insert(33, bad)

    message = settled.refusal(
        *(*ADD, "web", "eth0", *(["-"] if is_from_stdin else values)),
        stdin="\n".join(values) if is_from_stdin else None,
    )

    assert words in message


def test_empty_standard_input_is_refused(settled: Settled) -> None:
    assert settled.refusal(*ADD, "web", "eth0", "-", status=64, stdin=" \n ")


def test_a_foreign_route_in_the_way_is_named_and_nothing_changes(web: Topology) -> None:
    veth = web.veth("web")
    for words in (("1.2.3.7", "via", "10.100.10.102"), ("2001:db8:2::7", "via", "fd00:1::2", "metric", "8")):
        web.ip(web.H, "route", "add", *words, "dev", veth, "proto", "static")

    for address in ("1.2.3.7", "2001:db8:2::7"):
        many = ["1.2.3.1", "2001:db8:2::1", address]
        message = web.refusal_without_trace(*ADD, "web", "eth0", *many, running=["web"])
        assert address in message

    web.osctl(*ADD, "web", "eth0", "1.2.3.1", "2001:db8:2::1")
    assert all(pinged(web, each) for each in ("1.2.3.1", "2001:db8:2::1"))


def test_every_address_of_every_interface_is_reachable_at_once(shared: Topology) -> None:
    """Many containers, interfaces and addresses side by side."""
    for container, interface in itertools.product(range(3), range(2)):
        name = f"c{container}"
        if interface == 0:
            shared.new_container(name)
        vias = ("--via", f"10.100.{container}.{interface * 4}/30", "--via", f"fd00:{container}{interface}::/126")
        shared.osctl("ct", "netif", "new", "routed", *vias, name, f"eth{interface}")
        number = container * 16 + interface * 4
        shared.osctl(
            *(*ADD, name, f"eth{interface}"),
            *(f"1.2.3.{number + each}" for each in range(3)),
            *(f"2001:db8:2::{number + each}" for each in range(3)),
        )

    for row in shared.osctl_json("ct", "netif", "ip", "ls"):
        assert pinged(shared, row["addr"].partition("/")[0]), row


@pytest.mark.parametrize(
    ("first", "second"), [("1.2.3.4", "1.2.3.15/28"), ("1.2.3.15", "1.2.3.4/28"), ("1.2.3.4/28", "1.2.3.15")]
)
def test_an_address_is_not_also_the_broadcast_address_of_another_ones_network(
    shared: Topology, first: str, second: str
) -> None:
    shared.new_container("web", via=["10.100.10.100/30"], addresses=[first])

    said = shared.refusal_without_trace("ct", "netif", "ip", "add", "web", "eth0", second, running=["web"])

    assert second in said
    assert "1.2.3.15" in said
    assert "is the broadcast address of 1.2.3.0/28" in said


def test_the_last_assigned_addresses_of_two_subnets_leave_the_container_end_to_speak_for_itself(
    shared: Topology,
) -> None:
    """Two addresses of the interconnecting network change or go at once: neither may keep the scope that it had."""
    ends = ("--host-addr", "169.254.9.3", "--ct-addr", "169.254.9.5")
    shared.osctl("ct", "new", "--distribution", "busybox", "web")
    shared.osctl("ct", "netif", "new", "routed", "--via", "169.254.9.0/24", *ends, "--no-via-public", "web", "eth0")
    shared.osctl(*ADD, "web", "eth0", "169.254.9.6/24", "1.2.3.19")
    shared.osctl("ct", "start", "web")

    shared.osctl(*DEL, "web", "eth0", "169.254.9.6", "1.2.3.19")

    (link,) = shared.guest_ip_json("web", "-4", "addr", "show", "dev", "eth0")
    assert [(each["local"], each["scope"]) for each in link["addr_info"]] == [("169.254.9.5", "global")]
