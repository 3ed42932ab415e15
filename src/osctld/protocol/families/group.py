"""Groups: what there is of them here, so that clients which ask go on."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from osctld.core.command import Listing, Observed, Reply
from osctld.core.host import Host
from osctld.protocol.request import ViewRequest


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
