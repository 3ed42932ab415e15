"""Show one container."""

from __future__ import annotations

from typing import ClassVar

from osctld.commands.ct_ls import COLUMNS, container_row
from osctld.core.command import Column, ContainerName, Example, Listing, Observed, Reply, ShowOptions, ViewCommand
from osctld.core.host import Host


class CtShow(ViewCommand, ShowOptions, frozen=True, kw_only=True):
    """Show all that is known of one container."""

    words: ClassVar[tuple[str, ...]] = ("ct", "show")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct show myct01", "All that is known of a container"),
        Example("osctl ct show -H -o init_pid myct01", "The process id of its first process, for a script"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    container: ContainerName

    def view(self, host: Host, observed: Observed) -> Reply:
        row = container_row(host.container(self.container), observed)
        return Listing(columns=COLUMNS, shown=tuple(each.name for each in COLUMNS), rows=(row,), is_record=True)
