"""Delete a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, ContainerName, DeleteContainer, Example, Flag
from osctld.core.config.host import Host


class CtDel(ActCommand, frozen=True, kw_only=True):
    """Delete a container, its root directory and its interfaces; its addresses become free."""

    words: ClassVar[tuple[str, ...]] = ("ct", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct del myct02", "Delete a stopped container"),
        Example("osctl ct del --force myct01", "Stop a container and delete it"),
    )

    container: ContainerName
    force: Annotated[bool, Flag(("-f", "--force"), "If the container is running, stop it first")] = False

    def act(self, host: Host) -> Action:
        return DeleteContainer(host.container(self.container).name, self.force)
