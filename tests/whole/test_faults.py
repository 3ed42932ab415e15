"""All of a change or nothing: whatever fails, whenever the daemon dies, kernel and configuration agree."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from osctld.daemon.records import WRITTEN_MEANWHILE
from whole.faulty_daemon import FAULTY
from whole.host import BIN, Topology, differences, run

NEW = ("ct", "netif", "new", "routed")
ADD, DELETE = ("ct", "netif", "ip", "add"), ("ct", "netif", "ip", "del")
ROUTE, UNROUTE = ("ct", "netif", "route", "add"), ("ct", "netif", "route", "del")
VIAS = ("--via", "10.100.10.100/30", "--via", "fd00:1::/126")
VIAS_2 = ("--via", "10.100.10.104/30", "--via", "fd00:2::/126")
WIDE = ("--via", "10.0.0.0/24", "--via", "2001:db8:2:6::/64")
FOUR = tuple(f"1.2.3.{n}" for n in range(10, 14))
SIX = tuple(f"2001:db8:2::{n}" for n in range(10, 14))

#: Each kind of change of a running container's network, in an order in which each finds something to change.
EDITS: tuple[tuple[str, ...], ...] = (
    (*NEW, *VIAS, "web", "eth0"),
    (*ADD, "web", "eth0", *FOUR, *SIX),
    (*NEW, *VIAS_2, "web", "eth1"),
    (*ADD, "web", "eth1", "1.2.3.20", "2001:db8:2::20", "10.100.10.106", "--no-route"),
    (*ROUTE, "web", "eth0", "10.5.5.0/24", "203.0.113.0/28", "2001:db8:2:5::/64"),
    ("ct", "netif", "set", *WIDE, "web", "eth0"),
    (*DELETE, "web", "eth0", FOUR[0], SIX[0]),
    (*DELETE, "--keep-route", "web", "eth0", FOUR[1], SIX[1]),
    ("ct", "netif", "set", "--via", "10.100.10.96/30", "--host-addr", "10.100.10.98", "--ct-addr", "10.100.10.97",
     "web", "eth0"),
    (*UNROUTE, "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64"),
    (*DELETE, "-v", "6", "web", "eth0", "all"),
    (*DELETE, "web", "eth0", "all"),
    ("ct", "netif", "del", "web", "eth0"),
    ("ct", "netif", "del", "web", "eth1"),
)  # fmt: skip


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Topology]:
    """A host whose kernel fails where `order` says so, and no container yet."""
    with Topology(program=(*FAULTY, str(tmp_path / "order"))) as topology:
        yield topology


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """Where to write what shall fail next."""
    return tmp_path / "order"


def everything(host: Topology, *running: str) -> dict[str, Any]:
    """The kernel's state on both sides, and what is on disk."""
    return {**host.comparable_state(*running), **host.stored()}


def assert_unchanged(
    host: Topology, before: Mapping[str, Any], what: object, *, running: Sequence[str] = ("web",)
) -> None:
    changed = differences(before, everything(host, *running))
    assert not changed, "\n".join((str(what), *changed))


def assert_network(host: Topology, expected: Mapping[str, Any], what: object) -> None:
    changed = differences(expected, host.comparable_state("web"))
    assert not changed, "\n".join((str(what), *changed))


def failure(host: Topology, *argv: str) -> str:
    """Run a command that says what it is doing and then fails, in one line."""
    result = host.osctl(*argv, check=False)
    assert result.status == 1, result
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result
    return result.stderr


def test_an_edit_that_the_kernel_refuses_at_any_step_changes_nothing(faulty: Topology, order: Path) -> None:
    faulty.new_container("web")
    steps = 0
    for edit in EDITS:
        before = everything(faulty, "web")
        for number in itertools.count():
            order.write_text(f"refuse {number}")
            result = faulty.osctl(*edit, check=False)
            if order.exists():
                order.unlink()
                break
            assert (result.status, result.stdout) == (1, ""), (edit, number, result)
            assert "refused by the test" in result.stderr, (edit, number, result)
            assert result.stderr.count("\n") == 1
            assert_unchanged(faulty, before, (edit, number))
            steps += 1
        assert result.status == 0, (edit, result)
        assert faulty.stored()["container"] != before["container"]
    assert steps > 100


@pytest.mark.parametrize("number", [0, WRITTEN_MEANWHILE - 1])
def test_a_long_edit_of_which_the_kernel_refuses_one_step_changes_nothing(
    faulty: Topology, order: Path, number: int
) -> None:
    faulty.new_container("web", via=VIAS[1::2])
    before = everything(faulty, "web")
    edit = ("ct", "netif", "route", "add", "web", "eth0")
    networks = [f"10.{128 + (each >> 8)}.{each & 255}.0/24" for each in range(WRITTEN_MEANWHILE)]
    order.write_text(f"refuse {number}")

    result = faulty.osctl(*edit, *networks, check=False)

    assert (result.status, result.stdout) == (1, "")
    assert "refused by the test" in result.stderr
    assert_unchanged(faulty, before, number)
    faulty.osctl(*edit, *networks)
    assert len(faulty.ip(faulty.H, "route", "show", "proto", "111").splitlines()) == len(networks)
    assert len(faulty.stored()["holding"]) == len(before["holding"]) + len(networks)


