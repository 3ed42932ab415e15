"""Which links lead out: by a default route in whatever table, by what a routing daemon brought, or because the settings
say so. Seen by packets that reach a container, and by what the host still routes for nobody else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.host import WORLD_4, WORLD_6, Topology, stays, wait_until
from whole.lan import EVERYTHING, LAN, ROUTER, lan_of, passing

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESS = {4: "1.2.3.4", 6: "2001:db8:2::4"}
WORLD = {4: WORLD_4, 6: WORLD_6}
#: What a routing daemon learns: the world, but no default route.
LEARNED = {4: "198.18.0.0/24", 6: "2001:db8:ffff::/48"}

pytestmark = pytest.mark.requires_kernel("nftables fib")


@contextlib.contextmanager
def host_with_lan(settings: str = "", *, is_unnumbered: bool = False) -> Iterator[tuple[Topology, str]]:
    """A host before its daemon is started, and the machine on its LAN."""
    with Topology(program=BARE, settings=settings, start_daemon=False) as host, lan_of(host) as lan:
        if is_unnumbered:
            unnumber(host)
        yield host, lan


def start_web(host: Topology) -> None:
    """Start the daemon, and `web` with an address of each version."""
    host.start_daemon()
    host.new_container("web", via=VIAS, addresses=list(ADDRESS.values()))


def unnumber(host: Topology, near: str = "up0", far: str = "down0") -> None:
    """Leave link-local addresses alone on a wire between host and router, and no route but those of R to H by it."""
    for namespace, link in ((host.H, near), (host.R, far)):
        for version in (4, 6):
            host.ip(namespace, f"-{version}", "addr", "flush", "dev", link, "scope", "global")
            host.ip(namespace, f"-{version}", "route", "flush", "dev", link, "proto", "boot")
    for version, networks in ((4, ("1.2.3.0/24", "172.16.7.0/24")), (6, ("2001:db8:2::/48", "2001:db8:77::/64"))):
        for network in networks:
            host.ip(host.R, "route", "replace", network, *hop(host, version, near=far, far=near, of=host.H))


def link_local(host: Topology, namespace: str, link: str) -> str:
    def found() -> str:
        (there,) = host.ip_json(namespace, "-6", "addr", "show", "dev", link, "scope", "link")
        return next((each["local"] for each in there["addr_info"] if not each.get("tentative")), "")

    return wait_until(found, f"{link} has its link-local address")


def hop(host: Topology, version: int, *, near: str = "up0", far: str = "down0", of: str = "") -> list[str]:
    """How a route leads to `far` by the link `near`, on which there are no other addresses (RFC 8950)."""
    address = link_local(host, of or host.R, far)
    return ["via", *(["inet6"] if version == 4 else []), address, "dev", near, "onlink"]


def learn(host: Topology, *, action: str = "replace", protocol: str = "bgp") -> None:
    """As a routing daemon does: add, or take away, routes to the world by the unnumbered uplink."""
    for version in WORLD:
        host.ip(
            host.H, "route", action, LEARNED[version], *hop(host, version), "proto", protocol, "metric", "20"
        )  # fmt: skip


def forwards(host: Topology, link: str) -> bool:
    return host.sysctl(host.H, f"net/ipv4/conf/{link}/forwarding") == "1"


def reached(host: Topology) -> list[int]:
    """How many of three pings of the world reach the container, by IP version."""
    return [host.ping(host.R, ADDRESS[each], source=WORLD[each]) for each in ADDRESS]


def found(host: Topology, code: str = "link-without-forwarding") -> list[dict[str, Any]]:
    there = json.loads(host.osctl("-j", "self", "check", check=False).stdout)
    return [each for each in there if each["code"] == code]


def run_commands(host: Topology, commands: Sequence[str]) -> str:
    """Run what a finding tells to, and say what it has put into files: in place of the machine's, which stay."""
    script = "; ".join(
        ["mount -t tmpfs none /etc/sysctl.d", "exec 3>&1 >/dev/null", *commands, "cat /etc/sysctl.d/* >&3"]
    )
    return host.in_namespace(host.H, "unshare", "--mount", "bash", "-e", "-c", script).stdout


# --- a default route in another table ----------------------------------------------------------------------------


def lead_to_the_lan(host: Topology) -> None:
    """The default routes of the main table lead to the LAN."""
    for version, (_, far, _) in LAN.items():
        host.ip(host.H, "route", "replace", EVERYTHING[version], "via", far, "dev", "lan0")


