"""Let a container run containers of its own."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ContainerName, EditCommand, Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings


class CtSetNesting(EditCommand, frozen=True, kw_only=True):
    """Allow nested containers: LXC, docker, podman.

    The container's AppArmor profile then lets it mount file systems and load profiles of its own, and /dev/.lxc holds a
    full /proc and /sys. A running container gets this at its next start.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "set", "nesting")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct set nesting myct01", "Prepare a container for docker"),
    )

    container: ContainerName

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container).with_nesting(has_nesting=True)
        return Edited(host.with_container(container), container.name)
