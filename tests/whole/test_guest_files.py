"""The files of the network tool inside: written before a start and after changes, and never outside of the root."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from whole.host import Topology, stays, wait_until
from whole.monitor import Monitor, everything

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
INTERFACES = "etc/network/interfaces"
#: Of the tenant; the stanza of eth0 conflicts.
MINE = "# mine\nauto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"


def root_of(host: Topology, name: str = "web") -> Path:
    return host.state_dir / "ct" / name / "rootfs"


def make(host: Topology, name: str = "web", *, text: str | None = MINE) -> Path:
    """A stopped container of busybox, whose ifup has a directory of files, with an interface."""
    host.new_container(name, via=VIAS, addresses=["1.2.3.4", "2001:db8:2::4"], start=False)
    root = root_of(host, name)
    for each in ("if-pre-up.d", "if-up.d", "if-down.d", "if-post-down.d"):
        (root / "etc/network" / each).mkdir(parents=True)
    if text is not None:
        (root / INTERFACES).write_text(text)
    return root


def wait_agrees(host: Topology, root: Path, *texts: str, name: str = "web") -> None:
    """Wait until the file holds these texts; then it is all that is wanted."""
    wait_until(lambda: all(each in (root / INTERFACES).read_text() for each in texts), f"{texts} in the file")
    assert host.osctl("ct", "guest-files", "diff", name).stdout == ""


def events(listener: Monitor) -> list[tuple[str, list[str]]]:
    found = (json.loads(line) for line in listener.lines)
    return [
        (each["opts"]["action"], each["opts"].get("why") or each["opts"]["files"])
        for each in found
        if each["type"] == "guest_files"
    ]


def test_a_restart_of_the_tool_inside_keeps_addresses_and_routes(host: Topology) -> None:
    root = make(host)

    host.osctl("ct", "start", "web")
    before = host.guest_state("web")
    host.guest("web", "ifdown", "-a")
    host.guest("web", "ifup", "-a", check=False)  # lo has its address already, which is an error for busybox
    host.guest("web", "ifdown", "-f", "eth0")
    host.guest("web", "ifup", "eth0")

    assert host.guest_state("web") == before
    assert host.ping(host.R, "1.2.3.4") == host.ping(host.R, "2001:db8:2::4") == 3
    assert (root / INTERFACES).read_text().startswith(
        "# mine\nauto lo\niface lo inet loopback\n\n#osctl: auto eth0\n#osctl: iface eth0 inet dhcp\n# BEGIN osctl\n"
    )


def test_the_tool_inside_brings_back_what_was_lost(host: Topology) -> None:
    make(host)
    host.osctl("ct", "netif", "set", "--guest", "once", "web", "eth0")
    host.osctl("ct", "start", "web")
    before = host.guest_state("web")

    host.guest("web", "sh", "-c", "ip link set dev eth0 down; ip addr flush dev eth0")
    assert host.guest_state("web") != before
    host.guest("web", "sh", "-c", "ifdown -f eth0; ifup eth0")

    assert host.ping(host.R, "1.2.3.4") == host.ping(host.R, "2001:db8:2::4") == 3


def test_changes_of_a_running_container_are_followed(host: Topology) -> None:
    root = make(host)
    host.osctl("ct", "start", "web")
    file = root / INTERFACES

    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    wait_agrees(host, root, "1.2.3.5/32")
    host.osctl("ct", "netif", "ip", "reorder", "--first", "web", "eth0", "1.2.3.5")
    wait_agrees(host, root, "src 1.2.3.5")
    host.osctl("ct", "netif", "rename", "web", "eth0", "wan0")
    wait_agrees(host, root, "iface wan0 inet manual", "\nauto eth0\niface eth0 inet dhcp\n")
    host.osctl("ct", "netif", "ip", "del", "web", "wan0", "1.2.3.5")
    wait_until(lambda: "1.2.3.5" not in file.read_text(), "the address has gone")
    before = host.guest_state("web")
    host.guest("web", "ifup", "-f", "wan0")
    assert host.guest_state("web") == before
    host.osctl("ct", "netif", "del", "web", "wan0")
    wait_until(lambda: file.read_text() == MINE, "the tenant's file is as it was")
    host.osctl("ct", "netif", "new", "routed", "--via", VIAS[0], "web", "eth0")
    wait_agrees(host, root, "10.100.10.102/30")


def test_a_file_that_was_not_there_goes_with_the_last_interface(host: Topology) -> None:
    root = make(host, text=None)
    host.osctl("ct", "start", "web")
    assert (root / INTERFACES).exists()
    about = (root / INTERFACES).stat()
    assert (about.st_uid, about.st_gid, about.st_mode & 0o7777) == (0, 0, 0o644)
    assert host.guest("web", "stat", "-c", "%u %g", f"/{INTERFACES}").stdout == "0 0\n"

    host.osctl("ct", "netif", "del", "web", "eth0")

    wait_until(lambda: not (root / INTERFACES).exists(), "the file has gone")


def test_nothing_is_written_where_no_tool_is(host: Topology) -> None:
    host.new_container("web", via=VIAS, start=False)
    etc = root_of(host) / "etc"
    before = sorted(map(str, etc.rglob("*")))

    host.osctl("ct", "start", "web")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")

    stays(lambda: sorted(map(str, etc.rglob("*"))) == before, 1)
    assert host.osctl("ct", "guest-files", "diff", "web").stdout == ""


def test_a_dry_run_prints_what_would_be_written_and_writes_nothing(host: Topology) -> None:
    root = make(host)
    lines = host.osctl("ct", "start", "web", "--dry-run").stdout.splitlines()
    assert "# web: +++ /etc/network/interfaces" in lines
    assert "# web: +#osctl: auto eth0" in lines
    assert (root / INTERFACES).read_text() == MINE
    host.osctl("ct", "start", "web")
    before = (root / INTERFACES).read_text()

    lines = host.osctl("ct", "netif", "ip", "add", "--dry-run", "web", "eth0", "1.2.3.5").stdout.splitlines()

    assert "# web: +  up ip addr replace 1.2.3.5/32 dev eth0" in lines
    assert not any("1.2.3.4" in line for line in lines if line.startswith(("# web: +", "# web: -")))
    assert (root / INTERFACES).read_text() == before


def test_what_is_only_reported_is_not_written(host: Topology) -> None:
    root = make(host)
    with everything(host) as listener:
        host.osctl("ct", "set", "guest-files", "web", "report")
        host.osctl("ct", "start", "web")

        assert (root / INTERFACES).read_text() == MINE
        assert events(listener) == [("differ", [f"/{INTERFACES}"])]
    assert "+  up ip addr replace 1.2.3.4/32 dev eth0" in host.osctl("ct", "guest-files", "diff", "web").stdout
    assert host.osctl("ct", "show", "-H", "-o", "guest_files", "web").stdout.split() == ["report"]

    assert host.osctl("ct", "guest-files", "apply", "web").stdout == f"written: /{INTERFACES}\n"
    wait_agrees(host, root, "1.2.3.4/32")
    lines = host.osctl("ct", "guest-files", "restore", "--dry-run", "web").stdout
    assert "# web: +iface eth0 inet dhcp" in lines.splitlines()
    assert host.osctl("ct", "guest-files", "restore", "web").stdout == f"written: /{INTERFACES}\n"
    assert (root / INTERFACES).read_text() == MINE


@pytest.mark.parametrize("is_running", [False, True])
def test_off_gives_the_tenant_everything_back(host: Topology, is_running: bool) -> None:
    root = make(host)
    host.osctl("ct", "start", "web")
    if not is_running:
        host.osctl("ct", "stop", "-k", "web")
    assert (root / INTERFACES).read_text() != MINE

    host.osctl("ct", "set", "guest-files", "web", "off")

    wait_until(lambda: (root / INTERFACES).read_text() == MINE, "the file is the tenant's again")
    if is_running:
        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
        stays(lambda: (root / INTERFACES).read_text() == MINE, 1)
    assert host.refusal("ct", "guest-files", "apply", "web") == (
        "'web': guest-files is off; first: osctl ct set guest-files web report"
    )


def test_refusals_name_what_is_wrong(host: Topology) -> None:
    make(host)

    assert host.refusal("ct", "set", "guest-files", "web", "always") == (
        "'always': not a policy for guest files; there are: write, report, off"
    )
    assert host.refusal("ct", "guest-files", "restore", "web") == (
        "'web': its files would be written again; first: osctl ct set guest-files web report"
    )
    for verb in ("diff", "apply", "restore"):
        assert host.refusal("ct", "guest-files", verb, "nobody") == "container not found: 'nobody'"


def test_a_file_that_its_owner_may_not_write_is_the_operators(host: Topology) -> None:
    root = make(host)
    (root / INTERFACES).chmod(0o444)
    with everything(host) as listener:
        host.osctl("ct", "start", "web")

        assert (root / INTERFACES).read_text() == MINE
        why = f"'/{INTERFACES}': its owner may not write it (chmod u-w)"
        assert events(listener) == [("left", [why])]
        assert host.osctl("ct", "guest-files", "diff", "web").stdout == f"# left as it is: {why}\n"

        (root / INTERFACES).chmod(0o644)
        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
        wait_agrees(host, root, "1.2.3.5/32")


def to_root(root: Path) -> None:
    (root / "etc").rename(root / "configuration")
    (root / "etc").symlink_to("/")
    (root / "network").mkdir()


def to_outside(root: Path) -> None:
    shutil.rmtree(root / "etc/network")
    (root / "etc/network").symlink_to("../../../../../../../../../../../.." + str(root.parent / "outside"))


def to_itself(root: Path) -> None:
    shutil.rmtree(root / "etc/network")
    (root / "etc/network").symlink_to("network")


def fifo(root: Path) -> None:
    os.mkfifo(root / INTERFACES)


def link(root: Path) -> None:
    (root / INTERFACES).symlink_to(root.parent / "outside/interfaces")


def sourced_in_a_circle(root: Path) -> None:
    (root / INTERFACES).write_text("source interfaces\nsource /etc/network/*\nsource-directory /dev\n")
    os.mkfifo(root / "etc/network/fifo")
    (root / "etc/network/loop").symlink_to("loop")


def huge(root: Path) -> None:
    (root / INTERFACES).touch()
    os.truncate(root / INTERFACES, 1 << 40)


def temporary(root: Path) -> None:
    (root / "etc/network/.interfaces.osctl").mkdir()


@pytest.mark.parametrize(
    "hostility", [to_root, to_outside, to_itself, fifo, link, sourced_in_a_circle, huge, temporary]
)
def test_a_hostile_root_hinders_no_start_and_reaches_nothing_outside(
    host: Topology, hostility: Callable[[Path], None]
) -> None:
    root = make(host, text=None)
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "interfaces").write_text("of the host\n")
    hostility(root)

    host.osctl("ct", "start", "web")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    host.osctl("ct", "guest-files", "diff", "web")
    host.osctl("ct", "guest-files", "apply", "web", check=False)

    assert host.ping(host.R, "1.2.3.5") == 3
    assert [(each.name, each.read_text()) for each in outside.iterdir()] == [("interfaces", "of the host\n")]
    (outside / "interfaces").unlink()
    outside.rmdir()


def test_a_failure_is_an_event_and_fails_no_command(host: Topology) -> None:
    root = make(host)
    temporary(root)
    with everything(host) as listener:
        host.osctl("ct", "start", "web")
        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

        why = "'web': '/etc/network/interfaces' cannot be written: Is a directory"
        assert events(listener) == [("failed", [why])]
        assert host.refusal("ct", "guest-files", "apply", "web") == why
        said = json.loads(host.osctl("-j", "status", check=False).stdout)
        (trouble,) = [each for each in said if each["state"] == "files not written"]
        assert (trouble["ctid"], trouble["commands"]) == ("web", ["osctl ct guest-files apply web"])
        (root / "etc/network/.interfaces.osctl").rmdir()
        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.6")
        wait_agrees(host, root, "1.2.3.6/32")
        wait_until(lambda: ("written", [f"/{INTERFACES}"]) in events(listener), "it is told")
        assert "files not written" not in host.osctl("status", check=False).stdout


def test_what_a_daemon_died_before_the_next_one_writes(host: Topology) -> None:
    root = make(host)
    host.osctl("ct", "start", "web")
    before = (root / INTERFACES).read_text()
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    host.kill_daemon()
    (root / INTERFACES).write_text(before)
    (root / "etc/network/.interfaces.osctl").write_text("half of")

    host.start_daemon()

    wait_agrees(host, root, "1.2.3.5/32")
    assert [each.name for each in (root / "etc/network").iterdir() if each.is_file()] == ["interfaces"]


@pytest.fixture
def networkd(host: Topology) -> Path:
    """The root of a container in which there seems to be systemd-networkd, which notes what it is asked."""
    host.new_container("web", via=VIAS, addresses=["1.2.3.4"], start=False)
    root = root_of(host)
    (root / "usr/lib/systemd").mkdir(parents=True)
    (root / "usr/lib/systemd/systemd-networkd").touch()
    (root / "bin/systemctl").write_text('#!/bin/sh\necho "$*" >>/asked\n')
    (root / "bin/systemctl").chmod(0o755)
    return root


def test_a_running_tool_reads_its_files_again_after_a_change(host: Topology, networkd: Path) -> None:
    directory, asked = networkd / "etc/systemd/network", networkd / "asked"
    host.osctl("ct", "start", "web")
    assert [each.name for each in directory.iterdir()] == ["00-osctl-eth0.network"]
    assert not asked.exists()

    host.osctl("ct", "netif", "rename", "web", "eth0", "wan0")

    wait_until(
        lambda: asked.exists() and asked.read_text().endswith("\nreload systemd-networkd.service\n"), "it is asked"
    )
    assert [each.name for each in directory.iterdir()] == ["00-osctl-wan0.network"]


def test_a_container_is_deleted_while_its_files_are_seen_to(host: Topology) -> None:
    make(host)
    host.osctl("ct", "start", "web")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    host.osctl("ct", "del", "-f", "web")

    assert not (host.state_dir / "ct/web").exists()
    assert not list((host.state_dir / "trash").iterdir())
