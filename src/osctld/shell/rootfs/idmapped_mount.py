"""Id-mapped mounts by the kernel's own interface: open_tree(2), mount_setattr(2), move_mount(2), umount2(2).

The container's root directory holds files owned by 0 to 65535; seen through the mount they belong to the container's
own range. LXC has an option for it, which is lost on sharing of user namespaces (6.0, 7.0) and on a reboot from
inside; docs/adr/0004-own-idmapped-mount.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from pathlib import Path

from osctld.core.errors import ApplyFailed

# The same numbers on every architecture: asm-generic/unistd.h.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_NOSUID = 0x2
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_NOEXEC = 0x8
_MOUNT_ATTR_NOSYMFOLLOW = 0x200000
_MOUNT_ATTR_IDMAP = 0x100000
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)


def _system_call(number: int, *arguments: ctypes.c_long | ctypes.c_char_p | ctypes.c_void_p) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def open_tree(path: str, *, is_recursive: bool = False) -> int:
    """Return a descriptor of a copy of the mount at a path, which is mounted nowhere yet. Raises OSError."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if is_recursive else 0)
    return _system_call(
        _SYS_OPEN_TREE, ctypes.c_long(_AT_FDCWD), ctypes.c_char_p(os.fsencode(path)), ctypes.c_long(flags)
    )


def move_tree(tree: int, target: str) -> None:
    """Mount what a descriptor stands for. Raises OSError."""
    _system_call(
        _SYS_MOVE_MOUNT,
        ctypes.c_long(tree),
        ctypes.c_char_p(b""),
        ctypes.c_long(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_long(_MOVE_MOUNT_F_EMPTY_PATH),
    )


def attach(source: str, target: str, *, user_namespace: int) -> None:
    """Mount the directory `source` at `target`, its owners mapped as in a user namespace, device nodes dead.

    `user_namespace` is a descriptor of /proc/PID/ns/user. Programs can be executed, set-uid ones work and symbolic
    links are followed, however the file system of `source` is mounted: a guest needs that of its root. Read-only stays
    so. Raises ApplyFailed with the kernel's reason; nothing is mounted then.
    """
    try:
        tree = open_tree(source)
    except OSError as error:
        raise ApplyFailed(f"'{source}': root directory cannot be mounted: {error.strerror}", subject=source) from error
    try:
        # struct mount_attr: attr_set, attr_clr, propagation, userns_fd (linux/mount.h). Private, because the copy
        # of a shared mount would join its peers and carry what the guest mounts out to the host.
        attributes = struct.pack(
            "QQQQ",
            _MOUNT_ATTR_IDMAP | _MOUNT_ATTR_NODEV,
            _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NOEXEC | _MOUNT_ATTR_NOSYMFOLLOW,
            _MS_PRIVATE,
            user_namespace,
        )
        try:
            _system_call(
                _SYS_MOUNT_SETATTR,
                ctypes.c_long(tree),
                ctypes.c_char_p(b""),
                ctypes.c_long(_AT_EMPTY_PATH),
                ctypes.c_char_p(attributes),
                ctypes.c_long(len(attributes)),
            )
        except OSError as error:
            reason = (
                "its file system does not support id-mapped mounts"
                if error.errno in (errno.EINVAL, errno.EOPNOTSUPP)
                else error.strerror
            )
            raise ApplyFailed(
                f"'{source}': ids of the root directory cannot be mapped: {reason}", subject=source
            ) from error
        try:
            move_tree(tree, target)
        except OSError as error:
            raise ApplyFailed(f"'{target}': cannot be mounted on: {error.strerror}", subject=source) from error
    finally:
        os.close(tree)


def detach(target: str) -> None:
    """Take away whatever is mounted at `target`, at once and however busy; nothing happens when nothing is there."""
    for _ in range(64):
        if _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
            continue
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            return
        raise ApplyFailed(f"'{target}': cannot be unmounted: {os.strerror(code)}", subject=target)
    raise ApplyFailed(f"'{target}': cannot be unmounted, it is mounted again and again", subject=target)


def is_root_idmapped(pid: int) -> bool:
    """Tell whether the root of a process is an id-mapped mount, by /proc/PID/mountinfo (proc(5)).

    False, too, when the process is gone.
    """
    answer = False
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            fields = line.split(" ")
            if fields[4] == "/":  # the last one is on top
                answer = "idmapped" in fields[5].split(",")
    return answer


def mount_points_below(directory: str) -> list[str]:
    """Return the mount points at and below a directory in this mount namespace."""
    prefix = os.path.realpath(directory)
    found = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            # Blanks and the like are octal escapes there.
            point = os.fsdecode(line.split(b" ")[4].decode("unicode_escape").encode("latin-1"))
            if point == prefix or point.startswith(prefix.rstrip("/") + "/"):
                found.append(point)
    return found
