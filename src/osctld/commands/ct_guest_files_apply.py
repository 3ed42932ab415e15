"""Write the files of a container's network tool now."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ActCommand, Action, ApplyGuestFiles, ContainerName, Example
from osctld.core.config.host import Host


class CtGuestFilesApply(ActCommand, frozen=True, kw_only=True):
    """Write the files of the network tool inside now, whether or not the container is running.

    For a container whose guest files are only reported, or whose tenant has changed them. A running tool reads them
    again.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "guest-files", "apply")
    keeps_failures: ClassVar[bool] = False
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct guest-files apply myct01", "Make the files inside agree with the configuration"),
    )

    container: ContainerName

    def act(self, host: Host) -> Action:
        return ApplyGuestFiles(host.container(self.container).name)
