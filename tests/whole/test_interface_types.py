"""A type of interface is one file: one that only tests have works everywhere without a change of the program.

It has no address, holds networks all the same, and a setting of the host's link that no other type has.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import osctl.client
from whole.dummy_daemon import WITH_DUMMY
from whole.host import Topology
from whole.original_client import OriginalClient


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    with Topology(program=WITH_DUMMY) as topology:
        yield topology


@pytest.fixture
def emptied(made: Topology) -> Iterator[Topology]:
    """The host of this file, without a container before and after."""
    yield made
    made.delete_containers()


def new(host: Topology, *options: str, container: str = "web", start: bool = True) -> str:
    """A container with a dummy interface, and the host's name of its link."""
    host.new_container(container, start=start)
    host.osctl("ct", "netif", "new", "dummy", *options, container, "eth0")
    return str(host.osctl_json("ct", "netif", "show", container, "eth0")["host_link"])


def logs_martians(host: Topology, link: str) -> str:
    return host.sysctl(host.H, f"net/ipv4/conf/{link}/log_martians")


def inside(host: Topology, container: str = "web") -> list[str]:
    return [each["ifname"] for each in host.guest_ip_json(container, "link") if each["ifname"] != "lo"]


def test_another_type_comes_to_a_running_container_and_changes_there(emptied: Topology) -> None:
    link = new(emptied, "--mtu", "1400")
    assert inside(emptied) == ["eth0"]
    assert logs_martians(emptied, link) == "0"

    emptied.osctl("ct", "netif", "set", "--logs", "--mtu", "1300", "--hwaddr", "02:00:00:00:00:07", "web", "eth0")

    assert logs_martians(emptied, link) == "1"
    (eth0,) = (each for each in emptied.guest_ip_json("web", "link") if each["ifname"] == "eth0")
    assert (eth0["mtu"], eth0["address"]) == (1300, "02:00:00:00:00:07")


def test_a_dry_run_prints_what_another_type_means_and_changes_nothing(emptied: Topology) -> None:
    link = new(emptied)

    lines = emptied.osctl("ct", "netif", "set", "--dry-run", "--logs", "web", "eth0").stdout

    assert f"sysctl -w net.ipv4.conf.{link}.log_martians=1" in lines.replace("/", ".")
    assert logs_martians(emptied, link) == "0"


def test_another_type_is_listed_and_shown_with_columns_of_its_own(emptied: Topology) -> None:
    link = new(emptied, "--reserve", "198.51.100.64/28", "--logs")
    emptied.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.100/30", "web", "eth1")

    rows = emptied.osctl_json("ct", "netif", "ls", "web")
    shown = emptied.osctl("ct", "netif", "show", "web", "eth0").stdout

    assert [(row["type"], row["logs"], row["via"]) for row in rows] == [
        ("dummy", True, None),
        ("routed", None, {"4": "10.100.10.100/30"}),
    ]
    assert emptied.osctl("ct", "netif", "ls", "-H", "-o", "name", "-t", "dummy", "web").stdout.split() == ["eth0"]
    assert "RESERVED:  198.51.100.64/28" in shown
    assert f"HOST_LINK:  {link}" in shown
    assert "CT_ADDR" not in shown
    assert "RESERVED" not in emptied.osctl("ct", "netif", "show", "web", "eth1").stdout
    status = emptied.osctl_json("self", "status")
    assert (status["interfaces"], status["addresses"]) == (2, 0)


def test_what_another_type_holds_without_an_address_nobody_else_gets(emptied: Topology) -> None:
    new(emptied, "--reserve", "198.51.100.64/28")
    emptied.new_container("db", via=["10.100.10.104/30"])

    for argv in (
        ("ct", "netif", "ip", "add", "db", "eth0", "198.51.100.65"),
        ("ct", "netif", "route", "add", "db", "eth0", "198.51.100.0/24"),
    ):
        assert "eth0 of web" in emptied.refusal_without_trace(*argv, running=["db"])
    emptied.osctl("ct", "netif", "set", "--reserve", "198.51.100.128/28", "web", "eth0")
    emptied.osctl("ct", "netif", "ip", "add", "db", "eth0", "198.51.100.65")


def test_another_type_is_kept_and_comes_back_with_the_next_daemon_and_the_next_life(emptied: Topology) -> None:
    link = new(emptied, "--reserve", "198.51.100.64/28", "--logs")
    before = emptied.osctl_json("ct", "netif", "ls", "web"), emptied.stored()["holding"]

    emptied.kill_daemon()
    emptied.start_daemon()

    assert (emptied.osctl_json("ct", "netif", "ls", "web"), emptied.stored()["holding"]) == before
    assert before[1]
    emptied.sysctl(emptied.H, f"net/ipv4/conf/{link}/log_martians", "0")
    emptied.osctl("net", "reconcile")
    assert logs_martians(emptied, link) == "1"
    emptied.osctl("ct", "restart", "web")
    assert inside(emptied) == ["eth0"]
    assert logs_martians(emptied, link) == "1"


