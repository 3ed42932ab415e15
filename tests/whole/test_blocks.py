"""`net block`, `net unblock`, `net blocks`: what is sent to an address is dropped on the host, on purpose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.bystander import Bystander
from whole.host import Settled, Topology, differences, wait_until
from whole.monitor import events_of, everything

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ATTACKED = {4: "1.2.3.10", 6: "2001:db8:2::10"}
SPARED = {4: "1.2.3.4", 6: "2001:db8:2::4"}
LENGTH = {4: 32, 6: 128}
ALL = {4: "0.0.0.0/0", 6: "::/0"}

pytestmark = pytest.mark.requires_kernel("nftables fib")


def a_host_with_web() -> Iterator[Topology]:
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=[*SPARED.values(), *ATTACKED.values()])
        settle(host)
        yield host


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, with addresses of both versions that are blocked and others that are not."""
    yield from a_host_with_web()


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """The same, for what must change nothing."""
    for host in a_host_with_web():
        yield Settled(host, running=["web"])


@pytest.fixture
def bystander(web: Topology) -> Bystander:
    return Bystander(web)


def settle(host: Topology) -> None:
    """Wait until nothing is answered for stopped containers any more: that follows the answer of a start."""

    def is_empty(version: int) -> bool:
        shown = host.in_namespace(host.H, "nft", "list", "set", "inet", "osctl", f"stopped{version}")
        return "elements" not in shown.stdout

    wait_until(lambda: is_empty(4) and is_empty(6), "nothing is answered for stopped containers", seconds=30)


def answered(host: Topology, address: str) -> bool:
    return host.ping(host.R, address, count=1, seconds=5 if address in SPARED.values() else 1) == 1


def null_routes(host: Topology, version: int) -> list[str]:
    family = ["-6"] if version == 6 else []
    return [str(each["dst"]) for each in host.ip_json(host.H, *family, "route", "show", "type", "blackhole")]


def leads_to_web(host: Topology, version: int, network: str) -> bool:
    family = ["-6"] if version == 6 else []
    routes = host.ip_json(host.H, *family, "route", "show", "root", network, "dev", host.veth("web"))
    return any(each["dst"] in (network, network.partition("/")[0]) for each in routes)


def blocks(host: Topology) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.osctl_json("net", "blocks")
    return found


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_sent_to_a_blocked_address_is_dropped_and_nothing_else(
    web: Topology, bystander: Bystander, version: int
) -> None:
    before = web.comparable_state("web")

    with bystander.unharmed(), everything(web) as listener:
        web.osctl("net", "block", ATTACKED[version])

        assert not answered(web, ATTACKED[version])
        assert all(answered(web, each) for each in SPARED.values())
        assert null_routes(web, version) == [ATTACKED[version]]
        wait_until(lambda: events_of(listener, "block"), "an event tells", seconds=30)
        assert [each for each in differences(before, web.comparable_state("web")) if each.startswith("web ")] == []
        assert web.osctl_json("ct", "netif", "show", "web", "eth0")["blocked"] == [
            f"{ATTACKED[version]}/{LENGTH[version]}"
        ]

    with bystander.unharmed():
        web.osctl("net", "unblock", ATTACKED[version])

        assert answered(web, ATTACKED[version])
        assert null_routes(web, version) == []
        assert web.comparable_state("web") == before


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_to_a_blocked_address_never_leaves_by_the_uplink(web: Topology, version: int) -> None:
    with web.capture(web.R, "down0", f"icmp{'6' if version == 6 else ''} and src {ATTACKED[version]}") as answers:
        web.osctl("net", "block", ATTACKED[version])
        assert web.ping(web.R, ATTACKED[version], count=20) == 0
        web.osctl("net", "unblock", ATTACKED[version])
        assert answered(web, ATTACKED[version])

    assert len([each for each in answers.lines if "echo reply" in each]) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_a_blocked_network_takes_along_all_that_is_inside_of_it(
    web: Topology, bystander: Bystander, version: int
) -> None:
    wide, address = {4: ("1.2.3.0/28", ATTACKED[4]), 6: ("2001:db8:2::/122", ATTACKED[6])}[version]

    with bystander.unharmed():
        web.osctl("net", "block", wide)

        assert [web.ping(web.R, each, count=1) for each in (address, SPARED[version])] == [0, 0]
        assert null_routes(web, version) == [wide]
        assert len(web.osctl_json("ct", "netif", "show", "web", "eth0")["blocked"]) == 2
        web.osctl("net", "unblock", wide)

    assert answered(web, address)
    assert answered(web, SPARED[version])


