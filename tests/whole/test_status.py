"""`osctl status`: the verdict, and only what is not as it should be, each with the command that mends it."""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from whole.bare_daemon import BARE, power_off
from whole.bystander import Bystander
from whole.host import Topology, wait_until

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESS = {4: "1.2.3.4", 6: "2001:db8:2::4"}
LENGTH = {4: 32, 6: 128}

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


def status(host: Topology) -> tuple[int, list[dict[str, Any]]]:
    answer = host.osctl("-j", "status", check=False)
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return answer.status, found


def told(host: Topology, state: str) -> list[dict[str, Any]]:
    """What is told of this state; nothing else is."""
    _, found = status(host)
    assert {each["state"] for each in found} <= {state}, found
    return found


def run_commands(host: Topology, commands: list[str]) -> None:
    """As a person would paste them: ours to this daemon."""
    for command in commands:
        words = shlex.split(command)
        if words[0] == "osctl":
            host.osctl(*words[1:])
        else:
            host.in_namespace(host.H, *words)


def mend(host: Topology, commands: list[str], state: str) -> None:
    run_commands(host, commands)
    wait_until(lambda: told(host, state) == [], f"nothing is {state} any more", seconds=30)
    assert host.osctl("status").status == 0


def test_when_all_is_well_there_is_a_verdict_and_nothing_else(web: Topology, bystander: Bystander) -> None:
    assert web.osctl("status").stdout == "all is well: 2 containers, all running\n"
    assert status(web) == (0, [])
    assert web.osctl("status", "-H").stdout == ""

    web.osctl("ct", "stop", "-k", bystander.name)

    assert web.osctl("status").stdout == "all is well: 2 containers, 1 running\n"


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_null_routed_is_told_with_its_time_and_the_command_that_mends_it(
    web: Topology, bystander: Bystander, version: int
) -> None:
    family = ["-6"] if version == 6 else []
    before = time.time()

    with bystander.unharmed():
        web.ip(web.H, *family, "route", "replace", "blackhole", ADDRESS[version])
        found = wait_until(lambda: told(web, "null-routed"), "it is told", seconds=30)

    (each,) = found
    assert [each[name] for name in ("severity", "ctid", "netif", "address")] == [
        "warning", "web", "eth0", ADDRESS[version]
    ]  # fmt: skip
    assert each["cause"] == f"null-routed on the host: blackhole {ADDRESS[version]}/{LENGTH[version]}"
    assert before - 1 <= each["since_epoch"] <= time.time()
    shown = web.osctl("status", check=False)
    assert shown.status == 1
    assert shown.stdout.startswith("1 warning; 2 containers, all running\n\n")
    with bystander.unharmed():
        mend(web, each["commands"], "null-routed")


@pytest.mark.parametrize("version", [4, 6])
def test_a_route_of_somebody_elses_under_our_key_is_told_as_blocked(
    web: Topology, bystander: Bystander, version: int
) -> None:
    family, metric = (["-6"], ["metric", "8"]) if version == 6 else ([], [])
    web.osctl("ct", "stop", "-k", "web")

    with bystander.unharmed():
        web.ip(web.H, *family, "route", "add", f"{ADDRESS[version]}/{LENGTH[version]}", "dev", "up0", *metric)
        web.osctl("ct", "start", "web")
        found = wait_until(lambda: [each for each in status(web)[1] if each["state"] == "blocked"], "it is told")

    (each,) = found
    assert (each["severity"], each["ctid"], each["address"]) == ("error", "web", ADDRESS[version])
    assert status(web)[0] == 2
    run_commands(web, each["commands"])
    wait_until(lambda: status(web) == (0, []), "all is well again", seconds=30)


def test_very_many_things_of_one_cause_are_told_as_one(web: Topology) -> None:
    networks = [f"10.7.{number // 256}.{number % 256}/32" for number in range(600)]
    web.osctl("ct", "netif", "route", "add", "web", "eth0", *networks, "10.7.0.0/16")

    web.ip(web.H, "route", "replace", "blackhole", "10.7.0.0/16")

    wait_until(lambda: [each["count"] for each in told(web, "null-routed")] == [601], "it is told", seconds=30)
    (each,) = told(web, "null-routed")
    assert each["address"] == "10.7.0.0/16"
    mend(web, each["commands"], "null-routed")


