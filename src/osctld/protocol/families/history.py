"""What was changed."""

from __future__ import annotations

import shlex
from typing import Any, ClassVar, TypedDict

from osctld.cli.parse import Invocation, parse
from osctld.commands.history import History
from osctld.core.command import Action, Listing, Reply
from osctld.core.errors import OsctlError
from osctld.core.host import Host
from osctld.protocol.request import ActRequest, check_pool


class HistoryRow(TypedDict):
    """`time` in whole seconds since 1970. `cmd` names the request. The original's client shows the `cli` of `opts`."""

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
                "cmd": _name(row["command"]),
                "opts": {"cli": row["command"]},
                "pool": row["pool"],
            }
            for row in reply.rows
        ]


def _name(line: str) -> str:
    """The command of a line that was typed, the first word of any other: there it is the request's name."""
    try:
        parsed = parse(shlex.split(line)[1:])
    except (OsctlError, ValueError):  # typed by a program that says what it likes
        parsed = None
    return "_".join(parsed.command.words) if isinstance(parsed, Invocation) else line.split(maxsplit=1)[0]
