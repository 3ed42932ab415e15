"""Ours must win: a rule, a better route or an address of the host that takes from a container what is routed to it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.bystander import Bystander
from whole.host import HOST_4, HOST_6, ROUTER_4, ROUTER_6, WORLD_4, WORLD_6, Topology, wait_until

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESS = {4: "1.2.3.4", 6: "2001:db8:2::4"}
LENGTH = {4: 32, 6: 128}
ROUTER = {4: ROUTER_4, 6: ROUTER_6}
WORLD = {4: WORLD_4, 6: WORLD_6}
HOST = {4: HOST_4, 6: HOST_6}

pytestmark = pytest.mark.requires_kernel("nftables fib")


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, with an address of each version."""
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=list(ADDRESS.values()))
        yield host


@pytest.fixture
def bystander(web: Topology) -> Bystander:
    return Bystander(web)


def ip(host: Topology, version: int, *words: str) -> None:
    host.ip(host.H, *(["-6"] if version == 6 else []), *words)


def other_table(host: Topology, version: int, *selector: str) -> None:
    """A rule that sends packets to a table in which all leads to the router."""
    ip(host, version, "route", "add", "default", "via", ROUTER[version], "table", "100")
    ip(host, version, "rule", "add", "pref", "100", *selector, "lookup", "100")


def findings(host: Topology, *codes: str) -> list[dict[str, Any]]:
    found = json.loads(host.osctl("-j", "self", "check", check=False).stdout)
    return [each for each in found if each["code"] in codes]


def told(host: Topology) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.osctl("-j", "status", check=False).stdout)
    return found


def is_reached(host: Topology, version: int, address: str = "") -> bool:
    return host.ping(host.R, address or ADDRESS[version], count=1) == 1


def run_commands(host: Topology, commands: list[str]) -> None:
    for command in commands:
        host.in_namespace(host.H, *shlex.split(command))


def elements(host: Topology, version: int) -> list[str]:
    """The links of what the packet filter takes for routed."""
    shown = host.in_namespace(host.H, "nft", "list", "map", "inet", "osctl", f"routed{version}_by_link").stdout
    return sorted(re.findall(r'"(os[^"]*)" :', shown))


def dropped(host: Topology, container: str = "web") -> int:
    return int(host.osctl_json("ct", "netif", "show", container, "eth0")["dropped_spoofed"])


def pings_from_inside(host: Topology, address: str, *, source: str = "", container: str = "web") -> int:
    argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.05", "-W", "2", *(["-I", source] if source else []), address]
    said = host.in_guest_network(container, *argv, check=False).stdout
    match = re.search(r"(\d+) received", said)
    return int(match[1]) if match else 0


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("by", ["", "up0"])
def test_a_rule_to_another_table_is_named_and_its_command_mends_it(
    web: Topology, bystander: Bystander, version: int, by: str
) -> None:
    assert findings(web, "astray") == []
    selector = [*(["iif", by] if by else []), "to", ADDRESS[version]]

    with bystander.unharmed():
        other_table(web, version, *selector)

        assert not is_reached(web, version)
        (found,) = findings(web, "astray")
        (trouble,) = told(web)

    rule = f"100: from all to {ADDRESS[version]}/{LENGTH[version]}{f' iif {by}' if by else ''} lookup 100"
    assert found["severity"] == "error"
    assert found["what"].startswith(f"{ADDRESS[version]}/{LENGTH[version]} of eth0 of web: packets arriving on up0 ")
    assert f" follow rule {rule}, then route default via {ROUTER[version]} dev up0" in found["what"]
    assert (trouble["state"], trouble["ctid"], trouble["address"]) == ("unreachable", "web", ADDRESS[version])
    assert trouble["commands"] == found["commands"]
    with bystander.unharmed():
        run_commands(web, found["commands"])
    assert is_reached(web, version)
    assert findings(web, "astray") == []
    wait_until(lambda: told(web) == [], "all is well", seconds=30)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("action", ["unreachable", "prohibit", "blackhole"])