def lead_out_by_policy(host: Topology, table: str) -> None:
    """What containers send is routed by a table of its own."""
    for version in WORLD:
        host.ip(host.H, "route", "add", EVERYTHING[version], "via", ROUTER[version], "dev", "up0", "table", table)
        host.ip(host.H, f"-{version}", "rule", "add", "from", ADDRESS[version], "lookup", table)


def test_a_link_whose_default_route_is_in_a_policy_table_alone_is_an_uplink() -> None:
    with host_with_lan() as (host, lan):
        lead_to_the_lan(host)
        lead_out_by_policy(host, "100")
        start_web(host)

        assert reached(host) == [3, 3]
        assert (forwards(host, "lan0"), found(host)) == (True, [])
        assert passing(host, lan) == set()

        host.restart_daemon()
        assert reached(host) == [3, 3]
        assert passing(host, lan) == set()


def test_a_default_route_that_comes_to_another_table_later_makes_an_uplink_within_a_second() -> None:
    with host_with_lan() as (host, lan):
        lead_to_the_lan(host)
        start_web(host)
        assert not forwards(host, "up0")

        lead_out_by_policy(host, "1000")
        wait_until(lambda: forwards(host, "up0"), "IPv4 is forwarded", seconds=1)

        assert reached(host) == [3, 3]
        assert passing(host, lan) == set()


# --- routes of a routing daemon ----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["bgp", "bird", "zebra", "ospf", "babel"])
def test_an_unnumbered_uplink_with_learned_routes_alone_leads_out(protocol: str) -> None:
    with host_with_lan(is_unnumbered=True) as (host, lan):
        learn(host, protocol=protocol)
        start_web(host)

        assert reached(host) == [3, 3]
        # Who is connected to a LAN alone is not reached from there, and told so.
        assert [each["what"].split()[-4:] for each in found(host)] == [["is", "not", "an", "uplink"]]
        if protocol != "bgp":
            return
        assert passing(host, lan, beyond=WORLD) == set()
        host.restart_daemon()
        assert reached(host) == [3, 3]
        assert passing(host, lan, beyond=WORLD) == set()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("is_default", [True, False])
def test_a_rule_that_takes_what_comes_by_an_unnumbered_uplink_is_named(version: int, is_default: bool) -> None:
    with host_with_lan(is_unnumbered=True) as (host, _):
        learn(host)
        if is_default:
            # RFC 8950: of what leads to the world, only where it leads to is known.
            host.ip(host.H, "route", "del", LEARNED[version], "proto", "bgp", "metric", "20")
            host.ip(host.H, f"-{version}", "route", "add", "default", *hop(host, version), "proto", "static")
        start_web(host)
        assert reached(host) == [3, 3]
        before = found(host, "astray")

        host.ip(host.H, f"-{version}", "route", "add", "unreachable", "default", "table", "100")
        rule = ["iif", "up0", "to", ADDRESS[version], "lookup", "100"]
        host.ip(host.H, f"-{version}", "rule", "add", "pref", "100", *rule)
        assert reached(host)[0 if version == 4 else 1] == 0

        (it,) = found(host, "astray")
        assert before == []
        assert ": packets arriving on up0 follow rule 100: from all to " in it["what"]
        for command in it["commands"]:
            host.in_namespace(host.H, *command.split())
        assert reached(host) == [3, 3]
        assert found(host, "astray") == []


def test_an_uplink_that_routes_come_to_go_from_and_come_to_again_leads_out_each_time_within_a_second() -> None:
    with host_with_lan(is_unnumbered=True) as (host, lan):
        start_web(host)
        assert not forwards(host, "up0")

        learn(host)
        wait_until(lambda: forwards(host, "up0"), "IPv4 is forwarded", seconds=1)
        assert reached(host) == [3, 3]

        learn(host, action="del")
        host.restart_daemon()
        host.sysctl(host.H, "net/ipv4/conf/up0/forwarding", "0")
        stays(lambda: not forwards(host, "up0"), 0.5)  # no uplink any more, and somebody else's to decide

        learn(host)
        wait_until(lambda: forwards(host, "up0"), "IPv4 is forwarded again", seconds=1)
        assert reached(host) == [3, 3]
        assert passing(host, lan, beyond=WORLD) == set()


def test_a_static_route_is_none_that_a_routing_daemon_learned() -> None:
    with host_with_lan(is_unnumbered=True) as (host, _):
        learn(host, protocol="static")
        start_web(host)

        assert not forwards(host, "up0")
        (it,) = [each for each in found(host) if "up0" in each["what"]]
        run_commands(host, it["commands"])
        assert reached(host) == [3, 3]


