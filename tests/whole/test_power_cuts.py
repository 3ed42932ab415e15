"""What was answered is on disk: a power cut takes nothing of it, and leaves nothing half."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.disk_in_a_file import Disk
from whole.host import Topology, run

pytestmark = pytest.mark.requires_kernel("loop device")

BUSYBOX = ("ct", "new", "--distribution", "busybox")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "disk")


@pytest.fixture
def on_disk(disk: Disk) -> Iterator[Topology]:
    """A host whose state directory is on a disk of its own."""
    with Topology(start_daemon=False) as topology:
        disk.mount(topology.state_dir)
        topology.start_daemon()
        yield topology


def root_of(host: Topology, container: str) -> Path:
    return host.state_dir / "ct" / container / "rootfs"


def contents(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Of all that is below: mode, owner, group, and what is in it."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            about = path.lstat()
            inside = ""
            if stat.S_ISLNK(about.st_mode):
                inside = str(path.readlink())
            elif stat.S_ISREG(about.st_mode):
                inside = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (about.st_mode, about.st_uid, about.st_gid, inside)
    return found


def archive_of(root: Path, archive: Path) -> str:
    run("tar", "--create", "--numeric-owner", f"--file={archive}", f"--directory={root}", ".")
    return str(archive)


def leftovers(host: Topology) -> list[str]:
    places = (host.state_dir / "building", host.state_dir / "trash")
    return sorted(f"{place.name}/{each.name}" for place in places for each in place.iterdir())


@pytest.mark.time_limit(180)
def test_a_new_container_that_was_answered_is_whole_after_a_power_cut_and_starts(
    on_disk: Topology, disk: Disk, tmp_path: Path
) -> None:
    whole: dict[str, object] = {}
    for number in range(3):
        name, copied = f"web{number}", f"copy{number}"
        on_disk.osctl(*BUSYBOX, name)
        whole[name] = contents(root_of(on_disk, name))
        disk.cut_power(on_disk)
        archive = archive_of(root_of(on_disk, name), tmp_path / "root.tar")
        on_disk.osctl("ct", "new", "--from-archive", archive, copied)
        whole[copied] = contents(root_of(on_disk, copied))

        disk.cut_power(on_disk)

        assert {each["id"] for each in on_disk.osctl_json("ct", "ls")} == set(whole)
        assert {each: contents(root_of(on_disk, each)) for each in whole} == whole
        on_disk.osctl("ct", "start", name)
        on_disk.osctl("ct", "start", copied)
        on_disk.osctl("ct", "stop", "-k", name)
        on_disk.osctl("ct", "stop", "-k", copied)
        # What the first start writes inside is not what was made.
        whole.update({each: contents(root_of(on_disk, each)) for each in (name, copied)})
        run("sync", "--file-system", str(on_disk.state_dir))
        assert leftovers(on_disk) == []


@pytest.mark.time_limit(120)
def test_a_container_that_was_deleted_is_gone_after_a_power_cut_and_its_name_is_free(
    on_disk: Topology, disk: Disk
) -> None:
    for _ in range(3):
        on_disk.osctl(*BUSYBOX, "web")
        on_disk.osctl("ct", "del", "web")

        disk.cut_power(on_disk)

        assert on_disk.osctl_json("ct", "ls") == []
        assert not (on_disk.state_dir / "ct" / "web").exists()
        assert leftovers(on_disk) == []


def test_what_a_first_start_writes_into_a_guest_is_never_empty_after_a_power_cut(on_disk: Topology, disk: Disk) -> None:
    on_disk.osctl(*BUSYBOX, "web")
    hosts = (root_of(on_disk, "web") / "etc/hosts").read_text()
    on_disk.osctl("ct", "start", "web")

    disk.cut_power(on_disk)

    assert (root_of(on_disk, "web") / "etc/hosts").read_text() in (hosts, f"{hosts}127.0.1.1\tweb\n")
    assert (root_of(on_disk, "web") / "etc/hostname").read_text() in ("", "web\n")
