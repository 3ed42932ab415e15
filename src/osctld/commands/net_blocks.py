"""List the networks that are blocked."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListBlocks, ListOptions, Look, LookCommand
from osctld.core.config.host import Host

COLUMNS = (
    Column("network"),
    Column("holders", "interfaces that hold the network or a part of it", type=list[str]),
    Column("since", "start, local time"),
    Column("since_epoch", "the same, in seconds since 1970", type=float),
    Column("until", "end, local time; empty if it does not end by itself", type=str | None),
    Column("until_epoch", "the same, in seconds since 1970", type=float | None),
    Column("user", "user id that blocked it", type=int | None),
    Column("login", "user id that logged in, before su or sudo", type=int | None),
    Column("process", "process id of the client", type=int | None),
    Column("command", "command line", longest=100),
)

SHOWN = ("network", "holders", "since", "until", "user", "command")


class NetBlocks(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List blocked addresses and networks: since when, until when, and who blocked them."""

    words: ClassVar[tuple[str, ...]] = ("net", "blocks")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net blocks", "List what is blocked, and by whom"),
        Example("osctl net blocks -H -o network", "List only the networks, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ListBlocks()
