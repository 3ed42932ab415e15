"""The daemon comes and goes; containers and their packets do not notice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import osctl.client
from readable_client import readable_client
from whole.crowded_daemon import CROWDED
from whole.host import BIN, ROUTER_4, WORLD_4, Result, Topology, differences, run, wait_until
from whole.pings import pings

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESSES = ["1.2.3.4", "2001:db8:2::4"]
NOBODY = "65534"


def new_web(host: Topology) -> str:
    return host.new_container("web", via=VIAS, addresses=ADDRESSES)


def osctld(host: Topology, *arguments: str, check: bool = False) -> Result:
    """Run another osctld in H to its end."""
    return host.in_namespace(host.H, str(BIN / "osctld"), *arguments, check=check, seconds=20)


def one_line(result: Result) -> str:
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result
    return result.stderr.removeprefix("error: ").rstrip()


@pytest.mark.parametrize("end", ["kill_daemon", "stop_daemon"])
def test_no_packet_is_lost_while_the_daemon_is_away_and_comes_back(host: Topology, end: str) -> None:
    new_web(host)
    before = host.comparable_state("web")

    with pings(host, *ADDRESSES) as counts:
        assert host.ping(host.R, ADDRESSES[0], count=5) == 5
        for _ in range(2):
            getattr(host, end)()
            assert host.ping(host.R, ADDRESSES[1], count=5) == 5
            host.start_daemon()
            assert host.ping(host.R, ADDRESSES[0], count=5) == 5

    for sent, answered in counts.values():
        assert sent > 50
        # The one that was just on its way when ping was told to end.
        assert sent - answered <= 1
    assert not differences(before, host.comparable_state("web"))


def test_sigterm_ends_the_daemon_in_peace_and_touches_no_container(host: Topology) -> None:
    new_web(host)
    before, pid = host.comparable_state("web"), host.init_pid("web")

    assert host.stop_daemon() == 0

    assert Path(f"/proc/{pid}/root/etc/os-release").read_text().startswith("ID=busybox")
    assert host.ping(host.R, ADDRESSES[0]) == 3
    assert host.ping(host.R, ADDRESSES[1]) == 3
    host.start_daemon()
    assert host.init_pid("web") == pid
    assert not differences(before, host.comparable_state("web"))
    assert host.guest("web", "echo", "alive").stdout == "alive\n"


def test_a_command_that_runs_when_sigterm_comes_is_finished_or_refused(host: Topology) -> None:
    new_web(host)
    with subprocess.Popen(
        [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "restart", "web"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline().startswith("Stopping")
        assert host.stop_daemon() == 0
        _, errors = client.communicate(timeout=20)
    assert client.returncode == 0 or re.fullmatch(r"error: [^\n]+\n", errors)

    host.start_daemon()
    host.osctl("ct", "start", "web")
    assert host.ping(host.R, ADDRESSES[0]) == 3


@pytest.mark.parametrize("shared", ["state", "run"])
def test_a_second_daemon_on_the_same_directory_is_refused_in_words(host: Topology, shared: str) -> None:
    new_web(host)
    directories = {"state": host.directory / "other-state", "run": host.directory / "other-run"}
    directories[shared] = host.state_dir if shared == "state" else host.run_dir
    before = host.comparable_state("web")

    refused = osctld(
        host,
        *("--config", str(host.config)),
        *("--state-dir", str(directories["state"])),
        *("--run-dir", str(directories["run"])),
    )

    assert refused.status == 1
    said = one_line(refused)
    assert f"{directories[shared]}: in use by another osctld" in said
    assert str(host.daemon_pid) in said
    assert host.osctl("ping").status == 0
    assert not differences(before, host.comparable_state("web"))


def test_daemons_in_two_namespaces_know_nothing_of_each_other(host: Topology) -> None:
    with Topology() as other:
        new_web(host)
        new_web(other)
        assert host.ping(host.R, ADDRESSES[0]) == other.ping(other.R, ADDRESSES[0]) == 3
        assert host.init_pid("web") != other.init_pid("web")
        before = host.comparable_state("web")

        other.kill_daemon()
        other.start_daemon()
        assert other.guest("web", "hostname").stdout == "web\n"
        other.osctl("ct", "del", "-f", "web")

        assert not differences(before, host.comparable_state("web"))
        assert host.ping(host.R, ADDRESSES[0]) == 3
        assert host.guest("web", "hostname").stdout == "web\n"
        assert other.osctl_json("ct", "ls") == []
        host.restart_daemon()
        assert [each["state"] for each in host.osctl_json("ct", "ls")] == ["running"]


def test_only_root_may_speak_to_the_daemon(host: Topology) -> None:
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.state_dir.stat().st_mode) == 0o700

    denied = run(
        *("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"),
        *(*readable_client(host.directory), "--socket", str(host.socket), "ct", "ls"),
        check=False,
    )

    assert denied.status == 77
    assert denied.stdout == ""
    assert str(host.socket) in one_line(denied)


def test_without_a_daemon_commands_say_so_and_help_is_given_all_the_same(host: Topology) -> None:
    for end in (host.stop_daemon, host.kill_daemon):
        end()
        away = host.osctl("ct", "ls", check=False)
        assert away.status == 69
        assert away.stdout == ""
        assert str(host.socket) in one_line(away)
        assert "ip add" in host.osctl("help", "ct", "netif", "ip", "add").stdout
        assert host.osctl("ct", "netif", "frobnicate", check=False).status == 64
        host.start_daemon()


def test_the_daemon_tells_its_service_manager_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, Topology(start_daemon=False) as host:
        listener.bind(str(place))
        listener.settimeout(10)
        host.start_daemon(environment={"NOTIFY_SOCKET": str(place)})
        # The socket that answers, to be kept while the daemon is restarted.
        told, kept, _, _ = socket.recv_fds(listener, 100, 2)
        assert told == f"FDSTORE=1\nFDPOLL=0\nFDNAME=osctld-{host.socket.stat().st_ino}".encode()
        with socket.socket(fileno=kept[0]) as stored:
            assert (len(kept), stored.getsockname()) == (1, str(host.socket))
        assert listener.recv(100) == b"READY=1"
        assert host.stop_daemon() == 0
        assert listener.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[routes]\nannounce_protocol = 111\n\nannounce = 3\n", 4, "announce"),
        ("[host]\nlink_group = 'many'\n", 2, "many"),
        ("[routes]\n\n\nipv6_metric = 0\n", 4, "0"),
        ("[routes]\nannounce_protocol = 4\n", 2, "4"),
        ("[nonsense]\n", 1, "nonsense"),
        ("[routes\n", 1, ""),
        ("[ids]\nfirst = 100\nlast = 200\n", 2, "100"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_file_and_line(
    idle_host: Topology, tmp_path: Path, text: str, line: int, words: str
) -> None:
    file = tmp_path / "osctld.toml"
    file.write_text(text)

    refused = osctld(
        idle_host,
        *("--config", str(file)),
        *("--state-dir", str(tmp_path / "state")),
        *("--run-dir", str(tmp_path / "run")),
    )

    assert refused.status == 1
    said = one_line(refused)
    assert said.startswith(str(file))
    assert f":{line}:" in said or f"line {line}" in said
    assert words in said
    assert not (tmp_path / "state").exists()


def test_other_mistakes_of_whoever_starts_the_daemon_are_told_in_one_line(idle_host: Topology, tmp_path: Path) -> None:
    missing, file = tmp_path / "missing.toml", tmp_path / "file"
    file.write_text("")
    not_a_store = tmp_path / "not-a-store"
    not_a_store.mkdir()
    (not_a_store / "osctl.sqlite").write_text("this is no database, it is a poem of some length, in one line")

    for arguments, words, status in (
        (["--config", str(missing)], str(missing), 1),
        (["--frobnicate"], "--frobnicate", 64),
        (["--state-dir"], "--state-dir", 64),
        (["--state-dir", str(file / "x"), "--run-dir", str(tmp_path / "run")], str(file), 1),
        (["--state-dir", str(not_a_store), "--run-dir", str(tmp_path / "run")], "osctl.sqlite", 1),
    ):
        refused = osctld(idle_host, *arguments)
        assert refused.status == status, refused
        assert words in one_line(refused)


def test_a_daemon_that_starts_mends_the_host_and_tells_of_what_was_changed_inside(host: Topology) -> None:
    new_web(host)
    assert host.osctl_json("self", "status")["drift"] == []
    broken_on_both_sides(host)

    host.start_daemon()

    told = host.osctl_json("self", "status")["drift"]
    assert [line for line in told if "addr 1.2.3.4/32 dev eth0" in line]
    assert host.ip_json(host.H, "route", "show", "1.2.3.4")
    assert "1.2.3.4" not in json.dumps(host.guest_ip_json("web", "addr", "show", "dev", "eth0"))


def test_an_interface_that_was_deleted_inside_is_made_anew_with_all_that_is_on_it(host: Topology) -> None:
    new_web(host)
    before = host.comparable_state("web")
    host.guest("web", "ip", "link", "del", "eth0")

    host.restart_daemon()

    wait_until(lambda: not differences(before, host.comparable_state("web")), "as it was before")
    assert host.osctl_json("self", "status")["drift"] == []
    assert host.ping(host.R, "1.2.3.4") == 3


def test_a_reconcile_that_is_asked_for_mends_inside_too(host: Topology) -> None:
    new_web(host)
    before = host.comparable_state("web")
    inside = ("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net")
    run(*inside, "ip", "addr", "del", "1.2.3.4/32", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "mtu", "1400")
    broken = host.comparable_state("web")

    planned = host.osctl("net", "reconcile", "--dry-run")
    assert not differences(broken, host.comparable_state("web"))
    mended = host.osctl("net", "reconcile", "web")

    assert "ip addr add 1.2.3.4/32" in planned.stdout
    assert "repaired addr 1.2.3.4/32 dev eth0 in container web" in mended.stdout
    assert not differences(before, host.comparable_state("web"))
    assert host.osctl("net", "reconcile").stdout == "nothing to repair\n"
    assert host.osctl_json("self", "status")["drift"] == []


def test_what_the_packet_filter_holds_of_a_link_that_is_gone_is_taken_away_and_is_nobody_s_mistake(
    host: Topology,
) -> None:
    new_web(host)
    before = host.comparable_state("web")
    host.ip(host.H, "link", "add", "gone", "type", "veth", "peer", "name", "gone1")
    host.in_namespace(host.H, "nft", "add", "element", "inet", "osctl", "own", "{ gone . gone }")
    host.ip(host.H, "link", "del", "gone")

    host.osctl("net", "reconcile")

    assert not differences(before, host.comparable_state("web"))
    assert "siblings" not in host.log_text()


def test_a_reconcile_tells_what_it_could_not_mend_and_fails(host: Topology) -> None:
    new_web(host)
    host.ip(host.H, "route", "replace", "1.2.3.4/32", "via", ROUTER_4, "proto", "static")
    run("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net", "ip", "link", "set", "eth0", "mtu", "1400")

    first, second = (host.osctl("net", "reconcile", "web", check=False) for _ in range(2))

    assert (first.status, first.stdout) == (1, "repaired link eth0 in container web\n")
    assert (second.status, second.stdout) == (1, "")
    there = "route 1.2.3.4/32 via 192.0.2.2 dev up0 proto static"
    told = f"web: 1.2.3.4/32: the host already has {there}, which is foreign"
    assert first.stderr == second.stderr == f"error: not repaired: {told}\n"
    (route,) = host.ip_json(host.H, "route", "show", "1.2.3.4")
    assert (route["dev"], route["protocol"]) == ("up0", "static")


def test_a_command_leaves_alone_what_was_changed_inside(host: Topology) -> None:
    new_web(host)
    inside = ("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net")
    run(*inside, "ip", "-6", "addr", "del", f"{ADDRESSES[1]}/128", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "mtu", "1400")

    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    assert host.ping(host.R, "1.2.3.5") == 3
    (link,) = host.guest_ip_json("web", "addr", "show", "dev", "eth0")
    assert link["mtu"] == 1400
    assert ADDRESSES[1] not in json.dumps(link)


def test_a_tenant_without_ipv6_keeps_no_address_that_is_taken_away(host: Topology) -> None:
    new_web(host)
    inside = ("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net", "sysctl", "-qw")
    run(*inside, "net.ipv6.conf.eth0.disable_ipv6=1")

    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    refused = host.refusal("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::5")
    host.osctl("ct", "netif", "ip", "del", "web", "eth0", "2001:db8:2::4")

    assert refused == (
        "addr 2001:db8:2::5/128 dev eth0 in container web: IPv6 is disabled there by net.ipv6.conf.eth0.disable_ipv6"
    )
    told = host.osctl("net", "reconcile", "web").stdout
    assert "left to the tenant of web: addr fd00:1::2/126 dev eth0" in told
    assert host.ip_json(host.H, "-6", "route", "show", "2001:db8:2::4") == []
    assert host.ping(host.R, "1.2.3.5") == 3
    assert any("fd00:1::2/126" in each for each in host.osctl_json("self", "status")["drift"])
    run(*inside, "net.ipv6.conf.eth0.disable_ipv6=0")
    host.osctl("net", "reconcile", "web")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::5")
    assert host.ping(host.R, "2001:db8:2::5") == 3


def test_ipv6_on_a_link_that_the_tenant_made_too_small_for_it_is_refused_in_words(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4", "2001:db8:2::4"])
    inside = ("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net")
    run(*inside, "ip", "link", "set", "eth0", "mtu", "1000")

    refused = host.refusal_without_trace("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::5", running=["web"])
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    assert refused == (
        "addr 2001:db8:2::5/128 dev eth0 in container web: eth0 has an MTU of 1000 there, and IPv6 requires 1280"
    )
    host.osctl("net", "reconcile", "web")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::5")
    assert host.ping(host.R, "2001:db8:2::5") == 3


@pytest.mark.parametrize("trick", ["", "ip link set eth0 name mine"])
def test_a_tenant_without_ipv6_keeps_nobody_from_renaming_an_interface(host: Topology, trick: str) -> None:
    host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4", "2001:db8:2::4"])
    inside = ("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net")
    run(*inside, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    if trick:
        run(*inside, *trick.split())

    host.osctl("ct", "netif", "rename", "web", "eth0", "lan0")

    assert host.ping(host.R, "1.2.3.4") == 3
    assert "web: addr 2001:db8:2::4/128 dev lan0" in host.osctl_json("self", "status")["drift"]
    run(*inside, "sysctl", "-qw", "net.ipv6.conf.lan0.disable_ipv6=0")
    host.osctl("net", "reconcile", "web")
    assert host.ping(host.R, "2001:db8:2::4") == 3


def test_a_command_does_not_stumble_over_a_link_that_was_taken_down_inside(host: Topology) -> None:
    new_web(host)
    run("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net", "ip", "link", "set", "eth0", "down")

    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    assert all(host.ping(host.R, address) == 3 for address in (*ADDRESSES, "1.2.3.5"))


def test_what_is_to_be_enforced_inside_is_mended_without_being_asked(host: Topology) -> None:
    new_web(host)
    host.osctl("ct", "netif", "set", "--guest", "enforce", "web", "eth0")
    before = host.comparable_state("web")
    run("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net", "ip", "addr", "del", "1.2.3.4/32", "dev", "eth0")

    host.restart_daemon()

    assert not differences(before, host.comparable_state("web"))


def test_after_a_reboot_of_the_host_what_ran_runs_again_and_nothing_else(host: Topology) -> None:
    new_web(host)
    host.new_container("idle", via=["10.100.10.96/30"])
    host.osctl("ct", "stop", "idle")
    before = apart_from_links(host.comparable_state("web"))

    host.reboot_host()

    wait_until(lambda: host.osctl_json("ct", "show", "web")["state"] == "running", "web runs again")
    assert host.osctl_json("ct", "show", "idle")["state"] == "stopped"
    assert not differences(before, apart_from_links(host.comparable_state("web")))
    assert all(host.ping(host.R, address) == 3 for address in ADDRESSES)


def apart_from_links(state: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without what a new boot numbers and names anew: the uplink is another one, too."""
    return {key: rows for key, rows in state.items() if not key.startswith(("host links", "host addresses"))}


