"""The command that creates a bridged interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import UsageError
from osctld.netif.bridge.interface import new_interface
from osctld.netif.bridge.options import BridgeProperties


class CtNetifNewBridge(EditCommand, BridgeProperties, frozen=True, kw_only=True):
    """Create a bridged interface: a veth pair whose host end is a port of a bridge.

    The bridge is the administrator's: osctld neither creates nor changes it. If it disappears while the container is
    running, the interface is attached again as soon as it is back. A running container gets the interface at once.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "new", "bridge")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif new bridge --link br0 myct02 lan0", "Attach the container to a bridge; it uses DHCP"),
        Example(
            "osctl ct netif new bridge --link br0 --no-dhcp --gateway-v4 10.9.0.254 myct02 lan1",
            "Attach it for static addresses, with a router on the bridge as gateway",
        ),
    )

    container: ContainerName
    netif: Annotated[str, Argument("Name of the interface inside the container", metavar="netif")]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        if self.link is None:
            raise UsageError("link is required: --link BRIDGE")
        before = host.container(self.container)
        made = new_interface(host, before, self.netif, bridge=self.link)
        after = before.with_new_interface(self.applied(made, surroundings))
        return Edited(host.with_container(after), after.name)
