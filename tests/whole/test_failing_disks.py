"""A disk that is read-only, gives errors, or has damaged what was on it: a line in words, and containers run on."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.bare_daemon import BARE
from whole.disk_in_a_file import Disk, fill
from whole.host import BIN, Result, Topology, differences, run

pytestmark = pytest.mark.requires_kernel("loop device")

VIAS = ("10.100.10.100/30", "fd00:1::/126")
ADD = ("ct", "netif", "ip", "add")
BUSYBOX = ("ct", "new", "--distribution", "busybox")


@pytest.fixture
def shelf() -> Iterator[Path]:
    """Where the file of the disk is: small, so that it can be filled."""
    with Topology(start_daemon=False) as host:
        place = host.directory / "shelf"
        place.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place))
        yield place


@pytest.fixture
def disk(shelf: Path) -> Disk:
    return Disk(shelf / "disk")


@pytest.fixture
def web(disk: Disk) -> Iterator[Topology]:
    """A host whose state directory is on a disk of its own, and on which `web` runs."""
    with Topology(start_daemon=False, program=BARE) as topology:
        disk.mount(topology.state_dir)
        topology.start_daemon()
        topology.new_container("web", via=VIAS, addresses=("1.2.3.4", "2001:db8:2::4"))
        yield topology


def osctld(host: Topology, *words: str) -> Result:
    return run(str(BIN / "osctld"), *host.daemon_arguments, *words, check=False)


def failure(host: Topology, *argv: str) -> str:
    """What a command says that fails, in one line."""
    result = host.osctl(*argv, check=False)
    assert (result.status, result.stderr.count("\n")) == (1, 1), result
    assert result.stderr.startswith("error: "), result
    return result.stderr


def test_on_a_disk_that_became_read_only_changes_are_refused_and_containers_run_on(web: Topology, disk: Disk) -> None:
    before, stored = web.comparable_state("web"), web.stored()
    run("mount", "-o", "remount,abort", str(web.state_dir))  # what ext4 does to itself on an error

    for argv in ((*ADD, "web", "eth0", "1.2.3.5"), ("ct", "netif", "del", "web", "eth0"), (*BUSYBOX, "shop")):
        assert "could not be" in (said := failure(web, *argv)) or "Read-only file system" in said, said
        assert not differences(before, web.comparable_state("web")), argv
        assert web.ping(web.R, "1.2.3.4", count=1) == 1

    found = osctld(web, "--check")
    assert found.status == 1
    assert f"error: {web.state_dir}: cannot be written: Read-only file system; look for" in found.stdout
    web.kill_daemon()
    run("umount", "-l", str(web.state_dir))
    disk.mount(web.state_dir)
    web.start_daemon()
    assert web.stored()["holding"] == stored["holding"]
    assert not differences(before, web.comparable_state("web"))
    web.osctl(*ADD, "web", "eth0", "1.2.3.5")
    assert web.ping(web.R, "1.2.3.5", count=1) == 1


def test_a_daemon_that_starts_on_a_read_only_disk_says_so_and_containers_run_on(web: Topology) -> None:
    web.stop_daemon()
    run("mount", "-o", "remount,ro", str(web.state_dir))

    said = osctld(web)

    assert (said.status, said.stdout, said.stderr.count("\n")) == (1, "", 1), said
    assert "read-only" in said.stderr.lower() or "readonly" in said.stderr
    assert web.ping(web.R, "1.2.3.4", count=1) == 1
    run("mount", "-o", "remount,rw", str(web.state_dir))
    web.start_daemon()
    web.osctl(*ADD, "web", "eth0", "1.2.3.5")


def test_on_a_disk_that_takes_no_sector_more_changes_are_refused_until_it_does(
    web: Topology, shelf: Path, disk: Disk
) -> None:
    before, stored = web.comparable_state("web"), web.stored()
    # The disk believes to have room; what it writes anew fails with an I/O error, as of a device that has gone bad.
    filler = fill(shelf)

    said = failure(web, *BUSYBOX, "shop")

    assert "'shop': Input/output error" in said, said
    assert not differences(before, web.comparable_state("web"))
    assert web.stored() == stored
    assert web.ping(web.R, "1.2.3.4", count=1) == 1
    filler.unlink()
    web.kill_daemon()
    run("umount", "-l", str(web.state_dir))
    disk.mount(web.state_dir)
    web.start_daemon()
    assert [each.name for each in (web.state_dir / "ct").iterdir()] == ["web"]
    web.osctl(*BUSYBOX, "shop")


def test_a_store_that_is_damaged_under_a_running_daemon_refuses_changes_and_says_who_knows_more(
    web: Topology,
) -> None:
    web.restart_daemon()  # with an empty log: what is read comes from the file
    before = web.comparable_state("web")
    file = web.state_dir / "osctl.sqlite"
    descriptor = os.open(file, os.O_WRONLY)
    os.pwrite(descriptor, b"\xff" * (file.stat().st_size - 4096), 4096)
    os.close(descriptor)
    for each in file.parent.glob("osctl.sqlite-wal"):
        os.truncate(each, 0)

    said = failure(web, *ADD, "web", "eth0", "1.2.3.5")

    assert "malformed; osctld --check shows more" in said, said
    assert not differences(before, web.comparable_state("web"))
    assert web.ping(web.R, "1.2.3.4") == 3
    found = osctld(web, "--check")
    assert found.status == 1
    assert "--recover rebuilds it" in found.stdout
    web.stop_daemon()
    assert osctld(web, "--recover").status == 0
    web.start_daemon()
    web.osctl(*ADD, "web", "eth0", "1.2.3.5")
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