def test_a_container_that_died_while_no_daemon_listened_is_stopped_and_can_be_started(host: Topology) -> None:
    new_web(host)
    before = host.comparable_state("web")
    pid = host.init_pid("web")
    host.kill_daemon()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "its first process is gone")

    host.start_daemon()

    shown = host.osctl_json("ct", "show", "web")
    assert (shown["state"], shown["wanted"]) == ("stopped", False)
    host.osctl("ct", "start", "web")
    assert not differences(before, host.comparable_state("web"))


def broken_on_both_sides(host: Topology) -> None:
    """Leave the host without its daemon, and with little of what it had made."""
    veth = host.veth("web")
    inside = ("nsenter", f"--net=/proc/{host.init_pid('web')}/ns/net")
    host.kill_daemon()
    host.in_namespace(host.H, "nft", "flush", "ruleset")
    host.ip(host.H, "route", "del", "1.2.3.4")
    host.ip(host.H, "-6", "addr", "flush", "dev", veth)
    host.ip(host.H, "link", "set", veth, "down")
    host.sysctl(host.H, "net/ipv4/conf/up0/forwarding", "0")
    run(*inside, "ip", "addr", "del", "1.2.3.4/32", "dev", "eth0")
    run(*inside, "ip", "-6", "route", "del", "default")


