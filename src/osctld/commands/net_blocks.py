"""List the networks that are blocked."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListBlocks, ListOptions, Look, LookCommand
from osctld.core.config.host import Host

COLUMNS = (
    Column("network"),
    Column("holders", "interfaces that hold a part of it, or all", type=list[str]),
    Column("since", "when, local"),
    Column("since_epoch", "the same in seconds since 1970", type=float),
    Column("until", "when it ends, local; empty if it does not end by itself", type=str | None),
    Column("until_epoch", "the same in seconds since 1970", type=float | None),
    Column("user", "who did that: the number of the user", type=int | None),
    Column("login", "the user who had logged in before becoming that one", type=int | None),
    Column("process", "its number", type=int | None),
    Column("command", "that did it", longest=100),
)

SHOWN = ("network", "holders", "since", "until", "user", "command")


class NetBlocks(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List the addresses and networks that osctl net block drops packets to: since and until when, and by whom."""

    words: ClassVar[tuple[str, ...]] = ("net", "blocks")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net blocks", "What is blocked, and by whom"),
        Example("osctl net blocks -H -o network", "The networks alone, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ListBlocks()
