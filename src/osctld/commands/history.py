"""Show what was changed."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, Column, Example, Flag, ListOptions, Look, LookCommand, ShowHistory
from osctld.core.config.host import POOL, Host
from osctld.core.errors import Refused

COLUMNS = (
    Column("time", "local time"),
    Column("time_iso", "local time with its offset from UTC (RFC 3339)"),
    Column("epoch", "seconds since 1970", type=float),
    Column("pool"),
    Column("user", "user id that ran the command", type=int | None),
    Column("login", "user id that logged in, before su or sudo", type=int | None),
    Column("process", "process id of the client", type=int | None),
    Column("result", "done, or why it changed nothing", marks={"done": "good"}),
    Column("command", "command line; shortened if long, unless exact values are requested", longest=200),
)


class History(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List the commands that changed something, oldest first.

    With --all, also list the last 10000 commands that were refused or failed, and why. Dry runs are not listed, nor are
    commands that change no configuration, such as `ct exec`.
    """

    words: ClassVar[tuple[str, ...]] = ("history",)
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl history", "List all changes"),
        Example("osctl history --all", "List refused commands as well"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    all: Annotated[bool, Flag(("-a", "--all"), "Also list commands that were refused or failed")] = False
    pools: Annotated[tuple[str, ...], Argument("Pools; the only one is default", metavar="pool", many=True)] = ()

    def act(self, host: Host) -> Look:
        for each in self.pools:
            if each != POOL:
                raise Refused(f"pool {each!r} not found", code="pool-not-found", subject=each)
        shown = ("time", "pool", "result", "command") if self.all else ("time", "pool", "command")
        return ShowHistory(COLUMNS, shown, has_failures=self.all)
