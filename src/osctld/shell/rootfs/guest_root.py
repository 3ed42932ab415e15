"""Looking and writing below the root directory of a guest, whose symbolic links are never trusted.

openat2(2) with RESOLVE_IN_ROOT resolves a path as the guest would see it: absolute links and `..` stay inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from enum import StrEnum

from osctld.core.errors import ApplyFailed

_SYS_OPENAT2 = 437  # asm-generic/unistd.h
_RESOLVE_IN_ROOT = 0x10  # linux/openat2.h
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_LARGEST_FILE = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class InitKind(StrEnum):
    """Programs that guests have as their first process; they differ in how they are asked to power off."""

    SYSTEMD = "systemd"
    BUSYBOX = "busybox"
    SYSVINIT = "sysvinit"
    OPENRC = "openrc"
    RUNIT = "runit"
    OTHER = "other"


def open_in_root(root: int, path: str, flags: int, *, follows_links: bool = True) -> int:
    """Open a path as seen from inside a root directory (a descriptor of it).

    Raises OSError; without `follows_links` ELOOP when anything of the path is a symbolic link.
    """
    # struct open_how: flags, mode, resolve. EAGAIN: something was renamed meanwhile and `..` cannot be trusted.
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | (0 if follows_links else _RESOLVE_NO_SYMLINKS)
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(32):
        descriptor = int(
            _libc.syscall(
                ctypes.c_long(_SYS_OPENAT2),
                ctypes.c_long(root),
                ctypes.c_char_p(os.fsencode(path)),
                ctypes.c_char_p(how),
                ctypes.c_long(len(how)),
            )
        )
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code != 11:  # EAGAIN
            break
    raise OSError(code, os.strerror(code), path)


def init_kind(root: int, *, container: str, root_directory: str) -> InitKind:
    """Return what the guest has as /sbin/init.

    Raises ApplyFailed when there is none, or it cannot be a program.
    """
    try:
        init = open_in_root(root, "/sbin/init", os.O_PATH)
    except OSError as error:
        raise ApplyFailed(
            f"'{container}': no /sbin/init in '{root_directory}': {error.strerror}", subject=container
        ) from error
    try:
        about = os.fstat(init)
        if not stat.S_ISREG(about.st_mode) or not about.st_mode & 0o111:
            raise ApplyFailed(
                f"'{container}': /sbin/init in '{root_directory}' is not an executable program", subject=container
            )
        return init_kind_of(os.readlink(f"/proc/self/fd/{init}"))
    finally:
        os.close(init)


def init_kind_of(program: str) -> InitKind:
    """Tell the kind of init by the path of its program; a deleted or replaced one still counts."""
    name = program.removesuffix(" (deleted)").rpartition("/")[2]
    match name:
        case "systemd" | "busybox":
            return InitKind(name)
        case "init":
            return InitKind.SYSVINIT
        case "openrc-init":
            return InitKind.OPENRC
        case "runit" | "runit-init":
            return InitKind.RUNIT
    return InitKind.OTHER


def write_hostname(root: int, hostname: str) -> None:
    """Make /etc/hostname and the 127.0.1.1 line of an existing /etc/hosts agree with a name. Raises OSError.

    A guest's own start-up applies its /etc/hostname over the name that it was started with.
    """
    try:
        etc = open_in_root(root, "/etc", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # a guest without /etc reads no names there
    try:
        wanted = f"{hostname}\n".encode()
        if _regular_content(etc, "hostname") != wanted:
            _replace(etc, "hostname", wanted)
        hosts = _regular_content(etc, "hosts")
        if hosts is not None and not any(line.split()[:1] == [b"127.0.1.1"] for line in hosts.splitlines()):
            separator = b"" if hosts.endswith(b"\n") or not hosts else b"\n"
            _replace(etc, "hosts", hosts + separator + f"127.0.1.1\t{hostname}\n".encode())
    finally:
        os.close(etc)


def _regular_content(directory: int, name: str) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_FILE:
            return None
        return file.read(_LARGEST_FILE)


def _replace(directory: int, name: str, content: bytes) -> None:
    temporary = f".{name}.osctl"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)  # whatever the umask
            file.write(content)
            file.flush()
            os.fsync(descriptor)  # after a power cut it has the old or the new content, and not none
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
