"""Root directories of guests: built from the host's busybox, extracted from an archive, removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import stat
import struct
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Self

from osctld.core.errors import ApplyFailed, Refused, Unavailable
from osctld.shell import idmapped_mount
from osctld.shell.namespaces import CLEAN_ENVIRONMENT, to_the_end

_DIRECTORIES = (
    "bin", "dev", "etc/init.d", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin",
    "usr/share/udhcpc", "var/log", "var/run",
)  # fmt: skip

_INITTAB = """\
# busybox init: nothing is respawned, nobody logs in; `osctl ct exec` opens a shell.
::sysinit:/etc/init.d/rcS
::shutdown:/etc/init.d/rcK
::ctrlaltdel:/sbin/reboot
"""

_START = """\
#!/bin/sh
# Runs once, first of all. Put what the container is for into /etc/rc.local.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ -x /etc/rc.local ] && /etc/rc.local
exit 0
"""

# busybox init itself sleeps two seconds on its way down, whatever there is to end. The shutdown action comes before
# that, so it ends everybody politely and then stops at once, provided that it knows what was wished for. The wish is
# kept in /dev, which is new in each life. Without one (busybox' shell prefers its own `reboot`) init goes its own way.
_STOP = """\
#!/bin/sh
read wish 2>/dev/null </dev/.halt || exit 0
kill -TERM -1
for tick in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    alive=
    for process in /proc/[0-9]*; do
        case $process in /proc/1|/proc/$$) ;; *) [ -d $process ] && alive=1 ;; esac
    done
    [ "$alive" ] || break
    usleep 50000