@pytest.mark.parametrize("version", [4, 6])
def test_a_part_of_a_routed_network_is_blocked_and_the_rest_is_not(web: Topology, version: int) -> None:
    wide, part, other = {
        4: ("10.5.5.0/24", "10.5.5.7", "10.5.5.8"),
        6: ("2001:db8:2:5::/64", "2001:db8:2:5::7", "2001:db8:2:5::8"),
    }[version]
    web.osctl("ct", "netif", "route", "add", "web", "eth0", wide)
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", part, other)

    web.osctl("net", "block", part)

    assert (answered(web, part), answered(web, other)) == (False, True)
    web.osctl("net", "unblock", part)
    assert answered(web, part)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_block_outlasts_the_daemon_and_the_container(web: Topology, version: int, how: str) -> None:
    web.osctl("net", "block", ATTACKED[version])
    (before,) = blocks(web)

    web.kill_daemon() if how == "kill" else web.stop_daemon()
    web.start_daemon()
    web.osctl("ct", "restart", "-k", "web")

    assert blocks(web) == [before]
    assert not answered(web, ATTACKED[version])
    assert answered(web, SPARED[version])
    assert null_routes(web, version) == [ATTACKED[version]]


@pytest.mark.parametrize("version", [4, 6])
def test_a_null_route_of_a_block_that_somebody_takes_away_is_put_back(web: Topology, version: int) -> None:
    family = ["-6"] if version == 6 else []
    web.osctl("net", "block", ATTACKED[version])

    web.ip(web.H, *family, "route", "del", "blackhole", ATTACKED[version], "proto", "112")

    wait_until(lambda: null_routes(web, version) == [ATTACKED[version]], "it is there again", seconds=30)
    assert not answered(web, ATTACKED[version])


@pytest.mark.parametrize("version", [4, 6])
def test_a_block_that_no_daemon_remembers_is_taken_away_when_one_starts(web: Topology, version: int) -> None:
    family, metric = (["-6"], ["metric", "8"]) if version == 6 else ([], [])
    web.kill_daemon()
    web.ip(web.H, *family, "route", "replace", "blackhole", ATTACKED[version], "proto", "112", *metric)

    web.start_daemon()

    wait_until(lambda: null_routes(web, version) == [], "it is gone", seconds=30)
    wait_until(lambda: answered(web, ATTACKED[version]), "it is reached", seconds=30)


def test_a_block_ends_by_itself_after_its_time_and_that_is_told(web: Topology, bystander: Bystander) -> None:
    before = time.time()
    with bystander.unharmed(), everything(web) as listener:
        web.osctl("net", "block", "--for", "3s", ATTACKED[4])
        (there,) = blocks(web)
        assert before + 3 <= there["until_epoch"] <= time.time() + 3

        wait_until(lambda: blocks(web) == [], "it has ended", seconds=60)

        wait_until(lambda: len(events_of(listener, "block")) == 2, "both are told", seconds=30)
    assert [each["action"] for each in events_of(listener, "block")] == ["add", "remove"]
    assert answered(web, ATTACKED[4])
    assert web.osctl_json("history")[-1]["command"] == f"osctl net unblock {ATTACKED[4]}"


def test_a_block_whose_time_was_over_while_no_daemon_ran_ends_when_one_starts(web: Topology) -> None:
    web.osctl("net", "block", "--for", "1s", ATTACKED[6])
    web.kill_daemon()
    over = time.time() + 1.5
    wait_until(lambda: time.time() > over, "its time is over", seconds=30)
    assert null_routes(web, 6) == [ATTACKED[6]]

    web.start_daemon()

    wait_until(lambda: blocks(web) == [], "it has ended", seconds=30)
    assert answered(web, ATTACKED[6])


