"""Root directories: built, extracted, removed."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from lxc.lxc_host import libc
from osctld.core.errors import ApplyFailed, Refused, Unavailable
from osctld.shell.process import subprocesses
from osctld.shell.rootfs.archive import extract_archive
from osctld.shell.rootfs.busybox import build_busybox
from osctld.shell.rootfs.directory import remove_directory


def output_of(*command: str | Path, content: bytes = b"") -> bytes:
    return subprocess.run(command, input=content, stdout=subprocess.PIPE, check=True).stdout


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, mode, 33, 44
    info.uname = info.gname = "nobody"
    return info


async def extract(content: bytes, directory: Path) -> None:
    with open(directory.with_name("archive"), "w+b") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        await extract_archive(file.fileno(), directory)


# ---- busybox


async def test_a_busybox_root_has_what_a_guest_needs(base: Path) -> None:
    root = base / "root"

    await build_busybox(root)

    for applet in ("sbin/init", "bin/sh", "bin/ping", "sbin/ip", "usr/bin/nc", "usr/bin/traceroute", "sbin/reboot"):
        assert (root / applet).is_symlink() or (root / applet).stat().st_mode & 0o111, applet
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o755
    assert {path.stat(follow_symlinks=False).st_uid for path in root.rglob("*")} == {0}
    assert output_of("chroot", root, "/bin/sh", "-c", "echo hello | tr a-z A-Z") == b"HELLO\n"


async def test_a_busybox_root_does_not_depend_on_the_umask(base: Path) -> None:
    before = os.umask(0o077)
    try:
        await build_busybox(base / "root")
    finally:
        os.umask(before)

    for name in ("", "etc", "sbin", "usr/bin", "bin/busybox", "etc/init.d/rcS"):
        assert stat.S_IMODE((base / "root" / name).stat().st_mode) == 0o755


async def test_a_missing_busybox_is_told_with_the_package_to_install(base: Path) -> None:
    with pytest.raises(Unavailable, match=r"'/no/busybox': cannot be read: .*busybox-static"):
        await build_busybox(base / "root", busybox="/no/busybox")

    assert not (base / "root").exists()


async def test_a_busybox_that_needs_libraries_is_refused(base: Path) -> None:
    with pytest.raises(Unavailable, match=r"requires shared libraries .*busybox-static"):
        await build_busybox(base / "root", busybox="/bin/ls")
    with pytest.raises(Unavailable, match="not a program"):
        await build_busybox(base / "root", busybox="/etc/passwd")

    assert not (base / "root").exists()


async def test_a_directory_in_use_is_not_built_over(base: Path) -> None:
    (base / "mine").write_text("precious")

    with pytest.raises(Refused, match="not empty"):
        await build_busybox(base)

    assert (base / "mine").read_text() == "precious"


# ---- archives


COMPRESSIONS = {
    "none": None, "gzip": "gzip", "zstd": "zstd", "xz": "xz", "bzip2": "bzip2",
}  # fmt: skip


@pytest.mark.parametrize("by", ["file", "pipe"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_archives_are_extracted_whatever_their_compression(base: Path, compression: str, by: str) -> None:
    program = COMPRESSIONS[compression]
    if program is not None and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    big = os.urandom(300_000)
    content = archive(
        (member("./etc", kind=tarfile.DIRTYPE, mode=0o755), b""),
        (member("./etc/name", mode=0o4750), b"hello\n"),
        (member("./etc/link", kind=tarfile.SYMTYPE, link="/etc/name"), b""),
        (member("./big"), big),
    )
    if program is not None:
        content = output_of(program, "-c", content=content)
    root = base / "root"

    if by == "file":
        await extract(content, root)
    else:
        reader, writer = os.pipe()
        feeder = threading.Thread(target=feed, args=(writer, content))
        feeder.start()
        await extract_archive(reader, root)
        assert not fcntl.fcntl(reader, fcntl.F_GETFL) & os.O_NONBLOCK
        os.close(reader)
        feeder.join()

    name = (root / "etc/name").stat()
    assert (name.st_uid, name.st_gid, stat.S_IMODE(name.st_mode)) == (33, 44, 0o4750)
    assert (root / "etc/link").readlink() == Path("/etc/name")
    assert (root / "big").read_bytes() == big


@pytest.mark.parametrize("by", ["file", "pipe"])
@pytest.mark.parametrize(
    ("program", "package"), [("gzip", "gzip"), ("zstd", "zstd"), ("xz", "xz-utils"), ("bzip2", "bzip2")]
)
async def test_a_missing_decompressor_is_told_with_the_package_to_install(
    base: Path, monkeypatch: pytest.MonkeyPatch, program: str, package: str, by: str
) -> None:
    content = output_of(program, "-c", content=archive((member("./etc", kind=tarfile.DIRTYPE, mode=0o755), b"")))
    only(monkeypatch, base, "tar", "cat")

    says = f"the archive is compressed with {program}; program '{program}' is missing; install {package}"
    with pytest.raises(Unavailable, match=says):
        await (extract(content, base / "root") if by == "file" else extract_piped(content, base / "root"))

    assert not (base / "root").exists()


async def test_a_missing_tar_or_rm_is_told_with_the_package_to_install(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive((member("./etc", kind=tarfile.DIRTYPE, mode=0o755), b""))
    only(monkeypatch, base, "cat")

    with pytest.raises(Unavailable, match="program 'tar' is missing; install tar"):
        await extract(content, base / "root")
    with pytest.raises(Unavailable, match="program 'rm' is missing; install coreutils"):
        await remove_directory(base / "programs")

    assert not (base / "root").exists()


async def extract_piped(content: bytes, root: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    try:
        await extract_archive(reader, root)
    finally:
        os.close(reader)


def only(monkeypatch: pytest.MonkeyPatch, base: Path, *names: str) -> None:
    """Let nothing but these programs be installed."""
    directory = base / "programs"
    directory.mkdir()
    for name in names:
        (directory / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setitem(subprocesses.CLEAN_ENVIRONMENT, "PATH", str(directory))


def feed(writer: int, content: bytes) -> None:
    with open(writer, "wb", buffering=0) as sink:
        sink.write(content[:3])  # a head in two parts
        rest = memoryview(content)[3:]
        while rest:
            rest = rest[sink.write(rest) :]


async def test_extended_attributes_are_kept(base: Path) -> None:
    source = base / "source"
    source.mkdir()
    (source / "file").write_text("x")
    os.setxattr(source / "file", "user.mark", b"kept")
    capability = bytes.fromhex("0000000200040000000000000000000000000000")
    os.setxattr(source / "file", "security.capability", capability)
    content = output_of("tar", "-c", "--xattrs", "--xattrs-include=*", "-C", source, ".")

    await extract(content, base / "root")

    assert os.getxattr(base / "root/file", "user.mark") == b"kept"
    assert os.getxattr(base / "root/file", "security.capability")[4:8] == capability[4:8]


@pytest.mark.parametrize(
    "members",
    [
        (member("../escaped"),),
        (member("a/../../escaped"),),
        (member("out", kind=tarfile.SYMTYPE, link=".."), member("out/escaped")),
        (member("out", kind=tarfile.SYMTYPE, link="BASE"), member("out/escaped")),
        (member("a/out", kind=tarfile.SYMTYPE, link="../.."), member("a/out/escaped")),
        (
            member("a", kind=tarfile.SYMTYPE, link="."),
            member("a/out", kind=tarfile.SYMTYPE, link=".."),
            member("out/escaped"),
        ),
        (member("out", kind=tarfile.LNKTYPE, link="../victim"), member("out")),
        (member("out", kind=tarfile.SYMTYPE, link="../victim"), member("out")),
    ],
)  # fmt: skip
async def test_no_archive_writes_outside(base: Path, members: tuple[tarfile.TarInfo, ...]) -> None:
    (base / "victim").write_text("precious")
    for info in members:
        info.linkname = info.linkname.replace("BASE", str(base))
    content = archive(*((info, b"evil" if info.type == tarfile.REGTYPE else b"") for info in members))

    try:
        await extract(content, base / "root")
    except Refused:
        assert not (base / "root").exists()

    assert not (base / "escaped").exists()
    assert (base / "victim").read_text() == "precious"


async def test_an_absolute_name_stays_inside(base: Path) -> None:
    await extract(archive((member("/etc/osctl-test-name"), b"x")), base / "root")

    assert (base / "root/etc/osctl-test-name").exists()
    assert not Path("/etc/osctl-test-name").exists()


@pytest.mark.parametrize("content", [b"no archive at all" * 100, b"\x1f\x8bbroken", b"\x28\xb5\x2f\xfdbroken", b"x"])
async def test_a_bad_archive_is_refused_and_leaves_nothing(base: Path, content: bytes) -> None:
    with pytest.raises(Refused, match="bad archive: "):
        await extract(content, base / "root")

    assert not (base / "root").exists()


async def test_a_truncated_archive_is_refused_and_leaves_nothing(base: Path) -> None:
    whole = archive((member("one"), b"1" * 20_000), (member("two"), b"2" * 20_000))

    with pytest.raises(Refused, match=r"bad archive: .*Unexpected EOF"):
        await extract(whole[:30_000], base / "root")

    assert not (base / "root").exists()


async def test_an_empty_archive_is_refused(base: Path) -> None:
    with pytest.raises(Refused, match="the archive is empty"):
        await extract(b"", base / "root")

    assert not (base / "root").exists()


async def test_an_archive_that_does_not_come_is_given_up(base: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")

    with pytest.raises(Unavailable):
        await extract_archive(reader, base / "root", timeout_seconds=0.2)
    os.write(writer, b"defghi")
    with pytest.raises(Unavailable):
        await extract_archive(reader, base / "root", timeout_seconds=0.2)

    os.close(reader)
    os.close(writer)
    assert not (base / "root").exists()


async def test_a_cancelled_extraction_leaves_nothing(base: Path) -> None:
    reader, writer = os.pipe()
    for head in (b"", b"0123456789"):
        os.write(writer, head)
        task = asyncio.ensure_future(extract_archive(reader, base / "root"))
        await asyncio.wait([task], timeout=0.2)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert not (base / "root").exists()
    os.close(reader)
    os.close(writer)


# ---- removal


async def test_a_directory_is_removed_but_not_what_its_links_lead_to(base: Path) -> None:
    (base / "kept").mkdir()
    (base / "kept/file").write_text("precious")
    root = base / "root"
    (root / "deep/er").mkdir(parents=True)
    (root / "link").symlink_to(base / "kept")
    (root / "deep/link").symlink_to("../../kept")

    await remove_directory(root)
    await remove_directory(root)

    assert not root.exists()
    assert (base / "kept/file").read_text() == "precious"


async def test_nothing_is_removed_while_something_is_mounted_below(base: Path) -> None:
    (base / "kept").mkdir()
    (base / "kept/file").write_text("precious")
    target = base / "root/a b/mounted"
    target.mkdir(parents=True)
    assert libc.mount(os.fsencode(base / "kept"), os.fsencode(target), None, 4096, None) == 0  # MS_BIND

    try:
        with pytest.raises(Refused, match=f"'{target}' is mounted"):
            await remove_directory(base / "root")
        assert target.exists()
    finally:
        assert libc.umount2(os.fsencode(target), 0) == 0

    assert (base / "kept/file").read_text() == "precious"


@pytest.mark.parametrize("path", ["/", "//", "/tmp/..", "relative", ""])
async def test_no_directory_to_remove(path: str) -> None:
    with pytest.raises(Refused, match="not a directory that can be removed"):
        await remove_directory(path)


async def test_a_directory_that_cannot_be_removed_is_told(base: Path) -> None:
    (base / "root").mkdir()
    (base / "root/file").write_text("x")
    output_of("chattr", "+i", base / "root/file")

    try:
        with pytest.raises(ApplyFailed, match=r"not removed: .*Operation not permitted"):
            await remove_directory(base / "root")
    finally:
        output_of("chattr", "-i", base / "root/file")
