"""Cgroups of containers: what a dead life left behind, and how much a living one uses.

Both versions, and both at once: a hybrid host mounts one hierarchy for each controller of version 1 beside version 2.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

#: For each version: the file that shows and sets whether a cgroup is frozen, and its content when it is not.
_FREEZERS = (("freezer.state", "THAWED"), ("cgroup.freeze", "0"))


class Usage(msgspec.Struct, frozen=True):
    """What a container uses; None where the host does not count it."""

    memory_bytes: int | None
    cpu_nanoseconds: int | None


class Hierarchy(msgspec.Struct, frozen=True):
    """A mounted cgroup tree. `controllers` is empty for version 2."""

    mount_point: str
    controllers: tuple[str, ...]

    @property
    def is_unified(self) -> bool:
        return not self.controllers


def hierarchies() -> tuple[Hierarchy, ...]:
    """Return the cgroup trees mounted on this host, by /proc/self/mountinfo (cgroups(7))."""
    known = _version_1_controllers()
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if kind[0] == "cgroup2":
            found[fields[4]] = Hierarchy(mount_point=fields[4], controllers=())
        elif kind[0] == "cgroup":
            names = tuple(name for name in kind[2].split(",") if name in known or name.startswith("name="))
            found[fields[4]] = Hierarchy(mount_point=fields[4], controllers=names or ("name=",))
    return tuple(found.values())


def _version_1_controllers() -> frozenset[str]:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cgroups").read_text(encoding="ascii").splitlines()
        return frozenset(line.split("\t")[0] for line in lines if not line.startswith("#"))
    return frozenset()


def base_paths() -> tuple[str, ...]:
    """Return the places, relative to a hierarchy's mount, below which LXC makes the cgroups of root's containers.

    It is the cgroup of process 1 without its init.scope (lxc: src/lxc/cgroups/cgfsng.c); the tree's own root is
    looked at as well.
    """
    paths = {""}
    with contextlib.suppress(OSError):
        for line in Path("/proc/1/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            path = line.split(":", 2)[2].removesuffix("/init.scope").rstrip("/")
            if ".." not in path:
                paths.add(path)
    return tuple(sorted(paths))


def directories_of(controllers: Iterable[str], *, trees: Iterable[Hierarchy]) -> dict[str, str]:
    """Return where the tree of each controller is mounted: its own of version 1, else the one of version 2.

    Where there is neither, the usual place of version 2.
    """
    trees = tuple(trees)
    unified = next((each.mount_point for each in trees if each.is_unified), "/sys/fs/cgroup")
    return {
        controller: next((each.mount_point for each in trees if controller in each.controllers), unified)
        for controller in controllers
    }


def existing(names: Iterable[str], *, trees: Iterable[Hierarchy], bases: Iterable[str]) -> tuple[str, ...]:
    """Return the cgroup directories with one of these names, in all trees."""
    bases = tuple(bases)
    names = tuple(names)
    return tuple(
        path
        for tree in trees
        for base in bases
        for name in names
        if os.access(path := f"{tree.mount_point}{base}/{name}", os.F_OK)
    )


def members(directories: Iterable[str]) -> frozenset[int]:
    """Return the ids of all processes in these cgroups and below them."""
    found: set[int] = set()
    for directory in directories:
        for current, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):
                found.update(int(word) for word in Path(current, "cgroup.procs").read_text(encoding="ascii").split())
    found.discard(0)  # a process of another pid namespace
    return frozenset(found)


def thaw(directories: Iterable[str]) -> None:
    """Thaw what is frozen in these cgroups: a frozen process does not even die (version 1)."""
    for directory in directories:
        for current, _, _ in os.walk(directory):
            for name, thawed in _FREEZERS:
                path = Path(current, name)
                with contextlib.suppress(OSError):
                    if path.exists():
                        path.write_text(thawed, encoding="ascii")


def is_frozen(path: str, *, trees: Iterable[Hierarchy]) -> bool:
    """Tell whether a cgroup is frozen, or about to be; `path` is relative to the mount of each hierarchy.

    A hybrid host can freeze it in either version, whichever is mounted first: what is thawed in one says nothing.
    """
    return any(
        (state := _word(f"{tree.mount_point}{path}/{name}")) is not None and state != thawed
        for tree in trees
        for name, thawed in _FREEZERS
    )


def remove(directories: Iterable[str]) -> tuple[str, ...]:
    """Remove empty cgroups with all below them, deepest first; the ones that would not go are returned."""
    stubborn = []
    for directory in directories:
        for current, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(current)
        if os.path.isdir(directory):
            stubborn.append(directory)
    return tuple(stubborn)


def make_moves_quick() -> None:
    """Make moves of processes between cgroups quick for the next moments.

    The first move after a pause waits for an RCU grace period (10 to 15 ms), while it switches a lock that every fork
    takes to its slow form; the ones that follow find it so (linux/kernel/rcu/sync.c, cgroup_threadgroup_rwsem). A
    start makes some twenty moves. Here the calling process is moved to where it is, while others have work to do.
    """
    with contextlib.suppress(OSError):
        tree = hierarchies()[0]
        wanted = ",".join(tree.controllers)
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == wanted:
                Path(f"{tree.mount_point}{path}", "cgroup.procs").write_text("0", encoding="ascii")


def _word(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _tree(trees: Iterable[Hierarchy], controller: str) -> Hierarchy | None:
    return next((tree for tree in trees if controller in tree.controllers), None)


def usage(path: str, *, trees: tuple[Hierarchy, ...]) -> Usage:
    """Return what the processes of a cgroup use; `path` is relative to the mount of each hierarchy."""
    memory = cpu = None
    if (tree := _tree(trees, "memory")) is not None:
        memory = _number(f"{tree.mount_point}{path}/memory.usage_in_bytes")
    if (tree := _tree(trees, "cpuacct")) is not None:
        cpu = _number(f"{tree.mount_point}{path}/cpuacct.usage")
    for unified in (tree for tree in trees if tree.is_unified):
        if memory is None:
            memory = _number(f"{unified.mount_point}{path}/memory.current")
        if cpu is None:
            with contextlib.suppress(OSError, ValueError):
                for line in Path(f"{unified.mount_point}{path}/cpu.stat").read_text(encoding="ascii").splitlines():
                    if line.startswith("usage_usec "):
                        cpu = int(line.split()[1]) * 1000
    return Usage(memory_bytes=memory, cpu_nanoseconds=cpu)
