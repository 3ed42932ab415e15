"""Show one container."""

from __future__ import annotations

from typing import ClassVar

from osctld.commands.ct_ls import COLUMNS, container_row
from osctld.core.command import Column, ContainerName, Example, Listing, Observed, Reply, ShowOptions, ViewCommand
from osctld.core.config.host import Host


class CtShow(ViewCommand, ShowOptions, frozen=True, kw_only=True):
    """Show one container in detail."""

    words: ClassVar[tuple[str, ...]] = ("ct", "show")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct show myct01", "Show a container in detail"),
        Example("osctl ct show -H -o init_pid myct01", "Show the process id of its init process, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    container: ContainerName

    def view(self, host: Host, observed: Observed) -> Reply:
        row = container_row(host.container(self.container), observed)
        return Listing(columns=COLUMNS, shown=tuple(each.name for each in COLUMNS), rows=(row,), is_record=True)
