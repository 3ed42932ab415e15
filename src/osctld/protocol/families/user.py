"""Users: whose id ranges containers run under. A container without a named one has a user of its own name."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from osctld.core.command import Listing, Observed, Reply, Text
from osctld.core.config.host import POOL, Host
from osctld.core.errors import Refused
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


class UserCreate(ViewRequest, frozen=True, kw_only=True):
    """A user comes with the first container that names it, and nothing is to be made: what is asked for is held
    against what it will have. `ugid` names nobody here; the id on the host of the user's root is that of its map."""

    words: ClassVar[tuple[str, ...]] = ("user", "create")

    name: str
    ugid: int
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()

    def view(self, host: Host, observed: Observed) -> Reply:
        check_pool(self.pool)
        if self.ugid < 1:
            raise Refused(f"invalid ugid: {self.ugid}, must be greater than 0", code="bad-ugid", subject=str(self.ugid))
        for what, given in (("UID", self.uid_map), ("GID", self.gid_map)):
            if not given:
                raise Refused(f"{self.name!r}: missing {what} map", code="no-map", subject=self.name)
        if self.name in _users(host):
            raise Refused(f"user already exists: {self.name!r}", code="user-exists", subject=self.name)
        id_map = host.id_map_for(self.name)
        offered = f"0:{id_map.offset}:{id_map.size}"
        for what, given in (("UID", self.uid_map), ("GID", self.gid_map)):
            if given != (offered,):
                raise Refused(
                    f"{what} map is not valid: {' '.join(given)}, {self.name!r} can have {offered}",
                    code="bad-map",
                    subject=" ".join(given),
                )
        return Text()

    def response(self, reply: Reply) -> Any:
        return None


class UserDelete(ViewRequest, frozen=True, kw_only=True):
    """A user goes with its last container: one that no container has is deleted already."""

    words: ClassVar[tuple[str, ...]] = ("user", "delete")

    name: str

    def view(self, host: Host, observed: Observed) -> Reply:
        check_pool(self.pool)
        if self.name.removeprefix(f"{POOL}:") in _users(host):
            raise Refused(f"user has container(s): {self.name!r}", code="user-in-use", subject=self.name)
        return Text()

    def response(self, reply: Reply) -> Any:
        return None


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
