"""Rename an interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example
from osctld.core.host import Host


class CtNetifRename(EditCommand, frozen=True, kw_only=True):
    """Rename an interface inside its container; in a running one at once.

    Its addresses and routes, their order, and the host's name for the other end stay.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "rename")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif rename myct01 eth0 wan0",
            "Give an interface another name, also while the container runs",
        ),
    )

    container: ContainerName
    netif: Annotated[str, Argument("Interface", metavar="old-name", completes="interface")]
    new_name: Annotated[str, Argument("Its new name", metavar="new-name")]

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container).with_renamed_interface(self.netif, self.new_name)
        return Edited(host.with_container(container), container.name)
