"""Addresses move from one container to another: in one change, all or nothing, and nobody notices but the two."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE
from whole.host import WORLD_4, Settled, Topology, differences, wait_until

ADD = ("ct", "netif", "ip", "add")
MOVE = ("ct", "netif", "ip", "move")
LS = ("ct", "netif", "ip", "ls")
WEB, DB = ("web", "eth0"), ("db", "eth0")


@pytest.fixture
def web_db() -> Iterator[Topology]:
    """A host with `web` and `db`, which do not run; addresses of either."""
    with Topology(program=BARE) as topology:
        topology.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], start=False)
        topology.new_container("db", via=["10.100.10.104/30", "fd00:2::/126"], start=False)
        topology.osctl(*ADD, *WEB, "1.2.3.4", "1.2.3.5", "2001:db8:2::4", "1.2.3.6")
        topology.osctl(*ADD, *DB, "1.2.3.9")
        yield topology


@pytest.fixture
def running(web_db: Topology) -> Topology:
    for name in ("web", "db"):
        web_db.osctl("ct", "start", name)
    return web_db


def listed(host: Topology, *interface: str) -> list[str]:
    return [each["addr"] for each in host.osctl_json(*LS, *interface)]


def way(host: Topology, address: str) -> str:
    (route,) = host.ip_json(host.H, "route", "get", address)
    return str(route["dev"])


def inside(host: Topology, container: str) -> list[str]:
    (link,) = host.guest_ip_json(container, "-4", "addr", "show", "dev", "eth0")
    return [each["local"] for each in link["addr_info"]]


def test_an_address_moves_under_pings_and_at_most_one_is_lost(running: Topology) -> None:
    host = running
    pings = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{host.R}", "ping", "-n", "-q", "-i", "0.01", "-c", "400", "1.2.3.4"],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: host.guest_ip_json("web", "-s", "link", "show", "eth0"), "it answers")
    for source, target in ((WEB, DB), (DB, WEB), (WEB, DB)):
        host.osctl(*MOVE, *source, *target, "1.2.3.4")
    said, _ = pings.communicate(timeout=60)

    sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) (?:packets )?received", said)[0])
    assert sent - received <= 3, said  # three moves
    assert way(host, "1.2.3.4") == host.veth("db")
    assert inside(host, "db")[-1] == "1.2.3.4"
    assert "1.2.3.4" not in inside(host, "web")
    assert host.osctl("self", "status").stdout
    assert host.osctl("net", "reconcile").stdout == "nothing to repair\n"


@pytest.mark.parametrize("running_ones", [(), ("web",), ("db",), ("web", "db")])
def test_all_addresses_go_in_their_order_whoever_runs(web_db: Topology, running_ones: tuple[str, ...]) -> None:
    for name in running_ones:
        web_db.osctl("ct", "start", name)

    web_db.osctl(*MOVE, *WEB, *DB, "all")

    assert listed(web_db, *WEB) == []
    assert listed(web_db, *DB) == ["1.2.3.9/32", "1.2.3.4/32", "1.2.3.5/32", "1.2.3.6/32", "2001:db8:2::4/128"]
    assert [each["origin"] for each in web_db.osctl_json("ct", "netif", "route", "ls", *DB)] == ["automatic"] * 5
    for name in {"web", "db"} - {*running_ones}:
        web_db.osctl("ct", "start", name)
    assert [each for each in inside(web_db, "db") if each.startswith("1.2.3")] == [
        "1.2.3.9", "1.2.3.4", "1.2.3.5", "1.2.3.6",
    ]  # fmt: skip
    for address in ("1.2.3.4", "1.2.3.6", "2001:db8:2::4"):
        assert way(web_db, address) == web_db.veth("db")
        assert web_db.ping(web_db.R, address) == 3
    assert web_db.osctl("net", "reconcile").stdout == "nothing to repair\n"


def test_what_is_refused_half_way_leaves_both_as_they_were(running: Topology) -> None:
    host = running
    # The tenant of the other container has an address of these already, with something else about it.
    host.in_guest_network("db", "ip", "addr", "add", "1.2.3.5/32", "brd", "1.2.3.255", "dev", "eth0")
    host.in_guest_network("db", "ip", "addr", "add", "2001:db8:2::4/64", "dev", "eth0", "nodad")
    nothing_changes = Settled(host, running=["web", "db"])

    for argv, says in (
        ((*MOVE, *WEB, *DB, "1.2.3.4", "1.2.3.5"), "1.2.3.5/32"),
        ((*MOVE, *WEB, *DB, "1.2.3.4", "2001:db8:2::4"), "2001:db8:2::4"),
        ((*MOVE, *WEB, *DB, "all"), "1.2.3.5/32"),
        ((*MOVE, *WEB, *DB, "1.2.3.44"), "1.2.3.44: address not found on eth0"),
        ((*MOVE, *WEB, *WEB, "1.2.3.4"), "the addresses are already on this interface"),
        ((*MOVE, *WEB, "nope", "eth0", "1.2.3.4"), "container not found: 'nope'"),
        ((*MOVE, *WEB, "db", "eth9", "1.2.3.4"), "'eth9': network interface not found in db"),
        ((*MOVE, *WEB, *DB, "1.2.3.4", "1.2.3.99"), "1.2.3.99: address not found"),
    ):
        assert says in nothing_changes.refusal(*argv), argv


def test_a_route_goes_along_when_nobody_stays_in_it(running: Topology) -> None:
    host = running
    host.osctl("ct", "netif", "route", "add", *WEB, "10.5.5.0/24")
    host.osctl(*ADD, *WEB, "10.5.5.1", "10.5.5.2")
    nothing_changes = Settled(host, running=["web", "db"])
    message = nothing_changes.refusal(*MOVE, *WEB, *DB, "10.5.5.1")
    assert "10.5.5.1: inside 10.5.5.0/24, which stays with eth0 for 10.5.5.2; --delegate" in message

    host.osctl(*MOVE, "--force", *WEB, *DB, "10.5.5.1")

    assert (way(host, "10.5.5.1"), way(host, "10.5.5.2")) == (host.veth("db"), host.veth("web"))
    host.osctl(*MOVE, *DB, *WEB, "10.5.5.1")
    host.osctl(*MOVE, *WEB, *DB, "10.5.5.1", "10.5.5.2")
    routes = {each["addr"]: each["origin"] for each in host.osctl_json("ct", "netif", "route", "ls", *DB)}
    assert routes["10.5.5.0/24"] == "operator"
    assert way(host, "10.5.5.77") == host.veth("db")


@pytest.mark.parametrize(("network", "hop"), [("10.5.5.0/24", "10.5.5.9"), ("2001:db8:2:5::/64", "2001:db8:2:5::9")])
def test_a_route_goes_along_whose_next_hop_is_in_it(running: Topology, network: str, hop: str) -> None:
    """For IPv6 the kernel asks where it would send packets for a next hop: not to the interface that had it."""
    running.osctl("ct", "netif", "ip", "add", "web", "eth0", f"{hop}/{network.partition('/')[2]}")
    running.osctl("ct", "netif", "route", "add", "--next-hop", hop, "web", "eth0", network)
    before = running.comparable_state("web", "db")

    running.osctl("ct", "netif", "ip", "move", "web", "eth0", "db", "eth0", hop)

    assert running.ping(running.R, hop) == 3
    (route,) = running.ip_json(running.H, "-6" if ":" in network else "-4", "route", "show", network)
    assert route["dev"] == running.veth("db")
    running.osctl("ct", "netif", "ip", "move", "db", "eth0", "web", "eth0", hop)
    assert differences(before, running.comparable_state("web", "db")) == []


def test_addresses_move_between_two_interfaces_of_one_container(running: Topology) -> None:
    host = running
    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.108/30", "web", "eth1")

    host.osctl(*MOVE, *WEB, "web", "eth1", "1.2.3.4")

    assert listed(host, "web", "eth1") == ["1.2.3.4/32"]
    assert way(host, "1.2.3.4") == host.veth("web", "eth1")
    assert [each["holder"] for each in host.osctl_json("net", "who", "1.2.3.4")] == ["eth1 of web"]


def test_a_dry_run_of_a_move_replaces_the_host_s_route_and_changes_nothing(running: Topology) -> None:
    host = running
    before = host.comparable_state("web", "db")

    planned = host.osctl(*MOVE, "--dry-run", *WEB, *DB, "1.2.3.4").stdout.splitlines()

    assert host.comparable_state("web", "db") == before
    (route,) = [line for line in planned if line.startswith("ip route") and "1.2.3.4" in line]
    assert route.startswith("ip route replace 1.2.3.4")
    assert "# in container web" in planned
    assert "# in container db" in planned
    host.osctl(*MOVE, *WEB, *DB, "1.2.3.4")
    assert host.in_guest_network("db", "ping", "-c", "1", "-W", "1", "-I", "1.2.3.4", WORLD_4).status == 0


def test_both_documents_are_of_one_change(running: Topology) -> None:
    host = running
    host.osctl(*MOVE, *WEB, *DB, "1.2.3.4")
    (row,) = host.osctl_json("net", "who", "1.2.3.4")
    assert row["command"] == "osctl ct netif ip move web eth0 db eth0 1.2.3.4"

    host.kill_daemon()
    host.start_daemon()

    assert "1.2.3.4/32" in listed(host, *DB)
    assert "1.2.3.4/32" not in listed(host, *WEB)
    assert way(host, "1.2.3.4") == host.veth("db")
    assert host.osctl("net", "reconcile").stdout == "nothing to repair\n"
