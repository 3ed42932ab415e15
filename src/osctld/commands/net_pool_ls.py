"""List the pools of addresses."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListOptions, ListPools, Look, LookCommand
from osctld.core.config.host import Host

COLUMNS = (
    Column("name"),
    Column("networks", "in the order in which they are used", type=list[str]),
    Column("size", "addresses that can be given out", type=int),
    Column("used", "held by containers, whoever gave them out", type=int),
    Column("host", "used by the host itself", type=int),
    Column("resting", "given back so recently that they are not given out again yet", type=int),
    Column("free", "can be given out now", type=int),
)


class NetPoolLs(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List the pools of addresses that the settings name, and how much of each is used and free.

    osctl ct netif ip add --from-pool takes the next free address of one.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "pool", "ls")
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl net pool ls", "How many addresses are left"),)
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ListPools()
