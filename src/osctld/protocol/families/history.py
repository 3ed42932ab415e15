"""What was changed."""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict

from osctld.commands.history import History
from osctld.core.command import Action, Listing, Reply
from osctld.core.host import Host
from osctld.protocol.request import ActRequest, check_pool


class HistoryRow(TypedDict):
    """`time` in whole seconds since 1970. The original's client shows the `cli` of `opts`: what was typed."""

    time: int
    cmd: str
    opts: dict[str, Any]
    pool: str


class HistoryList(ActRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("history", "list")
    answers: ClassVar[Any] = list[HistoryRow]

    pools: tuple[str, ...] = ()

    def act(self, host: Host) -> Action:
        for pool in (self.pool, *self.pools):
            check_pool(pool)
        return History().act(host)

    def response(self, reply: Reply) -> Any:
        assert isinstance(reply, Listing)
        return [
            {
                "time": int(row["epoch"]),
                "cmd": row["command"].split(maxsplit=1)[0],
                "opts": {"cli": row["command"]},
                "pool": row["pool"],
            }
            for row in reply.rows
        ]