def test_a_start_that_the_kernel_refuses_at_any_step_leaves_a_stopped_container(faulty: Topology, order: Path) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=(*FOUR[:2], *SIX[:2]), start=False)
    faulty.osctl(*NEW, *VIAS_2, "web", "eth1")
    faulty.osctl(*ADD, "web", "eth1", "1.2.3.20", "2001:db8:2::20")
    faulty.osctl("net", "reconcile")  # the host forwards from here on, whatever becomes of the start
    before = everything(faulty)
    for number in itertools.count():
        order.write_text(f"refuse {number}")
        result = faulty.osctl("ct", "start", "web", check=False)
        if order.exists():
            order.unlink()
            break
        assert (result.status, result.stdout.count("error")) == (1, 0), result
        assert "refused by the test" in result.stderr
        assert result.stderr.count("\n") == 1
        assert_unchanged(faulty, before, number, running=())

    assert number > 20
    assert result.status == 0
    assert faulty.ping(faulty.R, FOUR[0]) == 3
    assert faulty.ping(faulty.R, "2001:db8:2::20") == 3


@pytest.mark.time_limit(180)
def test_an_edit_in_the_midst_of_which_the_container_ends_is_one_of_a_stopped_container(
    faulty: Topology, order: Path
) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"), start=False)
    faulty.osctl("net", "reconcile")  # the host forwards from here on
    stopped = faulty.comparable_state()
    second, gone = (*NEW, *VIAS_2, "web", "eth1"), ("ct", "netif", "del", "web", "eth1")
    ends = 0
    for edit, back in (
        ((*ADD, "web", "eth0", *FOUR[:2], *SIX[:2]), (*DELETE, "web", "eth0", *FOUR[:2], *SIX[:2])),
        ((*ROUTE, "web", "eth0", "10.5.5.0/24"), (*UNROUTE, "web", "eth0", "10.5.5.0/24")),
        (("ct", "netif", "set", *WIDE, "web", "eth0"), ("ct", "netif", "set", *VIAS, "web", "eth0")),
        (second, gone),
        (gone, second),
    ):
        for step in itertools.count(0, 6):
            faulty.osctl("ct", "start", "web")
            before = faulty.stored()
            order.write_text(f"end {step} {faulty.init_pid('web')}")

            result = faulty.osctl(*edit, check=False)

            assert (result.status, result.stderr) == (0, ""), (edit, step, result)
            assert faulty.stored()["container"] != before["container"]
            if order.exists():
                break
            ends += 1
            faulty.osctl("ct", "wait", "web", "stopped")
            left = [each for each in differences(stopped, faulty.comparable_state()) if " counter" not in each]
            assert not left, (edit, step, left)
            faulty.osctl(*back)
        order.unlink()
        faulty.osctl("ct", "stop", "-k", "web")
    assert ends > 10
    assert "changed inside" not in faulty.log_text()
    assert "ERROR" not in faulty.log_text()


@pytest.mark.time_limit(120)
def test_after_a_daemon_died_at_any_step_of_an_edit_the_next_one_makes_the_kernel_as_configured(
    faulty: Topology, order: Path
) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"))
    edits: list[tuple[str, ...]] = [
        (*ADD, "web", "eth0", FOUR[0], SIX[0]),
        (*NEW, *VIAS_2, "web", "eth1"),
        (*ADD, "web", "eth1", "1.2.3.20", "2001:db8:2::20"),
        ("ct", "netif", "set", *WIDE, "web", "eth0"),
        (*DELETE, "web", "eth0", "1.2.3.4", "2001:db8:2::4"),
        ("ct", "netif", "del", "web", "eth0"),
    ]
    deaths = 0
    for edit in edits:
        faulty.osctl("ct", "restart", "-k", "web")
        old, step = faulty.comparable_state("web"), 0
        while True:
            order.write_text(f"die {step}")
            result = faulty.osctl(*edit, check=False)
            if order.exists():
                break
            # Nobody was told that it was done, so it is the old configuration that counts.
            assert result.status == 1, result
            assert "osctld closed" in result.stderr, result
            faulty.bury_daemon()
            faulty.start_daemon()
            assert_network(faulty, old, (edit, step))
            deaths += 1
            step += 4 if step > 2 else 1
        order.unlink()
        assert result.status == 0, result
        new = faulty.comparable_state("web")
        faulty.osctl("ct", "restart", "-k", "web")
        assert_network(faulty, new, edit)
    assert faulty.ping(faulty.R, "2001:db8:2::20") == 3
    assert deaths > 15


