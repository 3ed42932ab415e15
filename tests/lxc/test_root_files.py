"""Configuration files below root directories whose tenants are hostile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from osctld.core.errors import ApplyFailed
from osctld.core.root_files import FileChange, FoundFile
from osctld.shell.rootfs.root_files import LARGEST_FILE, RootFiles

INTERFACES = "/etc/network/interfaces"


@pytest.fixture
def root(base: Path) -> Iterator[Path]:
    """A root directory, and beside it what no guest may reach."""
    (base / "outside").mkdir()
    (base / "outside/interfaces").write_text("of the host\n")
    made = base / "root"
    (made / "etc/network").mkdir(parents=True)
    yield made
    assert [(each.name, each.read_text()) for each in (base / "outside").iterdir()] == [("interfaces", "of the host\n")]


def read(root: Path, *patterns: str) -> dict[str, FoundFile]:
    with RootFiles("web", str(root)) as files:
        return files.read(patterns)


def apply(root: Path, before: str | None, after: str | None, *, path: str = INTERFACES, mode: int = 0o644) -> None:
    with RootFiles("web", str(root)) as files:
        files.apply(FileChange(path, before, after, mode))


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_a_file_is_replaced_as_a_whole_and_keeps_owner_and_mode(root: Path) -> None:
    file = root / "etc/network/interfaces"
    file.write_text("old\n")
    file.chmod(0o640)
    os.chown(file, 33, 44)
    was = file.stat().st_ino

    apply(root, "old\n", "new\n", mode=0o640)

    about = file.stat()
    assert (file.read_text(), stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == ("new\n", 0o640, 33, 44)
    assert about.st_ino != was
    assert names(root / "etc/network") == ["interfaces"]


def test_a_new_file_is_the_guest_roots_with_the_directories_that_it_needs(root: Path) -> None:
    before = os.umask(0o077)
    try:
        apply(root, None, "x\n", path="/etc/systemd/network/00-osctl-eth0.network")
    finally:
        os.umask(before)

    file = root / "etc/systemd/network/00-osctl-eth0.network"
    assert file.read_text() == "x\n"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (file, file.parent, file.parent.parent)] == [
        0o644, 0o755, 0o755,
    ]  # fmt: skip
    assert (file.stat().st_uid, file.stat().st_gid) == (0, 0)


def test_a_file_is_removed(root: Path) -> None:
    (root / "etc/network/interfaces").write_text("x\n")

    apply(root, "x\n", None)

    assert names(root / "etc/network") == []


@pytest.mark.parametrize("bytes_there", [b"mine\n", b"x"])
def test_what_the_tenant_changed_meanwhile_stays(root: Path, bytes_there: bytes) -> None:
    file = root / "etc/network/interfaces"
    file.write_bytes(bytes_there)

    for before in (None, "x\n"):
        for after in (None, "new\n"):
            with pytest.raises(ApplyFailed, match=r"'web': '/etc/network/interfaces' was changed inside meanwhile"):
                apply(root, before, after)

    assert file.read_bytes() == bytes_there


def test_what_a_crash_left_is_replaced(root: Path) -> None:
    (root / "etc/network/.interfaces.osctl").write_text("half")

    apply(root, None, "x\n")

    assert names(root / "etc/network") == ["interfaces"]
    assert read(root, "/etc/network/*") == {INTERFACES: FoundFile("x\n")}


def test_bytes_that_are_no_text_come_back_as_they_were(root: Path) -> None:
    file = root / "etc/network/interfaces"
    file.write_bytes(b"# caf\xe9 \xff\r\n")
    text = read(root, INTERFACES)[INTERFACES].text
    assert text is not None

    apply(root, text, text + "more\n")

    assert file.read_bytes() == b"# caf\xe9 \xff\r\nmore\n"


@pytest.mark.parametrize("link", ["/", "../outside", "etc", "/etc", "loop"])
@pytest.mark.parametrize("replaced", ["etc", "etc/network"])
def test_a_directory_that_is_a_link_is_not_followed(root: Path, link: str, replaced: str) -> None:
    (root / "etc/network").rmdir()
    if replaced == "etc":
        (root / "etc").rmdir()
    (root / replaced).symlink_to(link)
    (root / "loop").symlink_to("loop")

    assert read(root, INTERFACES, "/etc/network/*") == {}
    for after in (None, "x\n"):
        with pytest.raises(ApplyFailed, match=r"'web': '/etc/network/interfaces' cannot be written: "):
            apply(root, None, after)

    assert {each.name for each in root.iterdir()} <= {"etc", "loop"}


def test_a_file_that_is_a_link_is_neither_read_nor_replaced(root: Path) -> None:
    file = root / "etc/network/interfaces"
    for target in (root.parent / "outside/interfaces", Path("../../../outside/interfaces"), file, Path("/etc/passwd")):
        file.symlink_to(target)

        assert read(root, INTERFACES)[INTERFACES] == FoundFile(None, why_left="is a symbolic link")
        with pytest.raises(ApplyFailed):
            apply(root, None, "x\n")
        assert file.is_symlink()
        file.unlink()


def test_what_could_block_or_do_something_is_not_opened(root: Path) -> None:
    for number, kind in enumerate((stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)):
        device = os.makedev(1, 3) if kind == stat.S_IFCHR else os.makedev(7, 99)
        os.mknod(root / f"etc/network/{number}", kind | 0o644, device)
    (root / "etc/network/directory").mkdir()

    found = read(root, "/etc/network/*")

    assert len(found) == 5
    assert set(found.values()) == {FoundFile(None, why_left="is not a regular file")}
    for path in found:
        with pytest.raises(ApplyFailed):
            apply(root, None, "x\n", path=path)


def test_a_temporary_file_that_the_tenant_put_there_leads_nowhere(root: Path) -> None:
    (root / "etc/network/.interfaces.osctl").symlink_to("../../../outside/interfaces")

    apply(root, None, "x\n")

    assert names(root / "etc/network") == ["interfaces"]
    (root / "etc/network/.interfaces.osctl").mkdir()
    with pytest.raises(ApplyFailed, match="cannot be written: Is a directory"):
        apply(root, "x\n", "y\n")


def test_large_files_and_large_directories_are_read_within_limits(root: Path) -> None:
    (root / "etc/network/interfaces").touch()
    os.truncate(root / "etc/network/interfaces", LARGEST_FILE + 1)
    for number in range(5):
        (root / f"etc/network/{number}").touch()
        os.truncate(root / f"etc/network/{number}", LARGEST_FILE)

    found = read(root, "/etc/network/*")

    assert found[INTERFACES] == FoundFile(None, 0o644, "is larger than 4 MiB")
    assert [path for path, each in found.items() if "all together" in each.why_left] == ["/etc/network/4"]
    for number in range(300):
        (root / f"etc/{number}").touch()
    assert len(read(root, "/etc/*")) == 200


def test_programs_are_found_by_what_their_paths_lead_to_inside(root: Path) -> None:
    (root / "bin").mkdir()
    (root / "bin/busybox").touch()
    (root / "sbin").symlink_to("/bin")
    (root / "bin/ifup").symlink_to("/bin/busybox")
    (root / "bin/ip").symlink_to("../../outside/interfaces")
    (root / "bin/loop").symlink_to("loop")

    with RootFiles("web", str(root)) as files:
        found = files.programs(["/sbin/ifup", "/bin/busybox", "/sbin/ip", "/bin/loop", "/bin/nothing", "/etc/network"])

    assert found == {"/sbin/ifup": "busybox", "/bin/busybox": "busybox", "/etc/network": "network"}


def test_os_release_is_read_through_links_that_stay_inside(root: Path) -> None:
    def os_release() -> str:
        with RootFiles("web", str(root)) as files:
            return files.os_release()

    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/os-release").write_text("ID=debian\n")
    assert os_release() == "ID=debian\n"

    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    assert os_release() == "ID=debian\n"

    (root / "etc/os-release").unlink()
    (root / "etc/os-release").symlink_to(root.parent / "outside/interfaces")
    assert os_release() == "ID=debian\n"

    (root / "etc/os-release").unlink()
    os.mkfifo(root / "etc/os-release")
    assert os_release() == "ID=debian\n"

    os.truncate(root / "usr/lib/os-release", 1 << 20)
    assert os_release() == ""


def test_without_a_root_directory_nothing_is_found(base: Path) -> None:
    (base / "link").symlink_to("/")
    for name in ("nothing", "link"):
        with pytest.raises(ApplyFailed, match=r"root directory '.*' cannot be opened"):
            RootFiles("web", str(base / name))
