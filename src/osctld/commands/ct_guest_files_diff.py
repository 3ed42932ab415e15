"""Show what would be written into the files of a container's network tool."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ContainerName, Example, Look, LookCommand, ShowGuestFiles
from osctld.core.config.host import Host


class CtGuestFilesDiff(LookCommand, frozen=True, kw_only=True):
    """Show how the files of the network tool inside differ from the configuration, as a unified diff.

    Prints nothing if they agree, or if no network tool is found inside. Lines that begin with # say what is left as it
    is, and why.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "guest-files", "diff")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct guest-files diff myct01", "Show what osctld would write inside a container"),
    )

    container: ContainerName

    def act(self, host: Host) -> Look:
        return ShowGuestFiles(host.container(self.container).name)
