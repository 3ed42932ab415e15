"""Take back what was written into the files of a container's network tool."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ActCommand, Action, ContainerName, Example, RestoreGuestFiles
from osctld.core.config.host import Host


class CtGuestFilesRestore(ActCommand, frozen=True, kw_only=True):
    """Remove what osctld wrote into the files of the network tool inside, and put back the lines of the tenant.

    Refused while the container's guest files are set to write: they would be written again.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "guest-files", "restore")
    keeps_failures: ClassVar[bool] = False
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct guest-files restore --dry-run myct01", "Show which lines of the tenant would be put back"),
    )

    container: ContainerName

    def act(self, host: Host) -> Action:
        return RestoreGuestFiles(host.container(self.container).name)
