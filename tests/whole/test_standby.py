"""Networks that are kept for a container and routed by another host until they are taken."""

from __future__ import annotations

import pytest

from whole.host import Settled, Topology

VIAS = ("10.100.10.100/30", "fd00:1::/126")
NETWORKS = {4: "1.2.3.4/32", 6: "2001:db8:2::4/128"}
OTHERS = ("1.2.3.5/32", "2001:db8:2::5/128")
WEB = ("web", "eth0")
STANDBY, TAKE = ("ct", "netif", "standby"), ("ct", "netif", "take")


@pytest.fixture
def web(host: Topology) -> Topology:
    addresses = [each.partition("/")[0] for each in (*NETWORKS.values(), *OTHERS)]
    host.new_container("web", via=VIAS, addresses=addresses)
    return host


def routed(host: Topology) -> set[str]:
    veth = host.veth("web")
    found = (host.ip_json(host.H, f"-{version}", "route", "show", "dev", veth, "proto", "111") for version in (4, 6))
    return {each["dst"] for version in found for each in version}


def states(host: Topology) -> dict[str, str]:
    return {each["network"]: each["state"] for each in host.osctl_json("net", "ls", "web")}


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_on_standby_is_kept_and_routed_elsewhere_until_it_is_taken(web: Topology, version: int) -> None:
    network = NETWORKS[version]
    address = network.partition("/")[0]

    planned = web.osctl("--dry-run", *STANDBY, *WEB, network).stdout
    web.osctl(*STANDBY, *WEB, network)

    assert f"route del {address}" in planned or f"route del {network}" in planned
    assert address not in routed(web)
    assert len(routed(web)) == 3
    assert states(web)[network] == "standby"
    assert web.ping(web.R, address, count=1) == 0
    # Nothing is wrong, and nobody puts it back.
    assert web.osctl("net", "reconcile").stdout == "nothing to repair\n"
    assert address not in web.osctl("status", check=False).stdout
    # It is kept: nobody else is given it.
    web.new_container("db", via=("10.100.10.104/30", "fd00:1::4/126"), start=False)
    nothing_changes = Settled(web, running=["web"])
    assert "is routed to eth0 of web" in nothing_changes.refusal("ct", "netif", "ip", "add", "db", "eth0", address)
    moved = nothing_changes.refusal("ct", "netif", "ip", "move", *WEB, "db", "eth0", address)
    assert moved == f"{network}: standby on eth0 of web; osctl ct netif take web eth0 {network}"
    web.restart_daemon()
    web.osctl("ct", "restart", "web")
    assert address not in routed(web)
    assert states(web)[network] == "standby"

    web.osctl(*TAKE, *WEB, network)

    assert web.ping(web.R, address) == 3
    assert set(states(web).values()) == {"wanted"}


def test_all_are_set_aside_and_taken_at_once_and_again_is_no_change(web: Topology) -> None:
    everything = {*NETWORKS.values(), *OTHERS}

    web.osctl(*STANDBY, *WEB, "all")
    again = web.osctl("--dry-run", *STANDBY, *WEB, "all").stdout

    assert routed(web) == set()
    assert {each for each, state in states(web).items() if state == "standby"} == everything
    assert again == "# nothing\n" or "nothing" in again
    stored = web.stored()["holding"]
    assert [row[-2] for row in stored].count("standby") == len(everything)
    web.osctl(*TAKE, *WEB, "all")
    assert len(routed(web)) == len(everything)
    assert {row[-2] for row in web.stored()["holding"]} == {"wanted"}


def test_what_cannot_be_set_aside_or_taken_is_refused_by_name(web: Topology) -> None:
    nothing_changes = Settled(web, running=["web"])

    assert "10.100.10.100/30: not routed to eth0 of web" in nothing_changes.refusal(*STANDBY, *WEB, "10.100.10.100/30")
    assert "1.2.3.0/24: not routed to eth0 of web" in nothing_changes.refusal(*STANDBY, *WEB, "1.2.3.0/24")
    assert "nonsense" in nothing_changes.refusal(*STANDBY, *WEB, "nonsense")
    assert "all cannot be combined with other values" in nothing_changes.refusal(
        *STANDBY, *WEB, "all", "1.2.3.4", status=64
    )
    refused = nothing_changes.refusal(*TAKE, *WEB, "1.2.3.4")
    assert refused == "1.2.3.4: neither parked nor on standby on eth0 of web"


def test_what_is_on_standby_and_deleted_is_wanted_when_it_comes_again(web: Topology) -> None:
    web.osctl(*STANDBY, *WEB, "1.2.3.4")
    web.osctl("ct", "netif", "ip", "del", *WEB, "1.2.3.4")
    web.osctl("ct", "netif", "ip", "add", *WEB, "1.2.3.4")

    assert states(web)["1.2.3.4/32"] == "wanted"
    assert "1.2.3.4" in routed(web)
    # It changed hands, if only from this interface to itself.
    (held,) = web.osctl_json("net", "who", "1.2.3.4")
    assert (held["state"], held["epoch"]) == ("wanted", 2)