def test_a_rule_that_drops_what_is_for_a_container_is_named(
    web: Topology, bystander: Bystander, version: int, action: str
) -> None:
    with bystander.unharmed():
        ip(web, version, "rule", "add", "pref", "50", "to", ADDRESS[version], action)

        (found,) = findings(web, "astray")

    assert f"follow rule 50: from all to {ADDRESS[version]}/{LENGTH[version]} {action}" in found["what"]
    run_commands(web, found["commands"])
    assert is_reached(web, version)
    assert findings(web, "astray") == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", ["unreachable", "blackhole"])
def test_a_rule_to_a_table_that_drops_everything_is_named(
    web: Topology, bystander: Bystander, version: int, kind: str
) -> None:
    with bystander.unharmed():
        ip(web, version, "route", "add", kind, "default", "table", "100")
        ip(web, version, "rule", "add", "pref", "100", "to", ADDRESS[version], "lookup", "100")

        (found,) = findings(web, "astray")

    assert f"follow rule 100: from all to {ADDRESS[version]}/{LENGTH[version]} lookup 100" in found["what"]
    run_commands(web, found["commands"])
    assert is_reached(web, version)
    assert findings(web, "astray") == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_for_some_senders_is_named(web: Topology, bystander: Bystander, version: int) -> None:
    senders = {4: "198.18.0.0/24", 6: "2001:db8:ffff::/64"}[version]

    with bystander.unharmed():
        other_table(web, version, "from", senders, "to", ADDRESS[version])
        (found,) = findings(web, "astray")

    assert f"follow rule 100: from {senders} to {ADDRESS[version]}/{LENGTH[version]} lookup 100" in found["what"]
    assert web.ping(web.R, ADDRESS[version], count=1, source=WORLD[version]) == 0
    run_commands(web, found["commands"])
    assert web.ping(web.R, ADDRESS[version], count=1, source=WORLD[version]) == 1
    assert findings(web, "astray") == []


@pytest.mark.parametrize("version", [4, 6])
def test_rules_that_take_nothing_from_containers_are_no_finding(web: Topology, version: int) -> None:
    other_table(web, version, "fwmark", "0x7")
    ip(web, version, "rule", "add", "pref", "101", "iif", "eth7", "lookup", "100")
    ip(web, version, "rule", "add", "pref", "102", "lookup", "main", "suppress_prefixlength", "0")
    ip(web, version, "rule", "add", "pref", "103", "not", "fwmark", "0x7", "lookup", "100")
    ip(web, version, "rule", "add", "pref", "40000", "lookup", "100")

    assert findings(web, "astray", "no-main-table") == []
    assert told(web) == []
    assert elements(web, version) == []


def test_an_ipv6_route_of_a_better_metric_is_named_and_its_command_mends_it(
    web: Topology, bystander: Bystander
) -> None:
    with bystander.unharmed():
        ip(web, 6, "route", "add", ADDRESS[6], "via", ROUTER_6, "metric", "4")

        assert not is_reached(web, 6)
        found = [each for each in findings(web, "astray") if each["severity"] == "error"]

    (each,) = found
    assert f"follow route {ADDRESS[6]}/128 via {ROUTER_6} dev up0 proto boot metric 4" in each["what"]
    with bystander.unharmed():
        run_commands(web, each["commands"])
    assert is_reached(web, 6)
    assert findings(web, "astray") == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_route_to_a_part_of_a_routed_network_is_named(web: Topology, bystander: Bystander, version: int) -> None:
    wide, part = {4: ("10.5.5.0/24", "10.5.5.128/25"), 6: ("2001:db8:2:5::/64", "2001:db8:2:5:8000::/65")}[version]
    web.osctl("ct", "netif", "route", "add", "web", "eth0", wide)

    with bystander.unharmed():
        ip(web, version, "route", "add", part, "via", ROUTER[version])
        (found,) = findings(web, "astray")

    assert f"{wide} of eth0 of web: packets arriving on up0 follow route {part} via" in found["what"]
    run_commands(web, found["commands"])
    assert findings(web, "astray") == []


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_that_the_host_takes_later_is_told_once_and_its_command_mends_it(
    web: Topology, bystander: Bystander, version: int
) -> None:
    length = {4: 24, 6: 64}[version]
    with bystander.unharmed():
        nodad = ["nodad"] if version == 6 else []
        ip(web, version, "addr", "add", f"{ADDRESS[version]}/{length}", "dev", "up0", "noprefixroute", *nodad)

        assert pings_from_inside(web, WORLD[version]) == 0
        several = findings(web, "held-by-both", "astray")
        assert len(several) == 1, several
        (found,) = several

    assert found["commands"] == [f"ip addr del {ADDRESS[version]}/{length} dev up0"]
    with bystander.unharmed():
        run_commands(web, found["commands"])
    wait_until(lambda: is_reached(web, version), "it is reached", seconds=30)
    assert findings(web, "held-by-both", "astray") == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_without_a_rule_for_the_main_table_is_told(web: Topology, version: int) -> None:
    ip(web, version, "rule", "del", "pref", "32766")

    (found,) = findings(web, "no-main-table")

    assert f"IPv{version}" in found["what"]
    assert "no routing rule looks up the main table" in told(web)[0]["cause"]
    run_commands(web, found["commands"])
    assert findings(web, "no-main-table", "astray") == []
    assert is_reached(web, version)


