"""Null routes and other routes of somebody else's on the host: what is theirs wins, all else of a container goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.host import Topology, run, wait_until
from whole.monitor import events_of, everything

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
#: Of each IP version, one that is attacked and one that is not.
ATTACKED = {4: "1.2.3.10", 6: "2001:db8:2::10"}
SPARED = {4: "1.2.3.4", 6: "2001:db8:2::4"}
BYSTANDER = "1.2.3.5"
OTHERS = {4: "1.2.3.44", 6: "2001:db8:2::44"}

pytestmark = pytest.mark.requires_kernel("nftables fib")


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, with addresses that something comes in the way of, and `other` beside it."""
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=[*SPARED.values(), *ATTACKED.values()])
        host.new_container("other", via=["10.100.10.104/30"], addresses=[BYSTANDER])
        yield host


def ip(version: int) -> list[str]:
    return ["-6"] if version == 6 else []


def is_answered(host: Topology, address: str) -> bool:
    return host.ping(host.R, address, count=1) == 1


def is_routed(host: Topology, version: int, address: str) -> bool:
    """Whether the host's route to it is there. A ping that is lost takes a second to say so."""
    routes = host.ip_json(host.H, *ip(version), "route", "show", network(version, address))
    return any(each.get("dev", "").startswith("osweb") for each in routes)


def blocked(host: Topology) -> list[str]:
    found: list[str] = host.osctl_json("ct", "netif", "show", "web", "eth0")["blocked"]
    return found


def findings(host: Topology, *codes: str) -> list[dict[str, Any]]:
    # Its exit status is 1 when there are errors among the findings.
    found = json.loads(host.osctl("-j", "self", "check", check=False).stdout)
    return [each for each in found if each["code"] in codes]


def network(version: int, address: str) -> str:
    return f"{address}/{32 if version == 4 else 128}"


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_null_route_wins_at_once_is_told_and_yields_again_when_its_command_is_run(
    web: Topology, version: int, kind: str
) -> None:
    attacked, exact = ATTACKED[version], network(version, ATTACKED[version])
    verb = "replace" if version == 4 else "add"  # IPv6 gives it a metric of its own, which loses against ours

    with everything(web) as listener:
        web.ip(web.H, *ip(version), "route", verb, kind, exact)
        wait_until(lambda: not is_routed(web, version, attacked), "nothing leads to it", seconds=1)
        wait_until(lambda: events_of(listener, "blocked"), "an event tells", seconds=1)
        assert not events_of(listener, "mended")
    assert blocked(web) == [exact]
    assert [is_answered(web, each) for each in (attacked, SPARED[version], BYSTANDER)] == [False, True, True]
    assert f"web: {exact} is null-routed on the host: {kind} {exact}\n" in web.osctl("net", "reconcile").stdout
    (found,) = findings(web, "null-route")
    assert found["what"] == f"web: {exact} is null-routed on the host: {kind} {exact}"

    for command in found["commands"]:
        web.in_namespace(web.H, *command.split())

    wait_until(lambda: is_routed(web, version, attacked), "it is routed again", seconds=1)
    assert is_answered(web, attacked)
    wait_until(lambda: blocked(web) == [], "it is told no more")
    assert findings(web, "null-route") == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_container_starts_and_is_edited_beside_a_null_route(web: Topology, version: int) -> None:
    web.osctl("ct", "stop", "-k", "web")
    web.ip(web.H, *ip(version), "route", "add", "blackhole", network(version, ATTACKED[version]))

    web.osctl("ct", "start", "web")

    assert [is_answered(web, each) for each in (SPARED[version], ATTACKED[version])] == [True, False]
    assert blocked(web) == [network(version, ATTACKED[version])]
    web.osctl("ct", "netif", "rename", "web", "eth0", "wan0")
    web.osctl("ct", "netif", "ip", "add", "web", "wan0", "1.2.3.77")
    web.osctl("ct", "netif", "set", "--via", "10.100.10.108/30", "web", "wan0")
    assert [is_answered(web, each) for each in (SPARED[version], ATTACKED[version])] == [True, False]
    web.osctl("ct", "netif", "ip", "del", "web", "wan0", ATTACKED[version])
    assert web.ip_json(web.H, *ip(version), "route", "show", "type", "blackhole") != []


@pytest.mark.parametrize("version", [4, 6])
def test_asking_for_exactly_what_is_null_routed_is_refused_by_name_and_changes_nothing(
    web: Topology, version: int
) -> None:
    asked = {4: "1.2.3.66/32", 6: "2001:db8:2::66/128"}[version]
    web.ip(web.H, *ip(version), "route", "add", "blackhole", asked)
    family = "-6 " if version == 6 else ""

    for words in (["--dry-run"], []):
        refusal = web.refusal_without_trace("ct", "netif", "ip", "add", *words, "web", "eth0", asked)

        assert refusal == (
            f"{asked} is null-routed on the host: blackhole {asked}; "
            f"ip {family}route del blackhole {asked} makes room for web"
        )


def test_a_wider_null_route_is_an_aggregate_and_takes_nothing_away(web: Topology) -> None:
    web.ip(web.H, "route", "add", "blackhole", "1.2.3.0/24")
    web.ip(web.H, "-6", "route", "add", "unreachable", "2001:db8:2::/48")

    assert all(is_answered(web, each) for each in (*SPARED.values(), *ATTACKED.values()))
    assert web.osctl("net", "reconcile").stdout == "nothing to repair\n"
    assert blocked(web) == []