def test_very_many_things_of_different_causes_are_told_as_some_and_the_rest(web: Topology) -> None:
    networks = [f"10.7.{number // 256}.{number % 256}" for number in range(600)]
    web.osctl("ct", "netif", "route", "add", "web", "eth0", *networks)

    web.in_namespace(
        web.H, "sh", "-c", "for each; do echo route replace blackhole $each; done | ip -batch -", "sh", *networks
    )

    wait_until(
        lambda: [each["count"] for each in told(web, "null-routed")] == [*[1] * 10, 590], "all are told", seconds=60
    )
    assert told(web, "null-routed")[-1]["commands"] == ["osctl self check"]


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_assigned_and_not_routed_is_told(web: Topology, bystander: Bystander, version: int) -> None:
    address = {4: "1.2.3.77", 6: "2001:db8:2::77"}[version]

    with bystander.unharmed():
        web.osctl("ct", "netif", "ip", "add", "--no-route", "web", "eth0", address)

        (each,) = told(web, "unrouted")

    assert (each["severity"], each["ctid"], each["netif"], each["address"]) == ("warning", "web", "eth0", address)
    with bystander.unharmed():
        mend(web, each["commands"], "unrouted")
    assert web.ping(web.R, address, count=1) == 1


def test_what_is_parked_is_told_and_its_command_routes_it_again(web: Topology, bystander: Bystander) -> None:
    web.stop_daemon()
    with contextlib.closing(sqlite3.connect(web.state_dir / "osctl.sqlite")) as store:
        ((document,),) = store.execute("SELECT document FROM container WHERE name = 'web'").fetchall()
        parked = json.loads(document) | {"parked": [f"{ADDRESS[4]}/32", f"{ADDRESS[6]}/128"]}
        store.execute("UPDATE container SET document = ? WHERE name = 'web'", (json.dumps(parked).encode(),))
        store.commit()
    web.start_daemon()

    with bystander.unharmed():
        (each,) = told(web, "parked")

    assert (each["severity"], each["ctid"], each["netif"]) == ("warning", "web", "eth0")
    assert (each["address"], each["count"]) == (ADDRESS[4], 2)
    assert web.ping(web.R, ADDRESS[4], count=1) == 0
    with bystander.unharmed():
        mend(web, each["commands"], "parked")
    assert all(web.ping(web.R, address, count=1) == 1 for address in ADDRESS.values())


def test_what_was_changed_inside_is_told(web: Topology, bystander: Bystander) -> None:
    with bystander.unharmed():
        web.in_guest_network("web", "ip", "addr", "del", "1.2.3.4/32", "dev", "eth0")
        web.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

        (each,) = wait_until(lambda: told(web, "drifted"), "it is told", seconds=30)

    assert (each["severity"], each["ctid"]) == ("warning", "web")
    assert "1.2.3.4/32" in each["cause"]
    with bystander.unharmed():
        mend(web, each["commands"], "drifted")
    assert web.ping(web.R, "1.2.3.4", count=1) == 1


def test_a_container_that_should_be_running_and_is_not_is_told(web: Topology, bystander: Bystander) -> None:
    power_off(web.run_dir, "web")
    wait_until(lambda: web.life("web")[0] == "stopped", "it has ended", seconds=30)
    wait_until(lambda: status(web) == (0, []), "nobody wants it any more: it ended by itself")
    web.osctl("ct", "start", "web")
    assert bystander.name != "web"

    web.osctl("self", "shutdown", "--force")

    (each,) = told(web, "not running")
    assert (each["severity"], each["ctid"], each["count"]) == ("error", "", 2)
    assert each["cause"].startswith("containers are not started: all containers have been shut down since ")
    assert status(web)[0] == 2
    run_commands(web, each["commands"])
    wait_until(lambda: status(web) == (0, []), "all is well again", seconds=60)