def test_links_that_a_crash_left_are_collected_and_foreign_ones_are_not(host: Topology) -> None:
    new_web(host)
    host.kill_daemon()
    host.ip(host.H, "link", "add", "osgone-eth0", "type", "veth", "peer", "name", "osgone-p")
    host.ip(host.H, "link", "set", "osgone-eth0", "group", "111")
    host.ip(host.H, "link", "add", "osmine0", "type", "veth", "peer", "name", "osmine1")
    host.ip(host.H, "route", "add", "203.0.113.1", "dev", host_link := _only_link(host), "proto", "112")
    host.ip(host.H, "route", "add", "203.0.113.2", "dev", host_link, "proto", "static")

    host.start_daemon()

    names = {each["ifname"] for each in host.ip_json(host.H, "link", "show")}
    assert "osgone-eth0" not in names
    assert {"osmine0", "osmine1"} <= names
    assert host.ip_json(host.H, "route", "show", "203.0.113.1") == []
    assert host.ip_json(host.H, "route", "show", "203.0.113.2") != []
    host.osctl("ct", "stop", "-k", "web")
    host.ip(host.H, "link", "del", "osmine0")


def _only_link(host: Topology) -> str:
    (found,) = [
        each["ifname"] for each in host.ip_json(host.H, "link", "show", "group", "111") if "web" in each["ifname"]
    ]
    return str(found)