def test_another_time_replaces_the_first_and_a_block_without_one_stays(web: Topology) -> None:
    web.osctl("net", "block", "--for", "2s", ATTACKED[4])
    (first,) = blocks(web)

    web.osctl("net", "block", ATTACKED[4])

    (second,) = blocks(web)
    assert second["since"] == first["since"]
    assert second["until"] is None
    over = time.time() + 3
    wait_until(lambda: time.time() > over, "the first time is over", seconds=30)
    assert len(blocks(web)) == 1
    assert web.osctl_json("history")[-1]["command"].endswith(f"net block {ATTACKED[4]}")


def test_who_blocked_what_since_when_is_listed_and_in_the_history(web: Topology) -> None:
    web.osctl("net", "block", "--for", "2h", ATTACKED[6], ATTACKED[4])

    first, second = blocks(web)

    assert [first["network"], second["network"]] == [f"{ATTACKED[4]}/32", f"{ATTACKED[6]}/128"]
    assert first["holders"] == ["eth0 of web"]
    assert (first["user"], second["user"]) == (0, 0)
    assert first["command"].endswith(f"net block --for 2h {ATTACKED[6]} {ATTACKED[4]}")
    assert web.osctl_json("history")[-1]["command"].endswith(first["command"].removeprefix("osctl "))
    shown = web.osctl("net", "blocks").stdout.splitlines()
    assert shown[0].split() == ["NETWORK", "HOLDERS", "SINCE", "UNTIL", "USER", "COMMAND"]
    web.osctl("net", "unblock", "all")
    assert web.osctl("net", "blocks").stdout == "nothing is blocked\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["block", "nonsense"], "nonsense"),
        (["block", "0.0.0.0/0"], "0.0.0.0/0: cannot be blocked, it stands for everything"),
        (["block", "::/0"], "::/0: cannot be blocked, it stands for everything"),
        (["block", "1.2.3.99"], "1.2.3.99/32: held by no container"),
        (["block", "2001:db8:2::99"], "2001:db8:2::99/128: held by no container"),
        (["block", "192.0.2.1"], "192.0.2.1/32 is an address of the host, on up0"),
        (["block", "192.0.2.0/24"], "192.0.2.0/24 is in use on the host, on up0"),
        (["block", "192.0.2.2"], "192.0.2.2/32 is the next hop of the host's default route, on up0"),
        (["block", "2001:db8:1::/48"], "2001:db8:1::/48: 2001:db8:1::/64 is in use on the host, on up0"),
        (
            ["block", "10.100.10.102"],
            "10.100.10.102/32: 10.100.10.102 is an end of 10.100.10.100/30, the interconnecting network of eth0 of web",
        ),
        (
            ["block", "fd00:1::/64"],
            "fd00:1::/64: fd00:1::1 is an end of fd00:1::/126, the interconnecting network of eth0 of web",
        ),
        (["unblock", "1.2.3.4"], "1.2.3.4: not blocked"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(settled: Settled, words: list[str], why: str) -> None:
    assert why in settled.refusal("net", *words)


@pytest.mark.parametrize("time", ["", "0", "-1", "1x", "1h30", "many", "99999w", "1.5h"])
def test_a_time_that_makes_no_sense_is_refused(settled: Settled, time: str) -> None:
    assert "--for" in settled.refusal("net", "block", f"--for={time}", ATTACKED[4], status=64)


def test_unblock_names_the_block_that_an_address_is_in(web: Topology) -> None:
    web.osctl("net", "block", "1.2.3.0/28")

    assert web.refusal("net", "unblock", SPARED[4]) == "1.2.3.4: not blocked; the network around it, 1.2.3.0/28, is"


@pytest.mark.parametrize("version", [4, 6])
def test_a_dry_run_prints_what_the_real_one_does_and_does_nothing(web: Topology, version: int) -> None:
    family = " -6" if version == 6 else ""
    metric = " metric 8" if version == 6 else ""
    exact = f"{ATTACKED[version]}/{LENGTH[version]}"
    before = web.comparable_state("web")

    planned = web.osctl("net", "block", "--dry-run", ATTACKED[version]).stdout

    assert planned == f"# on the host\nip{family} route replace blackhole {exact} proto 112{metric}\n"
    assert web.comparable_state("web") == before
    assert blocks(web) == []
    web.osctl("net", "block", ATTACKED[version])
    planned = web.osctl("net", "unblock", "--dry-run", ATTACKED[version]).stdout
    assert planned.startswith(f"# on the host\nip{family} route replace {exact} via ")
    assert len(blocks(web)) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_a_route_of_somebody_elses_in_its_place_is_named_and_nothing_changes(web: Topology, version: int) -> None:
    family, metric = (["-6"], ["metric", "8"]) if version == 6 else ([], [])
    web.osctl("ct", "stop", "-k", "web")
    exact = f"{ATTACKED[version]}/{LENGTH[version]}"
    web.ip(web.H, *family, "route", "add", exact, "dev", "up0", *metric)
    web.osctl("ct", "start", "web")
    settle(web)

    refusal = web.refusal_without_trace("net", "block", ATTACKED[version], running=["web"])

    assert refusal.startswith(f"{exact}: the host already has route {exact} dev up0")
    assert "makes room" in refusal


def test_to_ask_for_exactly_what_is_blocked_is_refused_by_name(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24")
    web.osctl("net", "block", "10.5.5.0/24")
    web.osctl("ct", "netif", "route", "del", "web", "eth0", "10.5.5.0/24")

    refusal = web.refusal_without_trace("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.7", running=["web"])

    assert refusal == (
        "10.5.5.7/32 is blocked: osctl net block 10.5.5.0/24; osctl net unblock 10.5.5.0/24 makes room for web"
    )


def test_an_edit_beside_a_block_goes_on_and_a_moved_address_stays_blocked(web: Topology, bystander: Bystander) -> None:
    web.osctl("net", "block", ATTACKED[4])

    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.77")
    web.osctl("ct", "netif", "ip", "move", "web", "eth0", bystander.name, "eth0", ATTACKED[4])

    assert answered(web, "1.2.3.77")
    assert not answered(web, ATTACKED[4])
    web.osctl("net", "unblock", ATTACKED[4])
    assert answered(web, ATTACKED[4])
    assert not leads_to_web(web, 4, f"{ATTACKED[4]}/32")


def test_a_block_is_told_by_status_and_self_check(web: Topology) -> None:
    web.osctl("net", "block", ATTACKED[4])

    (told,) = json.loads(web.osctl("-j", "status", check=False).stdout)
    findings = json.loads(web.osctl("-j", "self", "check", check=False).stdout)

    assert (told["state"], told["ctid"], told["netif"], told["address"]) == ("null-routed", "web", "eth0", ATTACKED[4])
    assert told["since_epoch"] == blocks(web)[0]["since_epoch"]
    assert told["commands"] == [f"osctl net unblock {ATTACKED[4]}"]
    (found,) = [each for each in findings if each["code"] == "block"]
    assert (found["severity"], found["commands"]) == ("note", told["commands"])
    assert web.osctl("net", "reconcile").stdout == f"web: {ATTACKED[4]}/32 is blocked: osctl net block {ATTACKED[4]}\n"
    web.osctl("net", "unblock", ATTACKED[4])
    assert web.osctl("status").status == 0


def test_a_stopped_containers_address_is_blocked_before_it_starts(web: Topology) -> None:
    web.osctl("ct", "stop", "-k", "web")
    web.osctl("net", "block", *ATTACKED.values())

    web.osctl("ct", "start", "web")

    assert [answered(web, each) for each in (*ATTACKED.values(), *SPARED.values())] == [False, False, True, True]


def test_a_copy_of_the_configuration_leaves_what_is_blocked_now(web: Topology) -> None:
    file = web.directory / "backup"
    web.osctl("net", "block", ATTACKED[4])
    web.osctl("self", "backup", str(file))
    web.osctl("net", "unblock", "all")
    web.osctl("net", "block", ATTACKED[6])

    web.osctl("self", "restore", str(file))

    assert [each["network"] for each in blocks(web)] == [f"{ATTACKED[6]}/128"]
    assert (answered(web, ATTACKED[4]), answered(web, ATTACKED[6])) == (True, False)
