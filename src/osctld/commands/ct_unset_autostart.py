"""Do not start a container with the host."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from osctld.core.command import ContainerName, EditCommand, Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings


class CtUnsetAutostart(EditCommand, frozen=True, kw_only=True):
    """Do not start a container with the host.

    A container that was running when the host went down is still started again.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "unset", "autostart")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct unset autostart myct01", "Start it at boot only if it was running before"),
    )

    container: ContainerName

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        return Edited(host.with_container(msgspec.structs.replace(container, autostart=None)), container.name)
