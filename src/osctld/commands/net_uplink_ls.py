"""List the links whose networks containers may use."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListOptions, ListUplinks, Look, LookCommand
from osctld.core.config.host import Host

COLUMNS = (
    Column("link"),
    Column("networks", "that it is in now", type=list[str]),
    Column("held", "by containers, of these networks", type=int),
)


class NetUplinkLs(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List the links that were declared: containers may use addresses of their networks."""

    words: ClassVar[tuple[str, ...]] = ("net", "uplink", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net uplink ls", "Links whose networks containers may use, and how much of them is used"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ListUplinks()