def test_another_type_is_renamed_and_deleted_in_a_running_container(emptied: Topology) -> None:
    link = new(emptied, "--reserve", "198.51.100.64/28", "--logs")

    emptied.osctl("ct", "netif", "rename", "web", "eth0", "wan0")

    assert inside(emptied) == ["wan0"]
    assert logs_martians(emptied, link) == "1"
    emptied.osctl("ct", "netif", "del", "web", "wan0")
    assert inside(emptied) == []
    assert emptied.osctl_json("ct", "netif", "ls", "web") == []
    assert emptied.stored()["holding"] == []
    assert link not in [each["ifname"] for each in emptied.ip_json(emptied.H, "link")]


def test_options_and_commands_of_one_type_are_refused_for_another_by_name(emptied: Topology) -> None:
    new(emptied)
    emptied.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.100/30", "web", "eth1")

    for argv, words, status in (
        (("ct", "netif", "set", "--via", "10.100.10.104/30", "web", "eth0"), "--via: eth0 is a dummy interface", 64),
        (("ct", "netif", "set", "--logs", "web", "eth1"), "--logs: eth1 is a routed interface", 64),
        (("ct", "netif", "set", "web", "eth0"), "nothing to set, give --reserve, --logs", 64),
        (("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4"), "a dummy interface has no addresses", 1),
        (("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24"), "not a routed interface", 1),
        (("ct", "netif", "new", "other", "web", "eth2"), "expected bridge, dummy, routed", 64),
    ):
        assert words in emptied.refusal_without_trace(*argv, running=["web"], status=status)


def test_the_original_s_protocol_makes_changes_lists_and_deletes_another_type(emptied: Topology) -> None:
    emptied.new_container("web")
    with OriginalClient(emptied.socket) as client:
        client.call("netif_create", id="web", name="eth0", type="dummy", reserve=["198.51.100.64/28"], hwaddr=None)
        link = str(emptied.osctl_json("ct", "netif", "show", "web", "eth0")["host_link"])
        client.call("netif_set", id="web", name="eth0", logs=True)

        assert logs_martians(emptied, link) == "1"
        (listed,) = client.call("netif_list", id="web")
        assert {key: listed[key] for key in ("name", "type", "link", "via", "logs", "veth")} == {
            "name": "eth0", "type": "dummy", "link": None, "via": None, "logs": True, "veth": link,
        }  # fmt: skip
        assert client.call("netif_show", id="web", name="eth0")["logs"] is True
        assert client.call("netif_ip_list", id="web") == []
        assert "eth0 is a dummy interface: no via" in client.error("netif_set", id="web", name="eth0", via={})
        assert "'macvlan' is not supported, only" in client.error("netif_create", id="web", name="eth1", type="macvlan")
        client.call("netif_rename", id="web", old_name="eth0", new_name="wan0")
        client.call("netif_delete", id="web", name="wan0")
        assert inside(emptied) == []


def test_what_changes_of_another_type_is_told_item_by_item(emptied: Topology) -> None:
    emptied.new_container("web")
    with osctl.client.connect(str(emptied.socket)) as listener:
        events = listener.events("ct_netif", "ct_netif_reserved")
        next_event = iter(events).__next__
        emptied.osctl("ct", "netif", "new", "dummy", "--reserve", "198.51.100.64/28", "web", "eth0")
        emptied.osctl("ct", "netif", "set", "--reserve", "198.51.100.128/28", "--logs", "web", "eth0")

        told = [next_event() for _ in range(6)]

    assert [(each.type, each.opts["action"], each.opts.get("addr", each.opts.get("changed"))) for each in told] == [
        ("ct_netif", "add", None),
        ("ct_netif", "up", None),
        ("ct_netif_reserved", "add", "198.51.100.64/28"),
        ("ct_netif_reserved", "remove", "198.51.100.64/28"),
        ("ct_netif_reserved", "add", "198.51.100.128/28"),
        ("ct_netif", "set", ["logs"]),
    ]


def test_help_completion_and_manual_have_another_type(emptied: Topology) -> None:
    new(emptied)

    def completed(*words: str) -> list[str]:
        return [line.partition("\t")[0] for line in emptied.osctl("--complete", *words).stdout.splitlines()]

    assert "--reserve NETWORK" in emptied.osctl("ct", "netif", "new", "dummy", "--help").stdout
    in_help = emptied.osctl("help", "ct", "netif", "set").stdout
    assert in_help.count("--mtu") == in_help.count("--hwaddr") == 2, "declared once, and in one example"
    assert completed("ct", "netif", "new", "") == ["bridge", "dummy", "routed"]
    assert {"--reserve", "--via"} <= set(completed("ct", "netif", "set", "--"))
    assert completed("ct", "netif", "new", "dummy", "--reserve", "") == ["192.0.2.64/28"]
    assert completed("ct", "netif", "set", "web", "") == ["eth0"]
    assert {"dummy", "routed"} <= set(completed("ct", "netif", "ls", "-t", ""))
    assert "reserved" in completed("ct", "netif", "show", "-o", "")
    manual = subprocess.run([*WITH_DUMMY, "--manual"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "osctl ct netif new dummy" in manual
    assert "Networks that are reserved for a dummy interface" in manual