done
sync
exec busybox $wish -f
"""

_HALT = """\
#!/bin/sh
# Leaves the wish for /etc/init.d/rcK, then asks init as busybox does.
[ $# = 0 ] && echo {wish} >/dev/.halt
exec busybox {wish} "$@"
"""

_FILES = {
    "etc/inittab": (_INITTAB, 0o644),
    "etc/init.d/rcS": (_START, 0o755),
    "etc/init.d/rcK": (_STOP, 0o755),
    "etc/passwd": ("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644),
    "etc/group": ("root:x:0:\nnogroup:x:65534:\n", 0o644),
    "etc/shadow": ("root:*:::::::\nnobody:*:::::::\n", 0o600),
    "etc/shells": ("/bin/sh\n", 0o644),
    "etc/hosts": ("127.0.0.1\tlocalhost\n::1\tlocalhost\n", 0o644),
    "etc/os-release": ('ID=busybox\nNAME="BusyBox"\n', 0o644),
    "sbin/poweroff": (_HALT.format(wish="poweroff"), 0o755),
    "sbin/halt": (_HALT.format(wish="halt"), 0o755),
    "sbin/reboot": (_HALT.format(wish="reboot"), 0o755),
}

_COMPRESSIONS = (
    (b"\x1f\x8b", "--gzip"),
    (b"\x28\xb5\x2f\xfd", "--zstd"),
    (b"\xfd7zXZ\x00", "--xz"),
    (b"BZh", "--bzip2"),
)
_LONGEST_MAGIC = 6
_PT_INTERP = 3  # elf(5)


async def build_busybox(directory: str | os.PathLike[str], *, busybox: str = "/bin/busybox") -> None:
    """Build a guest from a static busybox: its init, its shell, a link for each of its commands.

    `directory` must not exist, or be empty. Takes some hundredths of a second and 2 MB. Raises Unavailable when
    busybox is missing or not static, Refused when the directory is in use, ApplyFailed when the disk says no; nothing
    is left then.
    """
    target = Path(directory)
    await asyncio.to_thread(_require_static, busybox)
    applets = await _applets(busybox)
    with _NewDirectory(target) as made:
        await to_the_end(asyncio.to_thread(_lay_out, target, busybox, applets))
        made.keep()


def _require_static(busybox: str) -> None:
    hint = "install the package busybox-static"
    try:
        with open(busybox, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF":
                raise Unavailable(f'"{busybox}" is no program: {hint}', subject=busybox)
            wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
            start, size, count = (
                (struct.unpack_from(order + "Q", head, 32)[0], *struct.unpack_from(order + "HH", head, 54))
                if wide
                else (struct.unpack_from(order + "I", head, 28)[0], *struct.unpack_from(order + "HH", head, 42))
            )
            file.seek(start)
            table = file.read(size * count)
    except OSError as error:
        raise Unavailable(f'"{busybox}" cannot be read: {error.strerror}; {hint}', subject=busybox) from error
    except struct.error as error:
        raise Unavailable(f'"{busybox}" is no program: {hint}', subject=busybox) from error
    kinds = (struct.unpack_from(order + "I", table, size * index)[0] for index in range(len(table) // max(size, 1)))
    if _PT_INTERP in kinds:
        raise Unavailable(f'"{busybox}" needs libraries that a guest has not: {hint}', subject=busybox)


async def _applets(busybox: str) -> tuple[str, ...]:
    process = await asyncio.create_subprocess_exec(
        busybox, "--list-full", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd="/", env=CLEAN_ENVIRONMENT
    )
    try:
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise Unavailable(f'"{busybox}" does not list its commands', subject=busybox) from error
    finally:
        await _stop(process)
    paths = tuple(
        line for line in output.decode(errors="replace").split() if ".." not in line and not line.startswith("/")
    )
    if "sbin/init" not in paths or not paths:
        raise Unavailable(f'"{busybox}" has no init: install the package busybox-static', subject=busybox)
    return paths


def _lay_out(target: Path, busybox: str, applets: tuple[str, ...]) -> None:
    try:
        for name in _DIRECTORIES:
            (target / name).mkdir(parents=True, exist_ok=True)
        for current, names, _ in os.walk(target):
            for name in names:
                os.chmod(os.path.join(current, name), 0o755)  # whatever the umask
        (target / "tmp").chmod(0o1777)
        (target / "root").chmod(0o700)
        shutil.copyfile(busybox, target / "bin/busybox")
        (target / "bin/busybox").chmod(0o755)
        for name, (text, mode) in _FILES.items():
            path = target / name
            path.write_text(text, encoding="ascii")
            path.chmod(mode)
        for name in ("etc/resolv.conf", "etc/hostname"):
            (target / name).touch(mode=0o644)
        for applet in applets:
            path = target / applet
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.symlink_to("/bin/busybox")
    except OSError as error:
        raise ApplyFailed(f'cannot build a root directory in "{target}": {error.strerror}') from error


class _NewDirectory:
    """A directory that is emptied and removed again unless it is kept."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._kept = False

    def keep(self) -> None:
        self._kept = True

    def __enter__(self) -> Self:
        try:
            self._target.mkdir(mode=0o755)
        except FileExistsError as error:
            if not self._target.is_dir() or any(self._target.iterdir()):
                raise Refused(f'"{self._target}" is not empty', subject=str(self._target)) from error
        except OSError as error:
            raise ApplyFailed(
                f'cannot make directory "{self._target}": {error.strerror}', subject=str(self._target)
            ) from error
        self._target.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            shutil.rmtree(self._target, ignore_errors=True)  # goes by descriptors, follows no links


async def extract_archive(descriptor: int, directory: str | os.PathLike[str], *, timeout_seconds: float = 1800) -> None:
    """Extract a tar archive into a new or empty directory: owners by number, extended attributes, device nodes.

    `descriptor` is a file or a pipe and stays the caller's. Compression (gzip, zstd, xz, bzip2) is told by the first
    bytes. Absolute names and `..` stay inside the directory or are refused, and so are members that would be written
    through a link leading outside. Raises Refused with tar's last line for a bad archive, Unavailable when it takes
    too long; nothing is left then.
    """
    target = Path(directory)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    head, is_file = await _read_head(descriptor, timeout_seconds=timeout_seconds)
    if not head:
        raise Refused("the archive is empty")
    compression = tuple(option for magic, option in _COMPRESSIONS if head.startswith(magic))
    with _NewDirectory(target) as made:
        pump: Process | None = None
        tar: Process | None = None
        source = descriptor
        try:
            if not is_file:
                pump, source = await _pump(head, descriptor)
            tar = await asyncio.create_subprocess_exec(
                "tar", "--extract", "--file=-", *compression, f"--directory={target}", "--numeric-owner",
                "--same-owner", "--same-permissions", "--delay-directory-restore", "--no-overwrite-dir",
                "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability", "--acls",
                stdin=source, stdout=DEVNULL, stderr=PIPE, cwd="/",
                env=CLEAN_ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
            if pump is not None:
                os.close(source)
                source = -1
            async with asyncio.timeout_at(deadline):
                last_line = await _last_line(tar)
                status = await tar.wait()
            if status != 0:
                raise Refused(f"bad archive: {last_line or f'tar ended with status {status}'}")
            target.chmod(0o755 | (target.stat().st_mode & 0o7777))
        except TimeoutError as error:
            raise Unavailable(f"the archive was not extracted within {timeout_seconds:g} s") from error
        except FileNotFoundError as error:
            raise Unavailable('program "tar" is missing: install tar') from error
        finally:
            if pump is not None and source >= 0:
                os.close(source)
            for process in (tar, pump):
                if process is not None:
                    await to_the_end(_stop(process))
        made.keep()


async def _read_head(descriptor: int, *, timeout_seconds: float) -> tuple[bytes, bool]:
    """Return the first bytes of an archive, and whether they can be read again."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            return await asyncio.to_thread(os.pread, descriptor, _LONGEST_MAGIC, position), True
        wake, waker = os.pipe()
    except OSError as error:
        raise Refused(f"the archive cannot be read: {error.strerror}") from error

    # In a thread, so that the caller's descriptor neither joins the event loop nor becomes non-blocking.
    def read() -> bytes:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(wake, select.POLLHUP)
        head = b""
        while len(head) < _LONGEST_MAGIC:
            events = poll.poll(timeout_seconds * 1000)
            if not events:
                raise Unavailable(f"nothing of the archive came within {timeout_seconds:g} s")
            if any(ready == wake for ready, _ in events):
                break
            chunk = os.read(descriptor, _LONGEST_MAGIC - len(head))
            if not chunk:
                break
            head += chunk
        return head

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        return await asyncio.shield(reading), False
    except OSError as error:
        raise Refused(f"the archive cannot be read: {error.strerror}") from error
    finally:
        os.close(waker)
        await to_the_end(asyncio.wait([reading]))
        os.close(wake)


async def _pump(head: bytes, descriptor: int) -> tuple[Process, int]:
    """Start a process that writes the head and then the rest of a descriptor to a pipe; return the pipe's end."""
    head_end, head_source = os.pipe()
    pipe_end, pipe_source = os.pipe()
    try:
        os.write(head_source, head)
        os.close(head_source)
        head_source = -1
        process = await asyncio.create_subprocess_exec(
            "cat", f"/proc/self/fd/{head_end}", "-",
            stdin=descriptor, stdout=pipe_source, stderr=DEVNULL, pass_fds=(head_end,), cwd="/",
            env=CLEAN_ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(pipe_end)
        raise
    finally:
        for end in (head_end, head_source, pipe_source):
            if end >= 0:
                os.close(end)
    return process, pipe_end


async def _last_line(process: Process) -> str:
    """Read what a process says on standard error, to its end; return the last line that tells something."""
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(1 << 16):
        tail = (tail + chunk)[-4096:]
    lines = [line.strip() for line in tail.decode(errors="replace").splitlines()]
    telling = [line for line in lines if line and "Error is not recoverable" not in line and "Exiting with" not in line]
    return telling[-1] if telling else ""


async def remove_directory(path: str | os.PathLike[str], *, timeout_seconds: float = 600) -> None:
    """Remove a directory with all below it, following no symbolic links; nothing happens when there is none.

    Raises Refused while something is mounted at or below it, ApplyFailed with the reason otherwise.
    """
    target = os.fspath(path)
    if not os.path.isabs(target) or os.path.realpath(target) == "/":
        raise Refused(f'"{target}" is no directory to remove', subject=target)
    if not os.path.lexists(target):
        return
    if mounted := await asyncio.to_thread(idmapped_mount.mount_points_below, target):
        raise Refused(f'"{target}" is not removed: "{mounted[0]}" is mounted', subject=target)
    process = await asyncio.create_subprocess_exec(
        "rm", "--recursive", "--force", "--one-file-system", "--", target,
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, cwd="/", env=CLEAN_ENVIRONMENT, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_seconds):
            reason = await _last_line(process)
            status = await process.wait()
    except TimeoutError as error:
        raise ApplyFailed(f'"{target}" was not removed within {timeout_seconds:g} s', subject=target) from error
    finally:
        await to_the_end(_stop(process))
    if status != 0:
        raise ApplyFailed(f'"{target}" was not removed: {reason}', subject=target)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
