"""Delete an interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, EditCommand, Edited, Example
from osctld.core.host import Host


class CtNetifDel(EditCommand, frozen=True, kw_only=True):
    """Delete an interface with its addresses and routes; from a running container at once."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif del myct01 eth0", "Take an interface away, also while the container runs"),
    )

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Interface", metavar="netif", completes="interface")]

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        return Edited(host.with_container(container.without_interface(self.netif)), container.name)
