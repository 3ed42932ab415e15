"""Delete an interface."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ContainerName, EditCommand, Edited, Example, InterfaceName
from osctld.core.host import Host


class CtNetifDel(EditCommand, frozen=True, kw_only=True):
    """Delete an interface with its addresses and routes; from a running container at once."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif del myct01 eth0", "Take an interface away, also while the container runs"),
    )

    container: ContainerName
    netif: InterfaceName

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        return Edited(host.with_container(container.without_interface(self.netif)), container.name)