def test_a_socket_that_a_killed_daemon_left_is_replaced_and_one_of_somebody_else_is_not_followed(
    host: Topology,
) -> None:
    host.kill_daemon()
    assert stat.S_ISSOCK(host.socket.lstat().st_mode)
    host.start_daemon()
    assert host.osctl("ping").stdout.strip() == "pong"
    assert host.guest_ping(new_web(host), WORLD_4, count=1) == 1


def test_the_daemon_keeps_no_namespace_of_a_container_alive(host: Topology) -> None:
    new_web(host)
    held = os.stat(f"/proc/{host.init_pid('web')}/ns/net").st_ino
    descriptors = Path(f"/proc/{host.daemon_pid}/fd")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    def opened() -> list[str]:
        found = []
        for each in descriptors.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(each))
        # Who waits for news of the kernel has one of these more, except while the last ones are heeded.
        return [each for each in found if each != "anon_inode:[eventpoll]"]

    def live() -> None:
        host.osctl("ct", "restart", "-k", "web")
        host.guest("web", "true")
        host.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.5")
        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    assert f"net:[{held}]" not in opened()
    live()  # some sockets are opened when they are first of use, and kept
    before = len(opened())
    for _ in range(5):
        live()
    wait_until(lambda: len(opened()) <= before, "descriptors are closed again")