def test_after_a_daemon_died_at_any_step_of_a_start_the_container_can_be_started(faulty: Topology, order: Path) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"), start=False)
    faulty.osctl("net", "reconcile")  # the host forwards from here on
    stopped = everything(faulty)
    for number in itertools.count(0, 2):
        order.write_text(f"die {number}")
        result = faulty.osctl("ct", "start", "web", check=False)
        if order.exists():
            order.unlink()
            break
        assert result.status == 1
        faulty.bury_daemon()
        faulty.start_daemon()
        assert_unchanged(faulty, stopped, number, running=())

    assert result.status == 0
    assert number > 5
    assert faulty.ping(faulty.R, "1.2.3.4") == 3
    assert faulty.ping(faulty.R, "2001:db8:2::4") == 3


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("1.2.3.12", ("route", "add", "1.2.3.12/32", "dev", "up0", "proto", "static")),
        (
            "2001:db8:2::12",
            ("-6", "route", "add", "2001:db8:2::12/128", "dev", "up0", "metric", "8", "proto", "static"),
        ),
    ],
)
def test_a_foreign_route_on_the_host_in_the_way_of_one_of_many_addresses_changes_nothing(
    faulty: Topology, address: str, route: Sequence[str]
) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"))
    faulty.ip(faulty.H, *route)
    before = everything(faulty, "web")

    said = faulty.refusal(*ADD, "web", "eth0", *FOUR, *SIX)

    assert address in said
    assert_unchanged(faulty, before, said)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("1.2.3.12", ("addr", "add", "1.2.3.12/32", "brd", "1.2.3.99", "dev", "eth0")),
        ("2001:db8:2::12", ("-6", "addr", "add", "2001:db8:2::12/64", "dev", "eth0", "nodad")),
    ],
)
def test_an_address_that_the_tenant_added_in_the_way_of_one_of_many_changes_nothing(
    faulty: Topology, address: str, words: Sequence[str]
) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"))
    run("nsenter", f"--net=/proc/{faulty.init_pid('web')}/ns/net", "ip", *words)
    before = everything(faulty, "web")

    said = faulty.refusal(*ADD, "web", "eth0", *FOUR, *SIX)

    assert address in said
    assert_unchanged(faulty, before, said)
    # Without that one it goes, and the tenant's stays.
    others = [each for each in (*FOUR, *SIX) if each != address]
    faulty.osctl(*ADD, "web", "eth0", *others)
    assert all(faulty.ping(faulty.R, each, count=1) == 1 for each in others)
    assert address in run("nsenter", f"--net=/proc/{faulty.init_pid('web')}/ns/net", "ip", "addr").stdout


@pytest.mark.parametrize("version", [4, 6])
def test_a_default_route_that_the_tenant_made_in_the_way_of_a_new_interface_changes_nothing(
    faulty: Topology, version: int
) -> None:
    faulty.new_container("web")
    inside = ("nsenter", f"--net=/proc/{faulty.init_pid('web')}/ns/net", "ip", f"-{version}")
    run(*inside, "link", "add", "own0", "type", "veth", "peer", "name", "own1")
    run(*inside, "link", "set", "own0", "up")
    run(*inside, "route", "add", "default", "dev", "own0", *(("metric", "16") if version == 6 else ()))
    before = everything(faulty, "web")

    said = faulty.refusal(*NEW, *VIAS, "web", "eth0")

    assert "default" in said
    assert_unchanged(faulty, before, said)
    run(*inside, "route", "del", "default", "dev", "own0")
    faulty.osctl(*NEW, *VIAS, "web", "eth0")
    assert faulty.guest_ping("web", "10.100.10.101", count=1) == 1


def test_a_foreign_link_of_the_interfaces_name_is_in_the_way_and_stays(faulty: Topology) -> None:
    faulty.new_container("web", via=VIAS[1::2], start=False)
    veth = faulty.osctl_json("ct", "netif", "show", "web", "eth0")["host_link"]
    faulty.ip(faulty.H, "link", "add", veth, "type", "bridge")
    faulty.osctl("net", "reconcile", check=False)  # the host forwards from here on
    before = everything(faulty)

    said = failure(faulty, "ct", "start", "web")

    assert veth in said
    assert_unchanged(faulty, before, said, running=())
    faulty.ip(faulty.H, "link", "del", veth)
    faulty.osctl("ct", "start", "web")
    faulty.osctl("ct", "netif", "new", "routed", *VIAS_2, "web", "eth1")
    # Inside, a link of a name that is wanted next.
    run("nsenter", f"--net=/proc/{faulty.init_pid('web')}/ns/net", "ip", "link", "add", "eth2", "type", "bridge")
    before = everything(faulty, "web")
    said = faulty.refusal(*NEW, *WIDE, "web", "eth2")
    assert "eth2" in said
    assert_unchanged(faulty, before, said)