def test_with_a_network_that_is_null_routed_all_inside_of_it_yields(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24")
    web.osctl("ct", "netif", "ip", "add", "--route-as", "10.5.5.9/32", "web", "eth0", "10.5.5.9", check=False)

    web.ip(web.H, "route", "replace", "blackhole", "10.5.5.0/24")

    wait_until(lambda: "10.5.5.0/24" in blocked(web), "it is told", seconds=1)
    assert not web.ip_json(web.H, "route", "show", "root", "10.5.5.0/24", "dev", web.veth("web"))


WIDE = {4: ("10.100.20.0/24", "10.100.20.2/32"), 6: ("fd00:20::/64", "fd00:20::2/128")}


@pytest.mark.parametrize("part", [0, 1], ids=["network", "container end"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_wide_interconnecting_network_or_its_end_is_null_routed_and_all_else_is_routed(
    web: Topology, version: int, part: int
) -> None:
    """Routes have the container end for next hop, which the host does not reach then."""
    web.osctl("ct", "netif", "set", "--via", WIDE[version][0], "web", "eth0")
    before = blocked(web)

    web.ip(web.H, *ip(version), "route", "replace", "blackhole", WIDE[version][part])
    wait_until(lambda: WIDE[version][part] in blocked(web), "it is told", seconds=1)
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", *OTHERS.values())
    wait_until(lambda: web.osctl("net", "reconcile", check=False).status == 0, "nothing is left to mend")
    assert [is_answered(web, each) for each in (SPARED[version], OTHERS[version])] == [True, True]
    assert not is_answered(web, WIDE[version][1].partition("/")[0])

    web.osctl("ct", "restart", "-k", "web")
    assert [is_answered(web, each) for each in (SPARED[version], OTHERS[version])] == [True, True]
    web.restart_daemon()
    assert web.osctl("net", "reconcile").status == 0

    web.ip(web.H, *ip(version), "route", "del", "blackhole", WIDE[version][part])
    wait_until(lambda: blocked(web) == before, "it is told no more", seconds=1)
    assert [is_answered(web, each) for each in (SPARED[version], OTHERS[version])] == [True, True]
    assert not [each for each in web.ip_json(web.H, *ip(version), "route") if "onlink" in each.get("flags", ())]
    assert web.osctl("net", "reconcile").stdout == "nothing to repair\n"


def test_a_route_of_somebody_elses_in_place_of_that_to_the_container_end_stops_no_other(web: Topology) -> None:
    """Of IPv6 the kernel takes no route by a gateway that another route leads elsewhere."""
    network, end = WIDE[4]
    web.osctl("ct", "netif", "set", "--via", network, "web", "eth0")
    web.ip(web.H, "route", "replace", end, "dev", "up0")
    wait_until(lambda: blocked(web) == [end], "it is told", seconds=1)

    web.osctl("ct", "restart", "-k", "web")
    assert is_answered(web, SPARED[4])
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", OTHERS[4])
    web.restart_daemon()
    assert blocked(web) == [end]
    assert [is_answered(web, each) for each in (SPARED[4], OTHERS[4])] == [True, True]
    lines = web.refusal("net", "reconcile").splitlines()
    assert [line.split()[:4] for line in lines] == [["not", "repaired:", "web:", f"{end}:"]]

    web.ip(web.H, "route", "del", end, "dev", "up0")
    wait_until(lambda: blocked(web) == [], "it is told no more", seconds=1)
    assert web.osctl("net", "reconcile").stdout == "nothing to repair\n"
    assert [is_answered(web, each) for each in (SPARED[4], OTHERS[4])] == [True, True]


@pytest.mark.parametrize("version", [4, 6])
def test_a_route_of_somebody_elses_under_our_key_stops_no_start_and_no_other_edit(web: Topology, version: int) -> None:
    exact = network(version, ATTACKED[version])
    web.osctl("ct", "stop", "-k", "web")
    metric = ["metric", "8"] if version == 6 else []
    web.ip(web.H, *ip(version), "route", "add", exact, "dev", "up0", *metric)

    web.osctl("ct", "start", "web")

    assert is_answered(web, SPARED[version])
    assert blocked(web) == [exact]
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.77")
    assert is_answered(web, "1.2.3.77")
    assert f"not repaired: web: {exact}: the host already has route {exact} dev up0" in web.refusal("net", "reconcile")
    (found,) = findings(web, "in-the-way")
    assert found["what"].startswith(f"web: {exact}: the host already has route {exact} dev up0")

    for command in found["commands"]:
        web.in_namespace(web.H, *command.split())

    wait_until(lambda: is_routed(web, version, ATTACKED[version]), "it is routed", seconds=1)
    assert is_answered(web, ATTACKED[version])
    wait_until(lambda: blocked(web) == [], "it is told no more")


def test_very_many_routes_in_the_way_are_looked_at_together(web: Topology) -> None:
    networks = [f"10.7.{number // 256}.{number % 256}/32" for number in range(2000)]
    web.osctl("ct", "stop", "-k", "web")
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "-", stdin="\n".join(networks))
    batch = "".join(f"route add {each} dev up0\n" for each in networks)
    run("ip", "-n", web.H, "-batch", "-", stdin=batch)

    web.osctl("ct", "start", "web")

    assert is_answered(web, SPARED[4])
    assert blocked(web) == networks


def test_null_routes_that_came_while_no_daemon_ran_are_yielded_to_by_the_next(web: Topology) -> None:
    web.kill_daemon()
    for version, attacked in ATTACKED.items():
        web.ip(web.H, *ip(version), "route", "replace", "blackhole", attacked)
    web.start_daemon()

    wait_until(lambda: blocked(web) == [network(*each) for each in ATTACKED.items()], "both are told")

    assert not any(is_answered(web, each) for each in ATTACKED.values())
    assert all(is_answered(web, each) for each in SPARED.values())
