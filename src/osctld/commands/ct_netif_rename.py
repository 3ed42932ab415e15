"""Rename an interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import NAME_OF_INTERFACE, Argument, ContainerName, EditCommand, Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings


class CtNetifRename(EditCommand, frozen=True, kw_only=True):
    """Rename an interface inside its container, even while the container is running.

    Addresses, routes, their order and the name of the host end are kept.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "rename")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif rename myct01 eth0 wan0",
            "Rename an interface, even while the container is running",
        ),
    )

    container: ContainerName
    netif: Annotated[
        str | None,
        Argument(
            "Interface; may be omitted if the container has only one",
            metavar="old-name",
            completes="interface",
            fits=NAME_OF_INTERFACE,
        ),
    ] = None
    new_name: Annotated[str, Argument("New name", metavar="new-name", fits=NAME_OF_INTERFACE)]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container).with_renamed_interface(self.netif, self.new_name)
        return Edited(host.with_container(container), container.name)