def test_the_daemon_has_no_library_loaded_that_it_does_not_use(host: Topology) -> None:
    mapped = Path(f"/proc/{host.daemon_pid}/maps").read_text()

    assert "libnftables" in mapped
    assert "libcrypto" not in mapped
    assert "libssl" not in mapped


def test_a_daemon_that_holds_very_many_containers_makes_and_mends_the_firewall() -> None:
    # libnftables waits by select(2), and the C library ends the process when a descriptor is too high for that.
    def has_table() -> bool:
        return "table inet osctl" in host.in_namespace(host.H, "nft", "list", "tables").stdout

    with Topology(program=CROWDED) as host:
        assert has_table()

        host.in_namespace(host.H, "nft", "delete", "table", "inet", "osctl")

        wait_until(has_table, "the table is back")
        assert host.osctl("self", "check", "-H", "-o", "code", check=False).stderr == ""


def test_a_daemon_whose_files_are_replaced_under_it_goes_on_as_what_it_was(tmp_path: Path) -> None:
    copy = tmp_path / "src"
    shutil.copytree(Path(osctl.client.__file__).parents[1], copy)
    program = f"import sys; sys.path.insert(0, {str(copy)!r}); from osctld.__main__ import main; sys.exit(main())"
    with Topology(program=(sys.executable, "-Ic", program)) as host:
        for each in (*copy.rglob("*.py"), *copy.rglob("*.pyc")):
            each.unlink()

        host.new_container("web", via=["10.100.10.100/30"])
        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4/32")

        assert host.ping(host.R, "1.2.3.4") == 3
        assert "--via" in host.osctl("help", "ct", "netif", "new", "routed").stdout
        with osctl.client.connect(str(host.socket)) as daemon:
            assert daemon.call("ct_netif_ip_ls", container="web")
        host.osctl("self", "check", check=False)
        host.osctl("ct", "stop", "-k", "web")
        host.osctl("ct", "del", "web")
        assert "Traceback" not in host.log_text()
