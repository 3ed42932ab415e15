"""List the links whose networks containers may use."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListOptions, ListUplinks, Look, LookCommand
from osctld.core.config.host import Host

COLUMNS = (
    Column("link"),
    Column("networks", "networks that the link is connected to now", type=list[str]),
    Column("held", "number of networks within these that containers hold", type=int),
)


class NetUplinkLs(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List the links whose networks containers may use addresses from."""

    words: ClassVar[tuple[str, ...]] = ("net", "uplink", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net uplink ls", "List the declared links, and how much of their networks is used"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ListUplinks()
