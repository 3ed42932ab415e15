"""Links of bridged interfaces: ports of bridges that belong to the administrator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from osctld.core.config.settings import Settings
from whole import packets
from whole.bare_daemon import BARE
from whole.bridges import (
    delete_links,
    inside,
    link,
    link_local_of,
    make_bridge,
    master_of,
    neighbours_of,
    ports_of,
)
from whole.guest_packets import link_of
from whole.host import HOST_4, Topology, differences, stays, wait_until
from whole.monitor import events_of, everything

pytestmark = pytest.mark.requires_kernel("bridge")

GROUP = Settings().host.bridge_link_group


@pytest.fixture(scope="module")
def one_host() -> Iterator[Topology]:
    """One host for all tests of this file, with bare namespaces as containers; it forwards already."""
    with Topology(program=BARE) as topology:
        topology.new_container("first")
        topology.delete_containers()
        yield topology


@pytest.fixture
def lan(one_host: Topology) -> Iterator[Topology]:
    """A host with the bridges br0 and br1, and no container yet. Nothing is left on it."""
    before = one_host.comparable_state()
    make_bridge(one_host, "br0", mac="02:00:00:00:b0:00")
    make_bridge(one_host, "br1", mac="02:00:00:00:b1:00", mtu=1400)
    yield one_host
    one_host.delete_containers()
    delete_links(one_host, one_host.H, ["br0", "br1"])
    assert not [each for each in differences(before, one_host.comparable_state()) if " counter" not in each]
    assert one_host.stored()["holding"] == []


def new(host: Topology, *options: str, container: str = "web", name: str = "lan0", bridge: str = "br0") -> str:
    """Add a bridged interface, and return the name of the host end."""
    host.osctl("ct", "netif", "new", "bridge", "--link", bridge, *options, container, name)
    return str(host.osctl_json("ct", "netif", "show", container, name)["host_link"])


# --- what it is --------------------------------------------------------------------------------------------------


def test_the_host_end_is_a_port_and_the_bridge_stays_as_the_administrator_made_it(lan: Topology) -> None:
    before = link(lan, "br0")
    lan.new_container("web", start=False)
    veth = new(lan, "--mtu", "1400")

    lan.osctl("ct", "start", "web")

    there = link(lan, veth)
    assert (there["master"], there["group"], there["mtu"]) == ("br0", str(GROUP), 1500)
    assert there["address"].startswith("fe:"), "a card's address is lower, and the bridge takes the lowest"
    assert lan.ip_json(lan.H, "addr", "show", veth)[0]["addr_info"] == []
    assert inside(lan, "web", "lan0")["mtu"] == 1400
    after = link(lan, "br0")
    assert (after["address"], after["mtu"]) == (before["address"], before["mtu"])


def test_it_has_the_bridge_s_mtu_unless_a_smaller_one_was_asked_for(lan: Topology) -> None:
    lan.new_container("web")
    veth = new(lan, bridge="br1")
    assert (link(lan, veth)["mtu"], inside(lan, "web", "lan0")["mtu"]) == (1400, 1400)

    lan.ip(lan.H, "link", "set", "br1", "mtu", "1300")
    wait_until(lambda: link(lan, veth)["mtu"] == 1300, "the host end follows the bridge")
    wait_until(lambda: inside(lan, "web", "lan0")["mtu"] == 1300, "so does the container end")
    assert lan.osctl_json("self", "status")["drift"] == []
    assert "changed inside" not in lan.log_text()

    lan.osctl("ct", "netif", "set", "--mtu", "1280", "web", "lan0")
    assert (link(lan, veth)["mtu"], inside(lan, "web", "lan0")["mtu"]) == (1300, 1280)
    message = lan.refusal_without_trace("ct", "netif", "set", "--mtu", "1301", "web", "lan0", running=["web"])
    assert message == "MTU 1301: 'br1' has an MTU of 1300"


def test_a_mac_address_is_derived_or_chosen_as_for_a_routed_interface(lan: Topology) -> None:
    lan.new_container("web")
    new(lan)
    derived = inside(lan, "web", "lan0")["address"]

    lan.osctl("ct", "netif", "set", "--hwaddr", "02:xx:xx:xx:xx:07", "web", "lan0")
    chosen = inside(lan, "web", "lan0")["address"]
    assert (chosen[:3], chosen[-2:]) == ("02:", "07")
    lan.osctl("ct", "restart", "web")
    assert inside(lan, "web", "lan0")["address"] == chosen

    lan.osctl("ct", "netif", "set", "--hwaddr", "-", "web", "lan0")
    assert inside(lan, "web", "lan0")["address"] == derived


def test_lists_filter_by_type_and_bridge_and_show_what_was_asked_for(lan: Topology) -> None:
    lan.new_container("web", via=["10.100.10.100/30"])
    new(lan, "--no-dhcp")
    new(lan, name="lan1", bridge="br1")

    def names(*options: str) -> list[str]:
        return lan.osctl("ct", "netif", "ls", "-H", "-o", "name", *options).stdout.split()

    assert names("-t", "bridge") == ["lan0", "lan1"]
    assert names("-l", "br1") == ["lan1"]
    assert names("-t", "routed,bridge", "-l", "br0,br7") == ["lan0"]
    rows = lan.osctl_json("ct", "netif", "ls", "web")
    assert [(row["type"], row["link"], row["dhcp"], row["via"]) for row in rows] == [
        ("routed", None, None, {"4": "10.100.10.100/30"}),
        ("bridge", "br0", False, None),
        ("bridge", "br1", True, None),
    ]
    assert lan.osctl("ct", "netif", "show", "-H", "-o", "link,dhcp", "web", "lan1").stdout.split() == ["br1", "true"]
    assert "CT_ADDR" not in lan.osctl("ct", "netif", "show", "web", "lan1").stdout


def test_containers_see_each_other_on_a_bridge_and_not_by_routed_links(lan: Topology) -> None:
    for number, name in enumerate(("web", "db")):
        lan.new_container(name, via=[f"10.100.10.{4 * number}/30", f"fd00:10:{number}::/126"])
        new(lan, container=name)
    links = [(name, each) for name in ("web", "db") for each in ("lan0", "eth0")]
    wait_until(lambda: all(link_local_of(lan, *each) for each in links), "each link has a link-local address")
    addresses = {each: link_local_of(lan, *each) for each in links}

    assert addresses["db", "lan0"] in neighbours_of(lan, "web", "lan0")
    assert addresses["web", "lan0"] in neighbours_of(lan, "db", "lan0")
    on_routed = neighbours_of(lan, "web", "eth0")
    assert "fe80::1" in on_routed, "the host answers"
    assert addresses["db", "eth0"] not in on_routed


@pytest.mark.parametrize("addresses", [("198.51.100.1/24", "198.51.100.2/24"), ("fd00:5::1/64", "fd00:5::2/64")])
def test_what_a_bridge_passes_on_is_no_transit_even_where_it_is_filtered_like_that(
    lan: Topology, addresses: tuple[str, str]
) -> None:
    """Where br_netfilter is loaded, as docker and kubernetes do, a bridge's packets go through the host's rules."""
    for name, each in zip(("web", "db"), addresses, strict=True):
        lan.new_container(name)
        new(lan, container=name)
        flags = ["nodad"] if ":" in each else []
        lan.in_guest_network(name, "ip", "addr", "add", each, "dev", "lan0", *flags)
    rules = lan.in_namespace(lan.H, "nft", "list", "chain", "inet", "osctl", "private_networks").stdout
    assert "admin-prohibited" in rules, "the host rejects transit"
    counted = "table inet probe { chain c { type filter hook forward priority 0; meta mark 0 counter; counter; }; }"
    lan.in_namespace(lan.H, "nft", counted)

    argv = ("ping", "-n", "-q", "-c", "3", "-i", "0.1", "-w", "3", addresses[1].partition("/")[0])
    answers = lan.in_guest_network("web", *argv, check=False).stdout

    listed = json.loads(lan.in_namespace(lan.H, "nft", "-j", "list", "table", "inet", "probe").stdout)
    lan.in_namespace(lan.H, "nft", "delete", "table", "inet", "probe")
    assert " 3 received" in answers
    rules_with_counters = [each["rule"]["expr"] for each in listed["nftables"] if "rule" in each]
    unmarked, passed = (
        next(part["counter"]["packets"] for part in expr if "counter" in part) for expr in rules_with_counters
    )
    assert unmarked == passed, "nobody behind us sees our mark"
    setting = lan.in_namespace(lan.H, "cat", "/proc/sys/net/bridge/bridge-nf-call-iptables", check=False).stdout
    assert passed >= 6 or setting.strip() != "1"


# --- changes -----------------------------------------------------------------------------------------------------


def test_it_passes_from_one_bridge_to_another_without_a_change_inside(lan: Topology) -> None:
    lan.new_container("web")
    veth = new(lan)
    number, within = link(lan, veth)["ifindex"], inside(lan, "web", "lan0")

    lan.osctl("ct", "netif", "set", "--link", "br1", "web", "lan0")

    assert (master_of(lan, veth), link(lan, veth)["ifindex"]) == ("br1", number)
    assert inside(lan, "web", "lan0") == {**within, "mtu": 1400}
    assert list(ports_of(lan, "br0")) == []


def test_a_dry_run_prints_the_commands_that_would_do_it(lan: Topology) -> None:
    lan.new_container("web")
    made = lan.osctl("ct", "netif", "new", "bridge", "--dry-run", "--link", "br0", "web", "lan0").stdout
    assert " group 112 master br0 type veth peer name lan0 " in made
    veth = new(lan)
    before = lan.comparable_state("web")

    moved = lan.osctl("ct", "netif", "set", "--dry-run", "--link", "br1", "web", "lan0").stdout

    assert sorted(moved.splitlines()) == [
        "# in container web",
        "# on the host",
        "ip link set dev lan0 mtu 1400",
        f"ip link set dev {veth} mtu 1400 master br1",
    ]
    assert not differences(before, lan.comparable_state("web"))


def test_it_is_plugged_in_renamed_and_deleted_in_a_running_container(lan: Topology) -> None:
    lan.new_container("web")
    before = lan.comparable_state("web")
    veth = new(lan)
    assert inside(lan, "web", "lan0")["operstate"] == "UP"

    lan.osctl("ct", "netif", "rename", "web", "lan0", "wan0")
    assert inside(lan, "web", "wan0")
    assert master_of(lan, veth) == "br0"

    lan.osctl("ct", "netif", "del", "web", "wan0")
    assert not [each for each in differences(before, lan.comparable_state("web")) if "br0" not in each]
    assert link(lan, veth) == {}


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_what_is_no_bridge_is_refused_by_its_name(lan: Topology, state: str) -> None:
    lan.new_container("web", start=state == "running")
    new(lan)
    running = ["web"] if state == "running" else []

    for name, words in (
        ("br7", "'br7': no such link"),
        ("up0", "'up0': not a bridge, but a link of the kind veth"),
        ("lo", "'lo': not a bridge, but a link of the kind device"),
        ("a/b", "'a/b': invalid link name"),
    ):
        for argv in (
            ("ct", "netif", "new", "bridge", "--link", name, "web", "lan1"),
            ("ct", "netif", "set", "--link", name, "web", "lan0"),
        ):
            assert lan.refusal_without_trace(*argv, running=running) == words
    message = lan.refusal_without_trace("ct", "netif", "new", "bridge", "web", "lan1", running=running, status=64)
    assert message == "link is required: --link BRIDGE"


def test_a_start_without_the_bridge_is_refused_and_leaves_nothing(lan: Topology) -> None:
    lan.new_container("web", start=False)
    new(lan)
    delete_links(lan, lan.H, ["br0"])

    before = lan.comparable_state()

    for argv in (("ct", "start", "web"), ("ct", "start", "--dry-run", "web")):
        refused = lan.osctl(*argv, check=False)
        assert (refused.status, refused.stderr) == (
            1,
            "error: 'br0': no such link, and lan0 of web is to be a port of it\n",
        )
    assert lan.life("web")[0] == "stopped"
    assert not differences(before, lan.comparable_state())

    make_bridge(lan, "br0")
    lan.osctl("ct", "start", "web")


def test_a_change_of_another_interface_does_not_fail_for_lack_of_the_bridge(lan: Topology) -> None:
    lan.new_container("web", via=["10.100.10.100/30"])
    new(lan)
    delete_links(lan, lan.H, ["br0"])

    lan.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")

    assert lan.ping(lan.R, "1.2.3.4") == 3


# --- what happens to it ------------------------------------------------------------------------------------------


def test_a_bridge_that_comes_back_gets_its_ports_back_within_a_second(lan: Topology) -> None:
    lan.new_container("web")
    lan.new_container("db")
    veths = [new(lan), new(lan, container="db")]
    mtu = inside(lan, "web", "lan0")["mtu"]

    with everything(lan) as listener:
        delete_links(lan, lan.H, ["br0"])
        wait_until(lambda: events_of(listener, "bridge"), "an event tells that it is missing", seconds=1)
        assert inside(lan, "web", "lan0")["mtu"] == mtu
        troubles = json.loads(lan.osctl("-j", "status", check=False).stdout)
        assert [(each["ctid"], each["netif"], each["cause"]) for each in troubles] == [
            (name, "lan0", "'br0': no such link; it is attached again once there is one") for name in ("db", "web")
        ]

        make_bridge(lan, "br0")
        wait_until(lambda: sorted(ports_of(lan, "br0")) == sorted(veths), "it has its ports again", seconds=1)

    assert [each["state"] for each in events_of(listener, "bridge")][:2] == ["missing", "there"]
    assert json.loads(lan.osctl("-j", "status").stdout) == []


def test_a_bridge_that_was_made_again_while_no_daemon_ran_gets_its_ports_back(lan: Topology) -> None:
    lan.new_container("web")
    veth = new(lan)
    lan.kill_daemon()
    delete_links(lan, lan.H, ["br0"])
    make_bridge(lan, "br0", mtu=1350)

    lan.start_daemon()

    wait_until(lambda: master_of(lan, veth) == "br0", "it is a port again")
    wait_until(lambda: inside(lan, "web", "lan0")["mtu"] == 1350, "with the MTU of the bridge of now")
    assert lan.osctl_json("self", "status")["drift"] == []


@pytest.mark.parametrize("where", ["another bridge", "no bridge"])
def test_a_port_that_somebody_takes_away_is_put_back_within_a_second(lan: Topology, where: str) -> None:
    lan.new_container("web")
    veth = new(lan)

    lan.ip(lan.H, "link", "set", veth, *(["master", "br1"] if where == "another bridge" else ["nomaster"]))

    wait_until(lambda: master_of(lan, veth) == "br0", "it is a port of its bridge again", seconds=1)


def test_what_comes_while_it_is_no_port_is_dropped_with_no_daemon_at_all(lan: Topology) -> None:
    lan.new_container("web")
    veth, pid = new(lan), lan.init_pid("web")
    to_host = link_of(lan, "web", "lan0")
    arrivals = "table inet probe { chain c { type filter hook input priority 0; udp dport 9 counter; }; }"
    lan.in_namespace(lan.H, "nft", arrivals)

    def arrived() -> int:
        listed = json.loads(lan.in_namespace(lan.H, "nft", "-j", "list", "table", "inet", "probe").stdout)
        (rule,) = (each["rule"] for each in listed["nftables"] if "rule" in each)
        return int(next(each["counter"]["packets"] for each in rule["expr"] if "counter" in each))

    def send() -> None:
        packets.send_frames(pid, "lan0", [to_host.frame(packets.udp("192.0.2.77", HOST_4))])

    lan.kill_daemon()
    lan.ip(lan.H, "link", "set", veth, "nomaster")
    send()
    stays(lambda: arrived() == 0, 0.2)
    lan.in_namespace(lan.H, "nft", "delete", "table", "inet", "osctl")
    send()
    wait_until(lambda: arrived() == 1, "without our rules the host takes it for its own")

    lan.in_namespace(lan.H, "nft", "delete", "table", "inet", "probe")
    lan.start_daemon()
    wait_until(lambda: master_of(lan, veth) == "br0", "the next daemon puts it back")


def test_a_link_that_was_left_behind_is_removed(lan: Topology) -> None:
    lan.new_container("web")
    veth = new(lan)
    lan.ip(lan.H, "link", "add", "osgone-lan0", "group", str(GROUP), "type", "veth", "peer", "name", "nobody0")
    lan.ip(lan.H, "link", "set", "osgone-lan0", "group", str(GROUP))

    wait_until(lambda: link(lan, "osgone-lan0") == {}, "it is gone")

    assert master_of(lan, veth) == "br0"