@pytest.mark.parametrize(
    ("network", "host_end", "end", "part"),
    [
        ("10.5.5.0/26", "10.5.5.2", "10.5.5.3", "10.5.5.0/24"),
        ("10.5.5.0/26", "10.5.5.1", "10.5.5.2", "10.5.5.0/29"),
        ("2001:db8:2:6::/64", "2001:db8:2:6::2", "2001:db8:2:6::3", "2001:db8:2:6::/64"),
        ("2001:db8:2:6::/64", "2001:db8:2:6::1", "2001:db8:2:6::2", "2001:db8:2:6::/126"),
    ],
)
def test_a_rule_that_takes_an_interconnecting_network_is_named_whichever_end_is_the_host_s(
    network: str, host_end: str, end: str, part: str
) -> None:
    version = 6 if ":" in network else 4
    with Topology(program=BARE) as host:
        host.osctl("ct", "new", "--distribution", "busybox", "web")
        ends = ["--host-addr", host_end, "--ct-addr", end]
        host.osctl("ct", "netif", "new", "routed", "--via", network, *ends, "web", "eth0")
        host.osctl("ct", "start", "web")
        assert is_reached(host, version, end)
        assert findings(host, "astray") == []

        other_table(host, version, "to", part)

        (found,) = findings(host, "astray")
        assert f"{network} of eth0 of web: packets arriving on up0 follow rule 100: " in found["what"]
        run_commands(host, found["commands"])
        assert is_reached(host, version, end)
        assert findings(host, "astray") == []


