"""Groups: as much of them as clients that ask need to continue."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from osctld.core.command import Listing, Observed, Reply
from osctld.core.config.host import POOL, Host
from osctld.core.errors import Refused
from osctld.protocol.request import ViewRequest, check_pool

#: The root of all groups, and the one that every container is in.
_NAMES = ("/", "/default")


class CgroupDirectories(msgspec.Struct, frozen=True):
    """Where each controller's tree is mounted; the same for all where there is one tree (cgroup v2)."""

    cpu: str
    cpuacct: str
    memory: str
    blkio: str
    pids: str


class GroupCgsubsystems(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("group", "cgsubsystems")
    answers: ClassVar[Any] = CgroupDirectories

    def view(self, host: Host, observed: Observed) -> Reply:
        directories = observed.daemon["engine"]["cgroup_directories"]
        row = {name: directories[name] for name in CgroupDirectories.__struct_fields__}
        return Listing(columns=(), shown=(), rows=(row,), is_record=True)


class ShownGroup(msgspec.Struct, frozen=True):
    """`full_path` is a cgroup, relative to what `group_cgsubsystems` tells: the one that containers' cgroups are in."""

    pool: str
    name: str
    path: str
    full_path: str


class GroupList(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("group", "list")
    answers: ClassVar[Any] = list[ShownGroup]

    names: tuple[str, ...] | None = None
    pool: str | tuple[str, ...] | None = None  # type: ignore[assignment]  # here alone it is a filter

    def view(self, host: Host, observed: Observed) -> Reply:
        pools = (self.pool,) if isinstance(self.pool, str) else self.pool
        names = [name for name in _NAMES if (self.names is None or name in self.names) and POOL in (pools or (POOL,))]
        return Listing(columns=(), shown=(), rows=tuple(_shown(name, observed) for name in names))


class GroupShow(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("group", "show")
    answers: ClassVar[Any] = ShownGroup

    name: str

    def view(self, host: Host, observed: Observed) -> Reply:
        check_pool(self.pool)
        name = self.name.removeprefix(f"{POOL}:")
        if name not in _NAMES:
            raise Refused(f"group not found: {self.name!r}", code="group-not-found", subject=self.name)
        return Listing(columns=(), shown=(), rows=(_shown(name, observed),), is_record=True)


def _shown(name: str, observed: Observed) -> dict[str, str]:
    place = observed.daemon["engine"]["cgroup_prefix"].rpartition("/")[0]
    return {"pool": POOL, "name": name, "path": name, "full_path": place}
