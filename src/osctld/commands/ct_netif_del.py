"""Delete an interface."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ContainerName, EditCommand, Edited, Example, InterfaceName
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings


class CtNetifDel(EditCommand, frozen=True, kw_only=True):
    """Delete an interface with its addresses and routes; a running container loses it at once."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif del myct01 eth0", "Delete an interface, even while the container is running"),
    )

    container: ContainerName
    netif: InterfaceName

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        return Edited(host.with_container(container.without_interface(self.netif)), container.name)
