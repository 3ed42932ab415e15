"""One authority on addresses, in which the host is a holder: what it refuses, by name, and what it answers."""

from __future__ import annotations

import ipaddress
import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import osctl.client
from whole.bare_daemon import BARE
from whole.host import HOST_4, HOST_6, ROUTER_4, ROUTER_6, Settled, Topology, run, wait_until

ADD = ("ct", "netif", "ip", "add")
ROUTE = ("ct", "netif", "route", "add")
NEW = ("ct", "netif", "new", "routed")
WEB = ("web", "eth0")
FORCED = "; --overlap-host permits it"


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, of both versions, with no address yet."""
    with Topology(program=BARE) as topology:
        topology.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"])
        yield topology


def settled(host: Topology) -> Settled:
    return Settled(host, running=["web"])


# --- K1: what the host needs itself -------------------------------------------------------------------------------


def test_addresses_next_hops_and_edges_of_the_host_are_refused_by_name(web: Topology) -> None:
    web.ip(web.H, "route", "add", "default", "via", "192.0.2.9", "table", "77")
    nothing_changes = settled(web)

    for argv, says in (
        ((*ADD, *WEB, HOST_4), "192.0.2.1 is an address of the host, on up0"),
        ((*ADD, *WEB, HOST_6), f"{HOST_6} is an address of the host, on up0"),
        ((*ADD, "--force", *WEB, HOST_4), "192.0.2.1 is an address of the host, on up0"),
        ((*ADD, "--no-route", *WEB, HOST_4), "192.0.2.1 is an address of the host, on up0"),
        ((*ADD, *WEB, ROUTER_4), f"192.0.2.2 is the next hop of the host's default route, on up0{FORCED}"),
        ((*ADD, *WEB, ROUTER_6), f"{ROUTER_6} is the next hop of the host's default route, on up0{FORCED}"),
        ((*ADD, *WEB, "192.0.2.9"), f"192.0.2.9 is the next hop of the host's default route, on up0{FORCED}"),
        ((*ADD, *WEB, "192.0.2.255"), "192.0.2.255 is the broadcast address of 192.0.2.0/24, on up0"),
        ((*ADD, "-f", *WEB, "192.0.2.255"), "192.0.2.255 is the broadcast address of 192.0.2.0/24, on up0"),
        ((*ADD, *WEB, "192.0.2.0"), "192.0.2.0 is the network address of 192.0.2.0/24, on up0"),
        ((*ROUTE, *WEB, "192.0.0.0/16"), "192.0.0.0/16: 192.0.2.1 is an address of the host, on up0"),
        ((*ROUTE, "-f", *WEB, "192.0.2.0/30"), "192.0.2.0/30: 192.0.2.1 is an address of the host, on up0"),
        ((*ROUTE, *WEB, "192.0.2.8/31"), "192.0.2.8/31: 192.0.2.9 is the next hop of the host's default route"),
        ((*NEW, "--via", "192.0.2.0/30", "web", "eth1"), "192.0.2.0/30: 192.0.2.1 is an address of the host, on up0"),
        ((*NEW, "--via", "192.0.2.128/30", "web", "eth1"), f"192.0.2.0/24 is in use on the host, on up0{FORCED}"),
    ):
        message = nothing_changes.refusal(*argv)
        assert says in message, (argv, message)
        assert message.count("\n") <= 1

    web.osctl(*ADD, "--force", *WEB, "192.0.2.9")
    web.osctl(*NEW, "--force", "--via", "192.0.2.128/30", "web", "eth1")


def test_the_host_s_own_later_address_takes_nothing_from_anybody_and_is_told_of(web: Topology) -> None:
    web.osctl(*ADD, *WEB, "198.51.100.7")

    with osctl.client.connect(str(web.socket)) as daemon:
        events = daemon.events("address_conflict")
        web.ip(web.H, "addr", "add", "198.51.100.7/32", "dev", "up0")
        told = next(events)
    assert (told.opts["id"], told.opts["netif"], told.opts["network"], told.opts["holder"]) == (
        "web", "eth0", "198.51.100.7/32", "198.51.100.7 is an address of the host, on up0",
    )  # fmt: skip

    def found() -> list[str]:
        rows = json.loads(web.osctl("-j", "self", "check", check=False).stdout)
        return [each["what"] for each in rows if each["code"] == "held-by-both"]

    assert found() == ["198.51.100.7 of eth0 of web is an address of the host, on up0"]
    assert "198.51.100.7" in web.ip(web.H, "addr", "show", "dev", "up0"), "nothing of the host is touched"
    rows = web.osctl_json("net", "who", "198.51.100.7")
    assert sorted(each["holder"] for each in rows) == ["eth0 of web", "host"]
    web.ip(web.H, "addr", "del", "198.51.100.7/32", "dev", "up0")
    assert found() == []


# --- K2: routes of the host ---------------------------------------------------------------------------------------


def test_static_routes_are_refused_in_whole_and_in_part_and_others_are_in_nobody_s_way(web: Topology) -> None:
    web.ip(web.H, "route", "add", "20.0.0.0/9", "via", ROUTER_4)
    web.ip(web.H, "route", "add", "blackhole", "11.0.0.0/8")
    web.ip(web.H, "route", "add", "unreachable", "12.0.0.0/8", "proto", "static")
    web.ip(web.H, "route", "add", "172.16.0.0/12", "via", ROUTER_4, "proto", "bgp")
    web.ip(web.H, "-6", "route", "add", "2001:db8:7::/48", "via", ROUTER_6, "proto", "ospf")
    nothing_changes = settled(web)
    static = "20.0.0.0/9 is a route of the host (proto boot), on up0"

    for argv, says in (
        ((*NEW, "--via", "20.9.0.0/30", "web", "eth1"), f"20.9.0.0/30: {static}{FORCED}"),
        ((*ROUTE, *WEB, "20.5.5.0/24"), f"20.5.5.0/24: {static}{FORCED}"),
        ((*ROUTE, *WEB, "20.0.0.0/9"), f"{static}{FORCED}"),
        ((*ROUTE, *WEB, "20.0.0.0/8"), f"20.0.0.0/8: {static}{FORCED}"),
        ((*ADD, *WEB, "20.5.5.5"), f"20.5.5.5: {static}{FORCED}"),
    ):
        assert says in nothing_changes.refusal(*argv), argv

    web.osctl(*ROUTE, "--force", *WEB, "20.5.5.0/24")
    assert web.osctl(*ROUTE, *WEB, "11.5.5.0/24", "12.5.5.0/24").stdout == ""
    assert web.osctl(*ROUTE, *WEB, "172.16.5.0/24").stdout == (
        "172.16.5.0/24: 172.16.0.0/12 is a route of the host learned by bgp, on up0\n"
    )
    assert web.osctl(*ADD, *WEB, "2001:db8:7::7").stdout == (
        "2001:db8:7::7: 2001:db8:7::/48 is a route of the host learned by ospf, on up0\n"
    )
    web.ip(web.H, "route", "del", "20.0.0.0/9")
    web.osctl(*ROUTE, *WEB, "20.6.5.0/24")


# --- K3: networks of uplinks --------------------------------------------------------------------------------------


def test_a_part_of_an_uplink_s_network_is_given_out_once_its_link_is_declared(web: Topology) -> None:
    nothing_changes = settled(web)
    for argv in ((*ADD, *WEB, "192.0.2.77"), (*ROUTE, *WEB, "192.0.2.64/28"), (*ADD, *WEB, "2001:db8:1::77")):
        message = nothing_changes.refusal(*argv)
        assert "is in use on the host, on up0; osctl net uplink add up0 permits it" in message, message
    refused = "'nope': the host is not connected to a network on this link; it is connected to networks on up0"
    assert refused in nothing_changes.refusal("net", "uplink", "add", "nope")
    assert "invalid link name" in nothing_changes.refusal("net", "uplink", "add", "a/b")
    assert "'up0': not a declared uplink" in nothing_changes.refusal("net", "uplink", "del", "up0")
    assert web.osctl("net", "uplink", "add", "--dry-run", "up0").stdout == (
        "# containers may use addresses from the networks on up0: 192.0.2.0/24, 2001:db8:1::/64\n"
    )

    web.osctl("net", "uplink", "add", "up0")

    assert "'up0': already declared" in web.refusal("net", "uplink", "add", "up0")
    web.osctl(*ADD, *WEB, "192.0.2.77", "2001:db8:1::77")
    web.osctl(*ROUTE, *WEB, "192.0.2.64/29")
    for words, says in (
        ((*ADD, *WEB, HOST_4), "is an address of the host"),
        ((*ADD, *WEB, ROUTER_4), "is the next hop of"),
        ((*ADD, *WEB, "192.0.2.255"), "is the broadcast address"),
        ((*ROUTE, *WEB, "192.0.2.0/24"), "192.0.2.1 is an address of the host"),
        ((*NEW, "--via", "192.0.2.128/30", "web", "eth1"), "192.0.2.0/24 is in use on the host"),
    ):
        assert says in web.refusal(*words), words
    assert web.osctl_json("net", "uplink", "ls") == [
        {"link": "up0", "networks": ["192.0.2.0/24", "2001:db8:1::/64"], "held": 3}
    ]
    web.restart_daemon()
    web.osctl(*ADD, *WEB, "192.0.2.78")
    web.osctl("net", "uplink", "del", "up0")
    assert "osctl net uplink add up0" in web.refusal(*ADD, *WEB, "192.0.2.79")
    found = json.loads(web.osctl("-j", "self", "check", check=False).stdout)
    assert [each["what"] for each in found if each["code"] == "held-by-both"] == [
        "192.0.2.64/29 and 2 more of eth0 of web: 192.0.2.0/24 is in use on the host, on up0",
        "2001:db8:1::77 of eth0 of web: 2001:db8:1::/64 is in use on the host, on up0",
    ]


@pytest.mark.parametrize(
    ("network", "uplink", "words"),
    [
        ("198.51.100.7/32", "192.0.2.2", (*ADD, *WEB, "198.51.100.7")),
        ("2001:db8:9::/64", "2001:db8:1::2", (*ROUTE, *WEB, "2001:db8:9::/64")),
    ],
)
def test_what_the_host_routes_elsewhere_later_is_found_with_the_command_that_resolves_it(
    web: Topology, network: str, uplink: str, words: tuple[str, ...]
) -> None:
    web.osctl(*words)
    web.ip(web.H, "route", "add", network, "via", uplink, "proto", "static", "metric", "50")

    def found() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(web.osctl("-j", "self", "check", check=False).stdout)
        return [each for each in rows if network.split("/")[0] in each["what"]]

    told = found()
    assert told
    for command in dict.fromkeys(command for each in told for command in each["commands"]):
        web.in_namespace(web.H, *command.split(), check=False)
    assert found() == []


# --- K7: delegation -----------------------------------------------------------------------------------------------


def test_a_part_that_is_given_on_sends_from_its_new_holder_alone_until_it_is_deleted(web: Topology) -> None:
    web.new_container("db", via=["10.100.10.104/30"])
    web.osctl(*ROUTE, *WEB, "203.0.113.0/24")
    nothing_changes = Settled(web, running=["web", "db"])
    message = nothing_changes.refusal(*ADD, "db", "eth0", "203.0.113.9")
    assert "203.0.113.9: 203.0.113.0/24 is routed to eth0 of web" in message
    assert "203.0.113.0/24 is routed" in nothing_changes.refusal(*ROUTE, "-f", "db", "eth0", "203.0.113.0/24")

    def holder() -> str:
        (route,) = web.ip_json(web.H, "route", "get", "203.0.113.9")
        return str(route["dev"])

    web.osctl(*ADD, "--force", "db", "eth0", "203.0.113.9")

    assert holder() == web.veth("db")
    assert [each["holder"] for each in web.osctl_json("net", "who", "203.0.113.9")] == ["eth0 of web", "eth0 of db"]
    web.osctl("ct", "netif", "ip", "del", "db", "eth0", "203.0.113.9")
    assert holder() == web.veth("web")
    assert [each["holder"] for each in web.osctl_json("net", "who", "203.0.113.9")] == ["eth0 of web"]


# --- K8: who ------------------------------------------------------------------------------------------------------


def test_who_holds_an_address_is_whom_the_kernel_sends_it_to(web: Topology) -> None:
    chance = random.Random(8)
    for number in range(6):
        name = f"ct{number}"
        web.new_container(name, via=[f"10.100.{number}.0/30"])
        for _ in range(8):
            network = ipaddress.ip_network((0xC6336400 + chance.randrange(512), chance.choice((32, 31, 30, 28))), False)
            web.osctl(*ROUTE, name, "eth0", str(network), check=False)
    links = {web.veth(f"ct{number}"): f"eth0 of ct{number}" for number in range(6)} | {web.veth("web"): "eth0 of web"}
    addresses = [ipaddress.ip_address(0xC6336400 + chance.randrange(520)) for _ in range(1000)]
    asked = "".join(f"route get {each}\n" for each in addresses)
    lines = run("ip", "-n", web.H, "-o", "-batch", "-", stdin=asked).stdout.splitlines()

    assert len(lines) == len(addresses)
    held = 0
    with osctl.client.connect(str(web.socket)) as daemon:
        for address, line in zip(addresses, lines, strict=True):
            answer = daemon.call("cli", argv=["-j", "net", "who", str(address)])
            of_containers = [each["holder"] for each in json.loads(answer["stdout"]) if each["holder"] != "host"]
            expected = links.get(line.partition(" dev ")[2].split()[0])
            held += expected is not None
            assert of_containers[-1:] == ([expected] if expected else []), (address, line)
    assert 50 < held < 950


def test_who_says_why_since_when_and_what_would_be_refused(web: Topology) -> None:
    web.osctl(*ROUTE, *WEB, "198.51.100.0/24")
    web.osctl("ct", "netif", "rename", "web", "eth0", "wan0")

    (row,) = web.osctl_json("net", "who", "198.51.100.7")

    assert row["what"] == "198.51.100.0/24 is routed to wan0 of web"
    assert (row["kind"], row["network"], row["refused"], row["user"]) == (
        "route", "198.51.100.0/24", "without --delegate", 0,
    )  # fmt: skip
    assert row["command"] == "osctl ct netif route add web eth0 198.51.100.0/24"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row["since"])
    assert row["process"] > 0
    (of_host,) = web.osctl_json("net", "who", "192.0.2.77")
    assert (of_host["holder"], of_host["kind"], of_host["link"]) == ("host", "connected", "up0")
    assert of_host["refused"] == "until osctl net uplink add up0"
    assert web.osctl("net", "who", "9.9.9.9").stdout == "9.9.9.9/32: held by nobody\n"
    assert "'9.9.9.9/33'" in web.refusal("net", "who", "9.9.9.9/33")
    listed = web.osctl_json("net", "ls")
    assert {each["network"] for each in listed if each["holder"] == "wan0 of web"} == {
        "198.51.100.0/24", "10.100.10.100/30", "fd00:1::/126",
    }  # fmt: skip
    assert {each["kind"] for each in listed if each["holder"] == "host"} == {
        "address", "connected", "edge", "next-hop",
    }  # fmt: skip
    assert [each["network"] for each in web.osctl_json("net", "ls", "-v", "6", "web")] == ["fd00:1::/126"]


def test_who_held_an_address_is_known_over_deletions_and_renames(web: Topology) -> None:
    web.osctl(*ADD, *WEB, "198.51.100.7")
    (first,) = web.osctl_json("net", "who", "198.51.100.7")
    web.osctl("ct", "netif", "rename", "web", "eth0", "wan0")
    web.osctl("ct", "del", "-f", "web")
    web.new_container("db", via=["10.100.10.104/30"])
    web.osctl(*ADD, "db", "eth0", "198.51.100.7")

    (then,) = web.osctl_json("net", "who", "198.51.100.7", "--at", str(first["since_epoch"]))

    assert then["holder"] == "eth0 of web"
    assert then["uuid"] == first["uuid"]
    assert then["until_command"] == "osctl ct del -f web"
    assert then["until_epoch"] > first["since_epoch"]
    (now,) = web.osctl_json("net", "who", "198.51.100.7")
    assert now["holder"] == "eth0 of db"
    for text in ("yesterday", "2026-13-01", "-5", "1e999"):
        assert f"--at {text}" in web.refusal("net", "who", "1.2.3.4", f"--at={text}", status=64)
    assert "held by no container at 2001-09-09" in web.osctl("net", "who", "198.51.100.7", "--at", "1000000000").stdout


def test_the_history_says_who_did_something(web: Topology) -> None:
    web.osctl(*ADD, *WEB, "198.51.100.7")

    last = web.osctl_json("history")[-1]

    assert (last["user"], last["result"]) == (0, "done")
    assert last["process"] > 0
    assert last["command"] == "osctl ct netif ip add web eth0 198.51.100.7"


def test_what_was_refused_is_listed_on_request_with_who_asked_and_why_also_after_a_restart(web: Topology) -> None:
    web.osctl(*ADD, *WEB, "198.51.100.20")
    before = len(web.osctl_json("history"))
    started = time.time()
    why = web.refusal(*ADD, *WEB, HOST_4)
    web.refusal("ct", "del", "nobody")
    web.refusal("--dry-run", *ADD, *WEB, HOST_4)
    web.refusal("ct", "show", "nobody")
    web.refusal("ct", "exec", "nobody", "true")
    web.osctl("ct", "netif", "ip", "del", *WEB, "198.51.100.20")

    for _ in range(2):
        assert len(web.osctl_json("history")) == before + 1
        first, second, last = [each for each in web.osctl_json("history", "--all") if each["epoch"] >= started]
        assert (first["command"], first["user"]) == (f"osctl ct netif ip add web eth0 {HOST_4}", 0)
        assert first["process"] > 0
        assert f"{HOST_4} is an address of the host" in first["result"]
        assert first["result"] in why
        assert (second["command"], second["result"]) == ("osctl ct del nobody", "container not found: 'nobody'")
        assert (last["command"].split()[4], last["result"]) == ("del", "done")
        web.restart_daemon()


# --- at once ------------------------------------------------------------------------------------------------------


def test_what_changes_on_the_host_is_known_to_the_next_command(web: Topology) -> None:
    for number in range(1, 20):
        web.ip(web.H, "addr", "add", f"203.0.113.{number}/32", "dev", "up0")
        assert "is an address of the host" in web.refusal(*ADD, *WEB, f"203.0.113.{number}")
        web.ip(web.H, "addr", "del", f"203.0.113.{number}/32", "dev", "up0")
        web.osctl(*ADD, *WEB, f"203.0.113.{number}")
    wait_until(lambda: len(web.osctl_json("ct", "netif", "ip", "ls", *WEB)) == 19, "all are assigned")