# --- where the packet filter's look-up alone is wrong ----------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_for_what_the_host_sends_makes_no_forgery_of_what_a_container_sends(
    web: Topology, bystander: Bystander, version: int
) -> None:
    with bystander.unharmed():
        other_table(web, version, "iif", "lo", "to", ADDRESS[version])

        wait_until(lambda: elements(web, version) == [web.veth("web")], "it counts as routed", seconds=30)
        before = dropped(web)
        assert pings_from_inside(web, WORLD[version], source=ADDRESS[version]) == 3
        assert is_reached(web, version)
        assert dropped(web) == before

    # The host's own packets follow the rule: that is told, and no more than that.
    (found,) = findings(web, "astray")
    assert found["severity"] == "warning"
    assert "packets from the host follow rule 100: " in found["what"]
    with bystander.unharmed():
        run_commands(web, found["commands"])
        wait_until(lambda: elements(web, version) == [], "nothing is hidden any more", seconds=30)
        assert pings_from_inside(web, WORLD[version], source=ADDRESS[version]) == 3


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("part", ["", "to"])
def test_a_rule_for_what_the_host_sends_makes_no_forgery_of_an_end_of_a_wide_network(version: int, part: str) -> None:
    """The first address of such a network is the host's own: what rules do with that says nothing of the others."""
    network, end = {4: ("10.5.5.0/26", "10.5.5.2"), 6: ("2001:db8:2:6::/64", "2001:db8:2:6::2")}[version]
    with Topology(program=BARE) as host:
        host.new_container("web", via=[network])
        other_table(host, version, "iif", "lo", *([part, network] if part else []))
        wait_until(lambda: elements(host, version), "the packet filter knows of it")

        assert pings_from_inside(host, WORLD[version], source=end) == 3
        assert dropped(host) == 0


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_forged_is_dropped_and_counted_all_the_same(web: Topology, bystander: Bystander, version: int) -> None:
    other_table(web, version, "iif", "lo")
    links = sorted([web.veth("web"), web.veth(bystander.name)])
    wait_until(lambda: elements(web, version) == links, "all count as routed", seconds=30)
    forged = {4: "1.2.3.200", 6: "2001:db8:2::200"}[version]  # the other's
    nodad = ["nodad"] if version == 6 else []
    web.in_guest_network("web", "ip", "addr", "add", forged, "dev", "eth0", *nodad)

    assert pings_from_inside(web, WORLD[version], source=forged) == 0

    assert dropped(web) == 3
    assert dropped(web, bystander.name) == 0
    assert pings_from_inside(web, WORLD[version], source=ADDRESS[version]) == 3


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_for_answers_from_an_address_of_the_host_drops_nothing_that_is_sent_there(
    web: Topology, version: int
) -> None:
    other_table(web, version, "from", HOST[version])
    wait_until(lambda: elements(web, version) == [web.veth("web")], "it counts as routed", seconds=30)

    pings_from_inside(web, HOST[version], source=ADDRESS[version])

    assert dropped(web) == 0
    assert pings_from_inside(web, WORLD[version], source=ADDRESS[version]) == 3


@pytest.mark.parametrize("version", [4, 6])
def test_what_changes_while_the_rule_stands_is_right_at_once(web: Topology, version: int) -> None:
    other_table(web, version, "iif", "lo")
    wait_until(lambda: elements(web, version) == [web.veth("web")], "it counts as routed", seconds=30)
    added = {4: "1.2.3.5", 6: "2001:db8:2::5"}[version]

    web.osctl("ct", "netif", "ip", "add", "web", "eth0", added)
    assert pings_from_inside(web, WORLD[version], source=added) == 3
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", added)
    nodad = ["nodad"] if version == 6 else []
    web.in_guest_network("web", "ip", "addr", "add", added, "dev", "eth0", *nodad)
    assert pings_from_inside(web, WORLD[version], source=added) == 0

    web.new_container("second", via=["10.100.20.0/30", "fd00:20::/126"], addresses=[
        {4: "1.2.3.77", 6: "2001:db8:2::77"}[version]
    ])  # fmt: skip
    assert pings_from_inside(web, WORLD[version], container="second") == 3
    web.kill_daemon()
    web.start_daemon()
    assert pings_from_inside(web, WORLD[version], source=ADDRESS[version]) == 3
    assert elements(web, version) == sorted([web.veth("web"), web.veth("second")])
    web.osctl("ct", "stop", "-k", "second")
    assert elements(web, version) == [web.veth("web")]


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_that_went_while_no_daemon_ran_leaves_nothing_hidden(web: Topology, version: int) -> None:
    other_table(web, version, "iif", "lo")
    wait_until(lambda: elements(web, version) == [web.veth("web")], "it counts as routed", seconds=30)
    web.kill_daemon()
    ip(web, version, "rule", "del", "pref", "100")

    web.start_daemon()

    wait_until(lambda: elements(web, version) == [], "nothing is hidden any more", seconds=30)
    assert pings_from_inside(web, WORLD[version], source=ADDRESS[version]) == 3


@pytest.mark.parametrize("version", [4, 6])
def test_of_two_interfaces_the_sources_of_one_pass_by_the_other(web: Topology, version: int) -> None:
    other_table(web, version, "iif", "lo")
    web.osctl("ct", "netif", "new", "routed", "--via", "10.100.30.0/30", "--via", "fd00:30::/126", "web", "eth1")
    second = {4: "1.2.3.60", 6: "2001:db8:2::60"}[version]
    web.osctl("ct", "netif", "ip", "add", "web", "eth1", second)

    assert pings_from_inside(web, WORLD[version], source=second) == 3  # by the default route, which is of eth0
