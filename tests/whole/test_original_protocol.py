"""The original's client drives this daemon: its dialogues, its shapes, its words."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import osctl.client
from whole.host import Topology, wait_until
from whole.original_client import OriginalClient

CT_KEYS = [
    *("pool", "id", "user", "group", "dataset", "rootfs", "lxc_path", "lxc_dir", "group_path", "distribution"),
    *("version", "state", "init_pid", "autostart", "autostart_priority", "autostart_delay", "hostname"),
    *("dns_resolvers", "nesting", "seccomp_profile", "log_file"),
]
VIA = {"4": {"network": "10.100.10.100/30", "host_addr": None, "ct_addr": None}}


@pytest.fixture
def original(idle_host: Topology) -> Iterator[OriginalClient]:
    """A connection to a daemon that has no container, before and after."""
    with OriginalClient(idle_host.socket) as client:
        yield client
        for row in client.call("ct_list", ids=[]):
            client.call("ct_delete", id=row["id"], pool=None, force=True)


def new_container(client: OriginalClient, name: str, *, via: dict[str, Any] | None = None) -> None:
    assert client.call(
        *("ct_create",), id=name, pool=None, user="u1", group=None, dataset=None, repository=None, no_template=False,
        template={"type": "remote", "template": {"distribution": "busybox", "version": "stable", "arch": "x86_64"}},
    ) is None  # fmt: skip
    if via is not None:
        assert client.call(
            "netif_create", id=name, pool=None, name="eth0", type="routed", hwaddr=None, via=via
        ) is None  # fmt: skip


def test_what_was_changed_is_listed_as_it_was_typed(original: OriginalClient) -> None:
    before = len(original.call("history_list"))
    new_container(original, "web")
    original.call("ct_list", ids=[])

    (row,) = original.call("history_list", pools=["default"])[before:]

    assert list(row) == ["time", "cmd", "opts", "pool"]
    assert abs(row["time"] - time.time()) < 60
    assert (row["opts"]["cli"], row["pool"]) == ("osctl ct create", "default")
    assert "pool not found" in original.error("history_list", pools=["tank"])


def test_the_history_tells_what_was_given_however_it_was_asked_for(host: Topology) -> None:
    with OriginalClient(host.socket) as client, osctl.client.connect(str(host.socket)) as program:
        new_container(client, "web", via={"4": {"network": "10.100.10.100/30"}})
        before = len(client.call("history_list"))
        host.osctl("ct", "netif", "ip", "add", "--no-route", "web", "eth0", "1.2.3.4")
        program.call("ct_netif_route_add", container="web", netif="eth0", networks=["10.5.5.0/24"])
        client.send("netif_ip_add", id="web", name="eth0", addr="1.2.3.5", route=True)
        client.answer()

        typed, asked, of_original = client.call("history_list")[before:]

    assert typed["cmd"] == "ct_netif_ip_add"
    assert {key: typed["opts"][key] for key in ("container", "netif", "addresses", "route")} == {
        "container": "web", "netif": "eth0", "addresses": ["1.2.3.4"], "route": False,
    }  # fmt: skip
    assert typed["opts"]["cli"].endswith("ct netif ip add --no-route web eth0 1.2.3.4")
    assert (asked["cmd"], asked["opts"]["networks"]) == ("ct_netif_route_add", ["10.5.5.0/24"])
    assert of_original["opts"]["cli"] == "osctl netif ip add"


def test_a_subscriber_hears_of_a_life_in_its_order_and_of_nothing_else(host: Topology) -> None:
    with OriginalClient(host.socket) as client, OriginalClient(host.socket) as listener:
        new_container(client, "web", via={"4": {"network": "10.100.10.100/30", "host_addr": None, "ct_addr": None}})
        new_container(client, "other")
        listener.send("event_subscribe", type="state", opts={"id": ["web"]})
        assert listener.answer()["response"] == "subscribed"

        client.call("ct_start", id="other", pool=None)
        client.call("ct_start", id="web", pool=None)
        client.call("ct_stop", id="web", pool=None)

        told = [listener.answer()["response"] for _ in range(4)]
        assert [each["opts"]["state"] for each in told] == ["starting", "running", "stopping", "stopped"]
        assert {(each["type"], each["opts"]["id"], each["opts"]["pool"]) for each in told} == {
            ("state", "web", "default")
        }
        assert [each["sequence"] for each in told] == sorted({each["sequence"] for each in told})


# --- containers ---------------------------------------------------------------------------------------------------


def test_a_container_is_made_listed_and_shown_with_the_originals_keys_in_order(original: OriginalClient) -> None:
    new_container(original, "web")

    (row,) = original.call("ct_list", ids=[], pool=None, state=None)
    assert list(row) == CT_KEYS
    assert (row["id"], row["user"], row["pool"], row["state"]) == ("web", "u1", "default", "stopped")
    assert original.call("ct_show", id="web", pool=None) == row
    assert original.call("ct_show", id="default:web", pool=None) == row
    assert original.call("ct_show", id="web", pool="default") == row
    assert original.call("ct_list", state=["running"]) == []
    assert original.call("ct_list", user=["u1"], pool=["default"], distribution=["busybox"]) == [row]


def test_the_clients_second_question_after_a_list_has_all_five_keys(original: OriginalClient) -> None:
    directories = original.call("group_cgsubsystems")

    assert list(directories) == ["cpu", "cpuacct", "memory", "blkio", "pids"]
    for path in directories.values():
        assert Path(path).is_dir()


def test_a_life_is_told_as_progress_and_answered_with_null(host: Topology) -> None:
    with OriginalClient(host.socket) as client:
        new_container(client, "web", via=VIA)
        assert client.call("netif_ip_add", id="web", pool=None, name="eth0", addr="1.2.3.4/32", route=True) is None

        assert client.call("ct_start", id="web", pool=None, wait=None, queue=False, priority=10, debug=False) is None
        assert client.progress == ["Starting container"]
        row = client.call("ct_show", id="web")
        assert row["state"] == "running"
        assert row["init_pid"] > 1
        assert Path(row["lxc_dir"]).is_dir()
        memory = Path(client.call("group_cgsubsystems")["memory"], row["group_path"])
        assert str(row["init_pid"]) in (memory / "cgroup.procs").read_text().split()
        assert client.call("netif_list", id="web", ids=["web"], pool=None)[0]["veth"].startswith("os")
        assert host.ping(host.R, "1.2.3.4") == 3

        assert client.execute("web", "sh", "-c", "cat; echo wrong >&2; exit 3", stdin=b"words") == (
            3,
            b"words",
            b"wrong\n",
        )
        assert client.execute("web", "hostname").stdout == b"web\n"
        assert client.call("self_ping") == "pong"  # the connection takes requests again

        assert client.call("ct_restart", id="web", wait=60, reboot=False, stop_timeout=60, stop_method="kill") is None
        assert client.call("ct_stop", id="web", pool=None, timeout=60, method="shutdown_or_kill") is None
        assert client.progress == ["Stopping container"]
        assert client.call("ct_stop", id="web", timeout=60, method="kill") is None
        assert client.call("ct_delete", id="web", pool=None, force=False) is None
        assert client.call("ct_list") == []


def test_a_command_that_ignores_its_streams_gets_its_status_told_first(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"])
    with OriginalClient(host.socket) as client:
        for _ in range(3):
            assert client.execute("web", "true") == (0, b"", b"")
        assert client.execute("web", "seq", "5000").stdout == b"".join(b"%d\n" % each for each in range(1, 5001))


@pytest.mark.time_limit(300)
def test_two_hundred_commands_end_neither_early_nor_short(host: Topology) -> None:
    host.new_container("web")
    everything = b"".join(b"%d\n" % each for each in range(1, 20_001))
    with OriginalClient(host.socket) as client:
        for number in range(200):
            if number % 10:
                assert client.execute("web", "sh", "-c", f"echo {number}; exit 3") == (3, b"%d\n" % number, b"")
            else:
                assert client.execute("web", "seq", "20000", pause=0.002) == (0, everything, b"")


def open_files(host: Topology) -> int:
    """How many descriptors the daemon has, but for those by which it waits: it has one more while nothing happens."""
    opened = []
    for each in Path(f"/proc/{host.daemon_pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.append(os.readlink(each))
    return sum("[eventpoll]" not in each for each in opened)


def test_who_waits_for_the_end_of_its_pipes_gets_it_and_no_descriptor_stays(host: Topology) -> None:
    host.new_container("web")
    with OriginalClient(host.socket) as client:
        client.execute("web", "true")
        client.call("self_ping")
        before = open_files(host)
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)

        client.send("ct_exec", id="web", cmd=["echo", "words"])
        client.answer()
        for each in (null, writer, null):
            client.send_descriptor(each)
        os.close(writer)
        os.close(null)

        # It reads nothing before the answer, and all after it.
        assert client.answer()["response"] == {"exitstatus": 0}
        with open(reader, "rb") as pipe:
            assert pipe.read() == b"words\n"
        client.call("self_ping")  # until then its leaving is watched for
        wait_until(lambda: open_files(host) == before, "no descriptor is left")


# --- interfaces ---------------------------------------------------------------------------------------------------


def test_interfaces_are_created_listed_shown_renamed_and_deleted(original: OriginalClient) -> None:
    new_container(original, "web", via=VIA)

    assert original.call("netif_list", id=None, ids=[], pool=None, type=None, link=None) == [
        {
            "name": "eth0",
            "index": 0,
            "type": "routed",
            "link": None,
            "veth": None,
            "via": {"4": "10.100.10.100/30"},
            "dhcp": None,
            "gateways": None,
            "pool": "default",
            "ctid": "web",
            "hwaddr": original.call("netif_list")[0]["hwaddr"],
        }
    ]
    assert list(original.call("netif_list")[0]) == [
        *("name", "index", "type", "link", "veth", "via", "dhcp", "gateways", "pool", "ctid", "hwaddr"),
    ]
    assert original.call("netif_list", type=["bridge"]) == []
    assert original.call("netif_list", link=["lxcbr0"]) == []
    assert original.call("netif_list", pool="default") == original.call("netif_list")
    assert list(original.call("netif_show", id="web", name="eth0")) == [
        *("name", "index", "type", "link", "veth", "via", "dhcp", "gateways"),
    ]

    assert original.call("netif_rename", id="web", pool=None, old_name="eth0", new_name="eth0") is None
    assert original.call("netif_rename", id="web", pool=None, old_name="eth0", new_name="wan0") is None
    assert [row["name"] for row in original.call("netif_list", id="web")] == ["wan0"]

    assert original.call("netif_delete", id="web", pool=None, name="wan0") is None
    assert original.call("netif_list", id="web") == []


def test_ends_of_the_interconnecting_network_are_given_without_prefix(original: OriginalClient) -> None:
    new_container(original, "web")
    via = {"4": {"network": "10.0.0.0/24", "host_addr": "10.0.0.254", "ct_addr": "10.0.0.1"}}

    original.call("netif_create", id="web", name="eth0", type="routed", via=via)

    shown = original.call("ct_netif_show", container="web", netif="eth0")
    assert shown["host_addr"] == {"4": "10.0.0.254/24"}
    assert shown["ct_addr"] == {"4": "10.0.0.1/24"}


def test_no_interconnecting_network_takes_free_ones(original: OriginalClient) -> None:
    new_container(original, "web", via={})

    assert list(original.call("netif_list")[0]["via"]) == ["4", "6"]


def test_a_set_via_replaces_all_and_nothing_else_does(original: OriginalClient) -> None:
    both = {**VIA, "6": {"network": "2001:db8:2:1::/126"}}
    new_container(original, "web", via=both)

    def via() -> Any:
        return original.call("netif_show", id="web", name="eth0")["via"]

    assert original.call("netif_set", id="web", pool=None, name="eth0") is None
    assert original.call("netif_set", id="web", name="eth0", hwaddr="02:00:00:00:00:01") is None
    assert original.call("netif_list")[0]["hwaddr"] == "02:00:00:00:00:01"
    assert original.call("netif_set", id="web", name="eth0", hwaddr=None) is None
    assert original.call("netif_list")[0]["hwaddr"] != "02:00:00:00:00:01"
    assert list(via()) == ["4", "6"]

    original.call("netif_ip_add", id="web", name="eth0", addr="2001:db8:2:2::1", route=True)
    assert "expected network for IPv6, there are routes present" in original.error(
        "netif_set", id="web", name="eth0", via={"4": {"network": "10.100.10.104/30"}}
    )
    assert via()["4"] == "10.100.10.100/30"
    original.call("netif_ip_del", id="web", name="eth0", addr="all", keep_route=False, version=None)
    assert original.call("netif_set", id="web", name="eth0", via={"4": {"network": "10.100.10.104/30"}}) is None
    assert via() == {"4": "10.100.10.104/30"}
    assert original.call("netif_set", id="web", name="eth0", via=None) is None
    assert via() == {"4": "10.100.10.104/30"}


def test_addresses_and_routes_come_in_the_originals_shapes(original: OriginalClient) -> None:
    new_container(original, "web", via={**VIA, "6": {"network": "2001:db8:2:1::/126"}})
    where = {"id": "web", "pool": None, "name": "eth0"}

    assert original.call("netif_ip_add", **where, addr="1.2.3.4", route=True) is None
    assert original.call("netif_ip_add", **where, addr="10.5.5.1/24", route=True) is None
    assert original.progress == ["routed 10.5.5.0/24 (256 addresses)"]
    assert original.call("netif_ip_add", **where, addr="1.2.3.8/32", route="1.2.3.8/31") is None
    assert original.call("netif_ip_add", **where, addr="1.2.3.16/32", route=None) is None
    assert original.call("netif_route_add", **where, addr="2001:db8:2:2::/64") is None

    listed = original.call("netif_ip_list", **where)
    assert listed == [
        {
            "pool": "default",
            "ctid": "web",
            "netif": "eth0",
            "4": ["1.2.3.4/32", "10.5.5.1/24", "1.2.3.8/32", "1.2.3.16/32"],
            "6": [],
        }
    ]
    assert list(listed[0]) == ["pool", "ctid", "netif", "4", "6"]
    assert original.call("netif_ip_list") == listed
    routed = original.call("netif_route_list", id="web", pool=None, name=None)
    assert list(routed[0]) == ["4", "6", "pool", "ctid", "netif"]
    assert routed[0]["4"] == ["1.2.3.4/32", "10.5.5.0/24", "1.2.3.8/31"]
    assert routed[0]["6"] == ["2001:db8:2:2::/64"]

    assert original.call("netif_ip_del", **where, addr="10.5.5.1/24", keep_route=True, version=None) is None
    assert "10.5.5.0/24" in original.call("netif_route_list")[0]["4"]
    assert original.call("netif_route_del", **where, addr="10.5.5.0/24", version=None) is None
    assert original.call("netif_ip_del", **where, addr="all", keep_route=False, version=4) is None
    assert original.call("netif_route_del", **where, addr="all", version=6) is None
    assert original.call("netif_ip_list")[0]["4"] == []
    assert original.call("netif_route_list")[0] == {**routed[0], "4": [], "6": []}


def test_a_route_in_use_is_deleted_as_by_the_original_and_its_address_is_unrouted(original: OriginalClient) -> None:
    new_container(original, "web", via=VIA)
    where = {"id": "web", "pool": None, "name": "eth0"}
    for address in ("1.2.3.4", "1.2.3.5"):
        original.call("netif_ip_add", **where, addr=address, route=True)

    assert original.call("netif_route_del", **where, addr="1.2.3.4", version=None) is None
    assert original.call("netif_route_list")[0]["4"] == ["1.2.3.5/32"]
    assert original.call("netif_route_del", **where, addr="all", version=None) is None

    assert original.call("netif_route_list")[0]["4"] == []
    assert original.call("netif_ip_list")[0]["4"] == ["1.2.3.4/32", "1.2.3.5/32"]
    listed = original.call("ct_netif_ip_ls", container="web")
    assert [row["state"] for row in listed] == ["unrouted", "unrouted"]
    # Our own words ask for that by an option.
    original.call("netif_route_add", **where, addr="1.2.3.4")
    refusal = original.error("ct_netif_route_del", container="web", netif="eth0", networks=["1.2.3.4"])
    assert "--leave-unrouted" in refusal


# --- users and groups ---------------------------------------------------------------------------------------------


def test_groups_are_there_and_lead_to_the_cgroups_of_containers(original: OriginalClient) -> None:
    new_container(original, "web")
    rows = original.call("group_list", pool=None)

    assert [list(row) for row in rows] == [["pool", "name", "path", "full_path"]] * 2
    assert [row["name"] for row in rows] == ["/", "/default"]
    assert original.call("group_list", names=["/default"], pool=["default"]) == rows[1:]
    assert original.call("group_list", pool=["tank"]) == []
    assert original.call("group_show", name="/default", pool=None) == rows[1]
    assert original.call("group_show", name="default:/") == rows[0]
    assert original.call("ct_list", group=[rows[1]["name"]])[0]["group_path"].startswith(rows[1]["full_path"])
    assert "group not found" in original.error("group_show", name="/other")


def test_a_user_is_made_with_the_map_that_it_can_have_and_goes_with_its_last_container(
    original: OriginalClient,
) -> None:
    user = {"name": "u7", "pool": None, "ugid": 5000}
    refused = original.error("user_create", **user, uid_map=["0:7:65536"], gid_map=["0:7:65536"])
    id_map = refused.rpartition(" ")[2]

    assert refused == f"UID map is not valid: 0:7:65536, 'u7' can have {id_map}"
    assert "GID map is not valid" in original.error("user_create", **user, uid_map=[id_map], gid_map=["0:7:1"])
    assert "missing UID map" in original.error("user_create", **user)
    assert "invalid ugid" in original.error("user_create", name="u7", ugid=0, uid_map=[id_map], gid_map=[id_map])
    assert "invalid user name" in original.error("user_create", name="u 7", ugid=7, uid_map=[id_map], gid_map=[id_map])
    assert original.call("user_create", **user, uid_map=[id_map], gid_map=[id_map]) is None
    original.call("ct_create", id="web", user="u7", distribution="busybox")
    assert f"0:{original.call('user_show', name='u7')['ugid']}:65536" == id_map
    assert "user already exists" in original.error("user_create", **user, uid_map=[id_map], gid_map=[id_map])
    assert "user has container(s)" in original.error("user_delete", name="u7", pool=None)
    original.call("ct_delete", id="web")
    assert original.call("user_delete", name="u7", pool=None) is None


# --- what is not known --------------------------------------------------------------------------------------------


def test_null_is_absent_under_any_key_and_what_the_later_client_always_says_is_understood(
    original: OriginalClient,
) -> None:
    new_container(original, "web")
    # The queues are what its options have by themselves.
    original.call(
        "netif_create", id="web", pool=None, name="eth0", type="routed", hwaddr=None, tx_queues=1, rx_queues=1
    )
    original.call("netif_set", id="web", pool=None, name="eth0", hwaddr="02:00:00:00:00:01", max_tx=None, frob=None)

    assert original.call("ct_list", ids=["gone", "web"], frob=None)[0]["id"] == "web"
    assert original.call("ct_list", ids=["gone"]) == []
    assert original.call("ct_list", ids=["default:web", "tank:web"])[0]["id"] == "web"
    assert original.call("ct_stop", id="web", pool=None, timeout=60, message=None) is None


@pytest.mark.parametrize(
    ("cmd", "opts", "words"),
    [
        ("netif_create", {"name": "eth1", "type": "routed", "via": {}, "max_tx": 10}, "max_tx 10 is not supported"),
        ("netif_create", {"name": "eth1", "type": "routed", "via": {}, "tx_queues": 4}, "tx_queues 4 is not supported"),
        ("netif_create", {"name": "eth1", "type": "routed", "via": {}, "mtu": 1400}, "unknown key 'mtu'"),
        ("netif_create", {"name": "eth1", "type": "routed", "link": "br0"}, "no link 'br0'"),
        (
            "netif_create",
            {"name": "eth1", "type": "routed", "via": {"4": {"network": "10.0.0.0/30", "gw": "10.0.0.1"}}},
            "unknown field `gw`",
        ),
        ("netif_set", {"name": "eth0", "max_rx": 5}, "max_rx 5 is not supported"),
        ("netif_set", {"name": "eth0", "dhcp": True}, "eth0 is a routed interface: no dhcp True"),
        ("ct_start", {"debug": True}, "debug"),
        ("ct_start", {"frob": False}, "unknown key 'frob'"),
        ("ct_stop", {"message": "we are closing"}, "unknown key 'message'"),
        ("ct_list", {"frob": ["x"]}, "unknown key 'frob'"),
        ("self_ping", {"frob": 0}, "unknown key 'frob'"),
    ],
)
def test_what_is_asked_for_and_not_known_is_refused_by_name_and_nothing_is_done(
    refusing: OriginalClient, cmd: str, opts: dict[str, Any], words: str
) -> None:
    where = {} if cmd in ("ct_list", "self_ping") else {"id": "web"}
    before = refusing.call("netif_list"), refusing.call("ct_list")

    assert words in refusing.error(cmd, **where, **opts)

    assert (refusing.call("netif_list"), refusing.call("ct_list")) == before


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "opts", "words"),
    [
        ("ct_show", {"id": "none"}, "container not found"),
        ("ct_show", {"id": "web", "pool": "tank"}, "container not found"),
        ("ct_show", {"id": "tank:web"}, "container not found"),
        ("ct_start", {"id": "none"}, "container not found"),
        ("ct_exec", {"id": "none", "cmd": ["true"]}, "container not found"),
        ("ct_exec", {"id": "web", "cmd": ["true"]}, "container not running"),
        ("ct_stop", {"id": "web", "method": "ask"}, "unknown stop method 'ask'"),
        ("ct_create", {"id": "web", "user": "u1", "distribution": "busybox"}, "container already exists"),
        ("ct_create", {"id": "x", "user": "u1"}, "provide template archive, stream or existing dataset"),
        ("ct_create", {"id": "x", "user": "u1", "pool": "tank"}, "pool not found"),
        ("ct_create", {"id": "x", "user": "u1", "group": "/g"}, "group not found"),
        ("ct_create", {"id": "a.b", "user": "u1", "distribution": "busybox"}, "invalid"),
        ("netif_create", {"id": "none", "name": "eth1", "type": "routed"}, "container not found"),
        ("netif_create", {"id": "web", "name": "eth1", "type": "macvlan", "link": "up0"}, "'macvlan' is not supported"),
        ("netif_create", {"id": "web", "name": "eth1", "type": "bridge"}, "link is required"),
        ("netif_create", {"id": "web", "name": "eth1", "type": "bridge", "link": "br0"}, "'br0': no such link"),
        ("netif_create", {"id": "web", "name": "eth1", "type": "bridge", "link": "br0", "via": {}}, "no via"),
        ("netif_set", {"id": "web", "name": "eth0", "link": "br0"}, "eth0 is a routed interface: no link 'br0'"),
        ("netif_create", {"id": "web", "name": "eth0", "type": "routed", "via": {}}, "'eth0' already exists"),
        ("netif_create", {"id": "web", "name": "eth1"}, "missing required field `type`"),
        (
            "netif_create",
            {"id": "web", "name": "eth1", "type": "routed", "via": {"5": {"network": "10.0.0.0/30"}}},
            "unsupported IP version '5'",
        ),
        (
            "netif_create",
            {"id": "web", "name": "eth1", "type": "routed", "via": {"6": {"network": "10.0.0.0/30"}}},
            "10.0.0.0/30 is not IPv6",
        ),
        (
            "netif_create",
            {"id": "web", "name": "eth1", "type": "routed", "via": {"4": {"network": "10.0.0.0/32"}}},
            "cannot route via IPv4 network smaller than /31",
        ),
        ("netif_list", {"id": "none"}, "container not found"),
        ("netif_show", {"id": "web", "name": "eth9"}, "interface not found"),
        ("netif_rename", {"id": "web", "old_name": "eth9", "new_name": "a"}, "network interface not found"),
        ("netif_rename", {"id": "web", "old_name": "eth9", "new_name": "eth9"}, "network interface not found"),
        ("netif_delete", {"id": "web", "name": "eth9"}, "network interface not found"),
        ("netif_set", {"id": "web", "name": "eth9", "hwaddr": None}, "network interface not found"),
        ("netif_set", {"id": "web", "name": "eth0", "hwaddr": "02:00"}, "has to be a 17 character string or null"),
        (
            "netif_set",
            {"id": "web", "name": "eth0", "via": {"4": {"network": "10.0.0.0/24", "host_addr": "10.0.0.1"}}},
            "provide both host and container address",
        ),
        (
            "netif_set",
            {
                "id": "web",
                "name": "eth0",
                "via": {"4": {"network": "10.0.0.0/24", "host_addr": "10.0.0.1", "ct_addr": "10.0.0.1"}},
            },
            "use different addresses for host and container",
        ),
        (
            "netif_set",
            {
                "id": "web",
                "name": "eth0",
                "via": {"4": {"network": "10.0.0.0/24", "host_addr": "10.0.1.1", "ct_addr": "10.0.0.1"}},
            },
            "network 10.0.0.0/24 does not include host address",
        ),
        ("netif_ip_add", {"id": "web", "name": "eth9", "addr": "1.2.3.5"}, "network interface not found"),
        ("netif_ip_add", {"id": "web", "name": "eth0", "addr": "bogus"}, "bogus"),
        ("netif_ip_add", {"id": "web", "name": "eth0", "addr": "1.2.3.4/32"}, "this address is already assigned"),
        ("netif_ip_add", {"id": "web", "name": "eth0", "addr": "::2"}, "network interface not configured for IPv6"),
        ("netif_ip_add", {"id": "web", "name": "eth0", "addr": "1.2.3.5", "route": "::/64"}, "IP version mismatch"),
        ("netif_ip_add", {"id": "web", "name": "eth0", "addr": "1.2.3.5", "route": "9.0.0.0/8"}, "9.0.0.0/8 does not"),
        ("netif_ip_del", {"id": "web", "name": "eth0", "addr": "9.9.9.9"}, "address not found"),
        ("netif_ip_del", {"id": "web", "name": "eth0", "addr": "all", "version": 5}, "unsupported IP version 5"),
        ("netif_ip_list", {"id": "web", "name": "eth9"}, "network interface not found"),
        ("netif_route_add", {"id": "web", "name": "eth0", "addr": "1.2.3.4"}, None),
        ("netif_route_add", {"id": "web", "name": "eth0", "addr": "2001:db8::/64"}, "not configured for IPv6"),
        ("netif_route_del", {"id": "web", "name": "eth0", "addr": "9.9.9.9"}, "route not found"),
        ("pool_show", {"name": "tank"}, "pool not found"),
        ("user_show", {"name": "nobody"}, "user not found"),
        ("ct_frob", {"id": "web"}, "Unsupported command 'ct_frob'"),
        ("netif_list", {"id": 7}, "id: Expected `str | null`, got `int`"),
    ],
)
def test_a_refusal_holds_the_originals_words(
    refusing: OriginalClient, cmd: str, opts: dict[str, Any], words: str | None
) -> None:
    if words is None:  # an automatic route becomes the operator's; the second time it is one
        refusing.call(cmd, **opts)
        words = "this address is already routed"

    assert words in refusing.error(cmd, **opts)
    assert refusing.call("self_ping") == "pong"


@pytest.fixture(scope="module")
def refusing(idle_host: Topology) -> Iterator[OriginalClient]:
    """A connection to a daemon with one container, `web`, with one address."""
    with OriginalClient(idle_host.socket) as client:
        new_container(client, "web", via=VIA)
        client.call("netif_ip_add", id="web", name="eth0", addr="1.2.3.4/32", route=True)
        yield client
        client.call("ct_delete", id="web", force=True)