@pytest.mark.parametrize("path", ["net/ipv4/conf/up0/forwarding", "net/ipv6/conf/all/forwarding"])
def test_a_host_that_does_not_forward_is_told(path: str) -> None:
    with Topology(program=BARE, settings="[host]\nmanage_forwarding = false\n") as host:
        for key in ("net/ipv4/conf/up0/forwarding", "net/ipv6/conf/all/forwarding"):
            host.sysctl(host.H, key, "1")
        host.new_container("web", via=VIAS, addresses=list(ADDRESS.values()))
        assert status(host) == (0, [])

        host.sysctl(host.H, path, "0")

        (each,) = told(host, "not forwarding")
        assert (each["severity"], each["ctid"]) == ("error", "")
        assert status(host)[0] == 2
        mend(host, each["commands"], "not forwarding")


@pytest.mark.requires_kernel("bridge")
def test_a_link_that_is_somebody_elses_port_is_told_as_unreachable() -> None:
    with Topology(program=BARE, settings='[host]\nforeign_master = "report"\n') as host:
        host.new_container("web", via=VIAS, addresses=list(ADDRESS.values()))
        bystander = Bystander(host)
        host.ip(host.H, "link", "add", "vmbr0", "type", "bridge")
        host.ip(host.H, "link", "set", "vmbr0", "up")

        with bystander.unharmed():
            host.ip(host.H, "link", "set", host.veth("web"), "master", "vmbr0")
            (each,) = told(host, "unreachable")

        assert (each["severity"], each["ctid"], each["netif"]) == ("error", "web", "eth0")
        mend(host, each["commands"], "unreachable")


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_that_the_host_took_later_is_told_as_unreachable(
    web: Topology, bystander: Bystander, version: int
) -> None:
    taken = f"{ADDRESS[version]}/{LENGTH[version]}"
    with bystander.unharmed():
        web.ip(web.H, "addr", "add", taken, "dev", "up0", *(["nodad"] if version == 6 else []))

        (each,) = told(web, "unreachable")

    assert (each["severity"], each["ctid"], each["address"]) == ("error", "web", ADDRESS[version])
    assert web.in_guest_network("web", "true").status == 0
    with bystander.unharmed():
        mend(web, each["commands"], "unreachable")
    assert web.ping(web.R, ADDRESS[version], count=1) == 1


def test_a_firewall_that_drops_what_goes_to_containers_is_told(web: Topology) -> None:
    web.in_namespace(
        web.H, "nft", "table inet own { chain way { type filter hook forward priority 5; policy drop; }; }"
    )

    (each,) = told(web, "unreachable")

    assert (each["severity"], each["ctid"]) == ("error", "")
    mend(web, each["commands"], "unreachable")
    assert web.ping(web.R, ADDRESS[4], count=1) == 1


def test_since_when_something_is_so_is_known_over_a_restart_of_the_daemon(web: Topology) -> None:
    web.ip(web.H, "route", "replace", "blackhole", ADDRESS[4])
    (before,) = wait_until(lambda: told(web, "null-routed"), "it is told", seconds=30)

    web.kill_daemon()
    web.start_daemon()

    (after,) = wait_until(lambda: told(web, "null-routed"), "it is told again", seconds=30)
    assert after["since_epoch"] == before["since_epoch"]
    mend(web, after["commands"], "null-routed")
    web.ip(web.H, "route", "replace", "blackhole", ADDRESS[4])
    (anew,) = wait_until(lambda: told(web, "null-routed"), "it is told anew", seconds=30)
    assert anew["since_epoch"] > before["since_epoch"]


def test_it_is_known_since_when_something_is_so_though_nobody_asked(web: Topology) -> None:
    before = time.time()
    web.ip(web.H, "route", "replace", "blackhole", ADDRESS[4])
    wait_until((web.run_dir / "since.json").exists, "it was noted", seconds=30)
    noted = time.time()

    (each,) = told(web, "null-routed")

    assert before - 1 <= each["since_epoch"] <= noted


def test_the_rows_can_be_chosen_and_fed_to_a_shell(web: Topology) -> None:
    web.osctl("ct", "netif", "ip", "add", "--no-route", "web", "eth0", "1.2.3.77")

    shown = web.osctl("status", "-H", "-o", "commands", check=False)

    assert shown.stdout == "osctl ct netif route add web eth0 1.2.3.77\n\n"
