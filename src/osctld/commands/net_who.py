"""Say who holds a network."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core import who
from osctld.core.address.addresses import Network
from osctld.core.command import Argument, Column, Example, ListOptions, Look, LookCommand, Option, ShowHolders
from osctld.core.config.host import Host


class NetWho(LookCommand, ListOptions, frozen=True, kw_only=True):
    """Say who holds an address or a network: all of it, a part of it, or a network around it.

    Holders are the interfaces of containers, running or stopped, and the host itself, with its addresses, networks,
    next hops and routes. The last column says whether another holder would be refused it. With --at, say who held it at
    that time, even if the container has since been deleted or renamed; what the host held is not recorded.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "who")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net who 1.2.3.4", "Show who holds this address, and since when"),
        Example("osctl -j net who 198.51.100.0/24", "Show who holds parts of a network, for a program"),
        Example("osctl net who 1.2.3.4 --at 2026-01-31T12:00", "Show who held it at a given time"),
    )
    columns: ClassVar[tuple[Column, ...]] = who.WHO_COLUMNS

    network: Annotated[str, Argument("Address or network", metavar="addr|network")]
    at: Annotated[
        str | None,
        Option(("--at",), "TIME", "At this time: 2026-01-31, 2026-01-31T12:00[:00], or seconds since 1970"),
    ] = None

    def act(self, host: Host) -> Look:
        return ShowHolders(Network.parse(self.network), self.at)