def test_a_disk_that_is_full_at_save_undoes_every_kind_of_edit(faulty: Topology) -> None:
    faulty.new_container("web")
    for edit in EDITS:
        before = everything(faulty, "web")
        # No file of the daemon's may become longer: what a full disk does, for this process alone.
        faulty.restart_daemon()  # with a write-ahead log that has no room yet
        run("prlimit", "--pid", str(faulty.daemon_pid), "--fsize=8192:unlimited")

        said = faulty.refusal(*edit)

        assert "could not be" in said, said  # noted, or saved
        # The note that the change was begun cannot be taken back on such a disk. It says where to look, no more.
        after = everything(faulty, "web")
        after["pending"] = before["pending"]
        changed = differences(before, after)
        assert not changed, (edit, *changed)
        run("prlimit", "--pid", str(faulty.daemon_pid), "--fsize=unlimited")
        faulty.osctl(*edit)


def test_a_disk_that_is_full_leaves_nothing_of_a_new_container_and_changes_no_stopped_one() -> None:
    with Topology(start_daemon=False) as host:
        host.state_dir.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=6m", "none", str(host.state_dir))
        host.start_daemon()
        host.new_container("web", via=VIAS[1::2], start=False)
        full = host.state_dir / "full"
        descriptor = os.open(full, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, bytes(4096))
        os.close(descriptor)
        files = sorted(map(str, host.state_dir.rglob("*")))
        before = host.stored()

        assert "space" in failure(host, "ct", "new", "--distribution", "busybox", "shop")
        many = [f"1.2.3.{n}" for n in range(250)]
        said = host.refusal(*ADD, "web", "eth0", *many)

        assert "full" in said
        assert host.stored() == before
        assert sorted(map(str, host.state_dir.rglob("*"))) == files
        full.unlink()
        host.osctl("ct", "new", "--distribution", "busybox", "shop")
        host.osctl(*ADD, "web", "eth0", *many)
        host.restart_daemon()
        assert len(host.osctl_json("ct", "netif", "ip", "ls", "web", "eth0")) == len(many)


def test_the_daemon_killed_at_any_moment_of_a_command_leaves_kernel_and_configuration_in_agreement(
    faulty: Topology,
) -> None:
    faulty.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"))
    commands: tuple[tuple[str, ...], ...] = (
        ("ct", "stop", "web"),
        ("ct", "start", "web"),
        (*ADD, "web", "eth0", *FOUR, *SIX),
        (*NEW, *VIAS_2, "web", "eth1"),
    )
    for command, milliseconds in itertools.product(commands, (16, 24, 34, 50)):
        _in_state_for(faulty, command)
        with subprocess.Popen(
            [str(BIN / "osctl"), "--socket", str(faulty.socket), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(milliseconds / 1000)
            faulty.kill_daemon()
            status = client.wait(timeout=10)

        faulty.start_daemon()

        about = f"{command} killed after {milliseconds} ms, status {status}"
        state = faulty.osctl_json("ct", "show", "web")["state"]
        if status == 0 and command[1] in ("start", "stop"):
            assert state == ("running" if command[1] == "start" else "stopped"), about
        addresses = {each["addr"] for each in faulty.osctl_json("ct", "netif", "ip", "ls", "web", "eth0")}
        if status == 0 and command[:4] == ADD:
            assert {f"{each}/32" for each in FOUR} <= addresses, about
        if state != "running":
            faulty.osctl("ct", "start", "web")
        found = faulty.comparable_state("web")
        faulty.osctl("ct", "restart", "-k", "web")
        assert_network(faulty, found, about)
        assert faulty.ping(faulty.R, "1.2.3.4", count=1) == 1, about
        assert faulty.ping(faulty.R, "2001:db8:2::4", count=1) == 1, about


def _in_state_for(host: Topology, command: Sequence[str]) -> None:
    """Bring the container to where this command has something to do."""
    wanted = "stopped" if command[:2] == ("ct", "start") else "running"
    if host.osctl_json("ct", "show", "web")["state"] != wanted:
        host.osctl("ct", "start" if wanted == "running" else "stop", "web")
    assigned = {each["addr"].partition("/")[0] for each in host.osctl_json("ct", "netif", "ip", "ls", "web", "eth0")}
    extra = [each for each in (*FOUR, *SIX) if each in assigned]
    if extra:
        host.osctl(*DELETE, "web", "eth0", *extra)
    if any(each["name"] == "eth1" for each in host.osctl_json("ct", "netif", "ls", "web")):
        host.osctl("ct", "netif", "del", "web", "eth1")
