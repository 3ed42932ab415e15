"""Show what is announced to whom."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListOptions, Look, LookCommand, ShowRouter
from osctld.core.config.host import Host

COLUMNS = (
    Column("engine", "routing daemon"),
    Column("neighbor", "name of the router in the settings"),
    Column("address"),
    Column("remote_as", "AS number of the router", type=int),
    Column("version", "IP version of the networks", type=int),
    Column("state", "state of the session: up, or a word of the routing daemon"),
    Column("since", "start of that state, as the routing daemon shows it", type=str | None),
    Column("info", "more about the session"),
    Column("wanted", "number of networks to be announced to this router", type=int),
    Column("sent", "number of networks that the routing daemon announces", type=int | None),
    Column("received", "number of networks accepted from the router; none are asked for", type=int | None),
    Column("limit", "maximum number of networks", type=int),
)

SHOWN = ("neighbor", "address", "remote_as", "version", "state", "since", "wanted", "sent", "limit")


class RouterShow(LookCommand, ListOptions, frozen=True, kw_only=True):
    """Show the sessions with routers: their state, and how much is announced to each."""

    words: ClassVar[tuple[str, ...]] = ("router", "show")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl router show", "Show all sessions"),
        Example("osctl router show -H -o neighbor,state", "Show names and states only, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    def act(self, host: Host) -> Look:
        return ShowRouter()