def second_wire(host: Topology) -> None:
    """up1 to down1, unnumbered; R routes to containers by it."""
    host.ip(host.H, "link", "add", "up1", "type", "veth", "peer", "name", "down1", "netns", host.R)
    for namespace, link in ((host.H, "up1"), (host.R, "down1")):
        host.ip(namespace, "link", "set", link, "up")
    unnumber(host, "up1", "down1")


def both_hops(host: Topology, version: int, *, first: str = "up0") -> list[str]:
    wires = sorted([("up0", "down0"), ("up1", "down1")], key=lambda each: each[0] != first)
    hops = [["nexthop", *hop(host, version, near=near, far=far)] for near, far in wires]
    return [word for each in hops for word in each]


def learn_by_both(host: Topology) -> None:
    for version in WORLD:
        ways = both_hops(host, version)
        host.ip(host.H, "route", "replace", LEARNED[version], "proto", "bgp", "metric", "20", *ways)


def test_each_link_of_a_learned_route_of_several_hops_is_an_uplink() -> None:
    with host_with_lan(is_unnumbered=True) as (host, lan):
        second_wire(host)
        learn_by_both(host)
        start_web(host)

        assert [forwards(host, each) for each in ("up0", "up1", "lan0")] == [True, True, False]
        assert reached(host) == [3, 3]
        assert passing(host, lan, beyond=WORLD) == set()


@pytest.mark.parametrize("first", ["up0", "up1"])
def test_a_link_that_becomes_a_further_hop_of_a_learned_route_is_an_uplink_within_a_second(first: str) -> None:
    with host_with_lan(is_unnumbered=True) as (host, _):
        second_wire(host)
        learn(host)
        start_web(host)
        assert [forwards(host, each) for each in ("up0", "up1")] == [True, False]

        # To another place, so that it is news of a route, and none of a change.
        host.ip(host.H, "route", "add", "198.18.1.0/24", "proto", "bgp", *both_hops(host, 4, first=first))
        wait_until(lambda: forwards(host, "up1"), "IPv4 is forwarded", seconds=1)

        learn_by_both(host)
        assert reached(host) == [3, 3]


# --- other links -------------------------------------------------------------------------------------------------


def test_a_lan_beside_the_uplink_is_found_with_what_makes_containers_reachable_from_there() -> None:
    with host_with_lan() as (host, lan):
        start_web(host)
        assert [host.ping(lan, each) for each in ADDRESS.values()] == [0, 3]

        (it,) = found(host)
        assert it["severity"] == "warning"
        assert it["what"] == "net.ipv4.conf.lan0.forwarding is 0, and lan0 is not an uplink"
        kept = run_commands(host, it["commands"])

        assert kept == "net.ipv4.conf.lan0.forwarding = 1\n"
        assert [host.ping(lan, each) for each in ADDRESS.values()] == [3, 3]
        assert found(host) == []
        assert passing(host, lan) == set()
        host.restart_daemon()
        assert [host.ping(lan, each) for each in ADDRESS.values()] == [3, 3]
        assert passing(host, lan) == set()


def test_a_tunnel_with_a_single_address_is_found_too() -> None:
    with host_with_lan() as (host, lan):
        host.ip(host.H, "-4", "addr", "flush", "dev", "lan0")
        host.ip(host.H, "addr", "add", "172.16.7.1", "peer", "172.16.7.2", "dev", "lan0")
        start_web(host)

        (it,) = found(host)
        run_commands(host, it["commands"])

        assert host.ping(lan, ADDRESS[4]) == 3
        assert found(host) == []


def test_links_that_the_settings_name_are_the_uplinks_whatever_the_routes_say() -> None:
    with host_with_lan('[host]\nuplinks = ["lan0"]\n', is_unnumbered=True) as (host, lan):
        learn(host)
        start_web(host)

        assert [forwards(host, each) for each in ("up0", "lan0")] == [False, True]
        assert host.ping(lan, ADDRESS[4]) == 3
        (it,) = found(host)
        assert it["severity"] == "warning"
        assert it["what"] == "net.ipv4.conf.up0.forwarding is 0, and up0 is not listed in host.uplinks"
        run_commands(host, it["commands"])
        assert reached(host) == [3, 3]
        assert passing(host, lan, beyond=WORLD) == set()


def test_a_lan_that_the_settings_leave_out_is_noted() -> None:
    with host_with_lan('[host]\nuplinks = ["up0"]\n') as (host, lan):
        start_web(host)

        (it,) = found(host)
        assert (it["severity"], "lan0" in it["what"]) == ("note", True)
        run_commands(host, it["commands"])
        assert host.ping(lan, ADDRESS[4]) == 3
