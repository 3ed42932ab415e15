"""Let a container run no containers of its own."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ContainerName, EditCommand, Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings


class CtUnsetNesting(EditCommand, frozen=True, kw_only=True):
    """Forbid nested containers, which is the default.

    Takes effect for a running container at its next start.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "unset", "nesting")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct unset nesting myct01", "Forbid nested containers once docker is removed"),
    )

    container: ContainerName

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container).with_nesting(has_nesting=False)
        return Edited(host.with_container(container), container.name)
