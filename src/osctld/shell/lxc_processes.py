"""What /proc tells about the processes of LXC and of a guest's init."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from osctld.shell import guest_root, pidfds
from osctld.shell.guest_root import InitKind


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
    about = _status(pid)
    bit = 1 << (number - 1)
    return any(int(about.get(field, "0"), 16) & bit for field in ("SigCgt", "SigBlk"))


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


def _session_of(pid: int) -> int | None:
    """Return the session of a process that has not ended (proc(5): field 6 of stat, after a name with any bytes)."""
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else int(session)


def of_sessions(sessions: Collection[int], *, spared: int) -> list[int]:
    """Return pidfds, owned by the caller, of all processes of these sessions but one.

    A look at all processes of the host.
    """
    return _held(lambda pid: pid != spared and _session_of(pid) in sessions)


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

    return _held(is_meant)


def _held(is_meant: Callable[[int], bool]) -> list[int]:
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        if is_meant(pid) and (pidfd := pidfds.open_pidfd(pid)) is not None:
            if is_meant(pid) and not pidfds.has_ended(pidfd):  # not a recycled id
                found.append(pidfd)
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
