"""Show what was changed."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Column, Example, ListOptions, ShowHistory
from osctld.core.errors import Refused
from osctld.core.host import POOL, Host

COLUMNS = (
    Column("time", "local, to the second"),
    Column("time_iso", "with its offset from UTC (RFC 3339)"),
    Column("epoch", "in seconds since 1970", type=float),
    Column("pool"),
    Column("command", "as it was typed; long ones are cut unless exact values are asked for", longest=200),
)


class History(ActCommand, ListOptions, frozen=True, kw_only=True):
    """Show the commands that changed something, oldest first."""

    words: ClassVar[tuple[str, ...]] = ("history",)
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl history", "All that was changed, and when"),)
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    pools: Annotated[tuple[str, ...], Argument("Pools; there is one, default", metavar="pool", many=True)] = ()

    def act(self, host: Host) -> Action:
        for each in self.pools:
            if each != POOL:
                raise Refused(f"pool {each!r} not found", code="pool-not-found", subject=each)
        return ShowHistory(COLUMNS, shown=("time", "pool", "command"))
