"""Pools: there is one."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from osctld.core.command import Listing, Observed, Reply
from osctld.core.config.host import POOL, Host
from osctld.protocol.request import ViewRequest, check_pool


class ShownPool(msgspec.Struct, frozen=True):
    name: str
    dataset: str | None
    state: str
    users: int
    groups: int
    containers: int
    parallel_start: int | None
    parallel_stop: int | None


class PoolList(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("pool", "list")
    answers: ClassVar[Any] = list[ShownPool]

    names: tuple[str, ...] | None = None

    def view(self, host: Host, observed: Observed) -> Reply:
        rows = (_shown(host),) if self.names is None or POOL in self.names else ()
        return Listing(columns=(), shown=(), rows=rows)


class PoolShow(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("pool", "show")
    answers: ClassVar[Any] = ShownPool

    name: str

    def view(self, host: Host, observed: Observed) -> Reply:
        check_pool(self.name)
        return Listing(columns=(), shown=(), rows=(_shown(host),), is_record=True)


def _shown(host: Host) -> dict[str, Any]:
    return {
        "name": POOL,
        "dataset": None,
        "state": "active",
        "users": len({each.user or each.name for each in host.containers.values()}),
        "groups": 1,
        "containers": len(host.containers),
        "parallel_start": None,
        "parallel_stop": None,
    }
