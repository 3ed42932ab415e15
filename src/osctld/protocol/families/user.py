"""Users: whose id ranges containers run under. A container without a named one has a user of its own name."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from osctld.core.command import Listing, Observed, Reply
from osctld.core.errors import Refused
from osctld.core.host import POOL, Host
from osctld.protocol.request import ViewRequest, check_pool


class ShownUser(msgspec.Struct, frozen=True):
    """`ugid` is the id on the host of the user's root; no such user is registered with the host."""

    pool: str
    name: str
    username: str | None
    groupname: str | None
    ugid: int
    dataset: str | None
    homedir: str | None
    registered: bool


class UserList(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("user", "list")
    answers: ClassVar[Any] = list[ShownUser]

    names: tuple[str, ...] | None = None
    pool: str | tuple[str, ...] | None = None  # type: ignore[assignment]  # here alone it is a filter
    registered: bool | None = None

    def view(self, host: Host, observed: Observed) -> Reply:
        pools = (self.pool,) if isinstance(self.pool, str) else self.pool
        rows = tuple(
            row
            for name, row in _users(host).items()
            if (self.names is None or name in self.names)
            and (pools is None or POOL in pools)
            and self.registered in (None, row["registered"])
        )
        return Listing(columns=(), shown=(), rows=rows)


class UserShow(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("user", "show")
    answers: ClassVar[Any] = ShownUser

    name: str

    def view(self, host: Host, observed: Observed) -> Reply:
        check_pool(self.pool)
        name = self.name.removeprefix(f"{POOL}:")
        row = _users(host).get(name)
        if row is None:
            raise Refused(f"user not found: {self.name!r}", code="user-not-found", subject=self.name)
        return Listing(columns=(), shown=(), rows=(row,), is_record=True)


def _users(host: Host) -> dict[str, dict[str, Any]]:
    return {
        each.user or each.name: {
            "pool": POOL,
            "name": each.user or each.name,
            "username": None,
            "groupname": None,
            "ugid": each.id_map.offset,
            "dataset": None,
            "homedir": None,
            "registered": False,
        }
        for each in host.sorted_containers
    }
