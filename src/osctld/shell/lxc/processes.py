"""What /proc shows of the processes of LXC and of a guest's init."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from osctld.shell.process import pidfds
from osctld.shell.rootfs import guest_root
from osctld.shell.rootfs.guest_root import InitKind


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def parent_of(pid: int) -> int | None:
    """Return the parent of a process, None when it is gone (or its parent is not to be seen from here)."""
    parent = int(_status(pid).get("PPid", "0"))
    return parent or None


def heeds(pid: int, number: int) -> bool:
    """Tell whether a process catches a signal, or blocks it to fetch it by a signalfd."""
    return _has_signal(pid, number, "SigCgt", "SigBlk")


def ignores(pid: int, number: int) -> bool:
    """Tell whether a process ignores a signal."""
    return _has_signal(pid, number, "SigIgn")


def _has_signal(pid: int, number: int, *sets: str) -> bool:
    about = _status(pid)
    bit = 1 << (number - 1)
    return any(int(about.get(name, "0"), 16) & bit for name in sets)


def init_kind_of(pid: int) -> InitKind:
    """Return the kind of init that a process is, by its program."""
    try:
        return guest_root.init_kind_of(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return InitKind.OTHER


def runs_the_same_program(one: int, other: int | None) -> bool:
    """Tell whether two processes execute the same file; False when either is gone."""
    try:
        return os.path.samestat(os.stat(f"/proc/{one}/exe"), os.stat(f"/proc/{other}/exe"))
    except OSError:
        return False


class _Groups(NamedTuple):
    group: int
    session: int
    #: The group in the foreground of its terminal; -1 without a terminal.
    foreground: int


def has_another_program(pid: int, *, than: int) -> bool:
    """Tell whether two processes execute different files; False when either is gone."""
    try:
        return not os.path.samestat(os.stat(f"/proc/{pid}/exe"), os.stat(f"/proc/{than}/exe"))
    except OSError:
        return False


def _groups_of(pid: int) -> _Groups | None:
    """Return the groups of a process, None when it has ended.

    proc(5): fields 5, 6 and 8 of stat, after a name with any bytes.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if words[0] in (b"Z", b"X") else _Groups(int(words[2]), int(words[3]), int(words[5]))
    except (OSError, ValueError, IndexError):
        return None


def foreground_group_of(pid: int) -> int | None:
    """Return the group that a keyboard's signal for this process would reach; None when it has ended.

    That is the group in the foreground of its terminal, without a terminal its own.
    """
    groups = _groups_of(pid)
    if groups is None:
        return None
    return groups.foreground if groups.foreground > 0 else groups.group


def of_group(group: int, *, spared: Collection[int]) -> dict[int, int]:
    """Return ids with pidfds, owned by the caller, of all processes of a group but those spared.

    A look at all processes of the host.
    """
    return _held(lambda pid: pid not in spared and (found := _groups_of(pid)) is not None and found.group == group)


def of_sessions(sessions: Collection[int], *, spared: int) -> list[int]:
    """Return pidfds, owned by the caller, of all processes of these sessions but one.

    A look at all processes of the host.
    """

    def is_meant(pid: int) -> bool:
        return pid != spared and (found := _groups_of(pid)) is not None and found.session in sessions

    return list(_held(is_meant).values())


def monitors_of(*, lxc_path: str, container: str) -> list[int]:
    """Return pidfds, owned by the caller, of every lxc-start and monitor of a container.

    A look at all processes of the host: for exceptions, not for each start.
    """
    title = f"[lxc monitor] {lxc_path} {container}".encode("utf-8", "surrogateescape")
    path, name = os.fsencode(lxc_path), os.fsencode(container)

    def is_meant(pid: int) -> bool:
        try:
            content = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        if content.strip(b"\0") == title:
            return True
        words = content.split(b"\0")
        return words[0].endswith(b"lxc-start") and words[1:5] == [b"-P", path, b"-n", name]

    return list(_held(is_meant).values())


def attaches_of(*, lxc_path: str) -> list[int]:
    """Return pidfds, owned by the caller, of every lxc-attach of this daemon or one before it.

    A look at all processes of the host.
    """
    path = os.fsencode(lxc_path)

    def is_meant(pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[0].endswith(b"lxc-attach") and words[1:3] == [b"-P", path]

    return list(_held(is_meant).values())


def _held(is_meant: Callable[[int], bool]) -> dict[int, int]:
    found = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        if is_meant(pid) and (pidfd := pidfds.open_pidfd(pid)) is not None:
            if is_meant(pid) and not pidfds.has_ended(pidfd):  # not a recycled id
                found[pid] = pidfd
            else:
                os.close(pidfd)
    return found


def children(pid: int) -> Iterator[int]:
    """Yield the children of a process; of a moment, each may be gone."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                for word in Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii").split():
                    yield int(word)
