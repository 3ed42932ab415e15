"""List the pools of addresses."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListOptions, ListPools, Look, LookCommand
from osctld.core.config.host import Host

COLUMNS = (
    Column("name"),
    Column("networks", "in order of use", type=list[str]),
    Column("size", "addresses that can be assigned from the pool", type=int),
    Column("used", "held by containers, however they were assigned", type=int),
    Column("host", "used by the host itself", type=int),
    Column("resting", "released recently, and not yet available again", type=int),
    Column("free", "available now", type=int),
)


class NetPoolLs(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List the address pools that the settings define, and how much of each is used and free.

    osctl ct netif ip add --from-pool assigns the next free address of a pool.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "pool", "ls")
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl net pool ls", "Show how many addresses are left"),)
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ListPools()
