"""List what is held."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core import who
from osctld.core.command import (
    VERSION_SHORTHANDS,
    Argument,
    Column,
    Example,
    ListHoldings,
    ListOptions,
    Look,
    LookCommand,
    Option,
)
from osctld.core.config.host import Host


class NetLs(LookCommand, ListOptions, frozen=True, kw_only=True):
    """List every address and network that is held, by interfaces of containers, running or stopped, or by the host.

    With a container, list only what that container holds.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net ls", "List everything that is held, by containers and by the host"),
        Example("osctl net ls -H -o network -v 4 myct01", "List the IPv4 networks of a container, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = who.LIST_COLUMNS

    container: Annotated[
        str | None, Argument("Container; by default all containers and the host", metavar="ct", completes="container")
    ] = None
    version: Annotated[
        int | None,
        Option(("-v", "--version"), "4|6", "Only this IP version", choices=("4", "6"), shorthands=VERSION_SHORTHANDS),
    ] = None

    def act(self, host: Host) -> Look:
        name = host.container(self.container).name if self.container is not None else None
        return ListHoldings(name, self.version)
