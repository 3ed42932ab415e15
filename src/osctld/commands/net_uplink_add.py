"""Allow containers to use the networks of a link."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, DeclareUplink, Example
from osctld.core.config.host import Host, check_link_name


class NetUplinkAdd(ActCommand, frozen=True, kw_only=True):
    """Allow containers to use addresses from the networks that a link of the host is connected to.

    Otherwise they are refused, because they belong to the neighbours on that link. The host's own addresses, its next
    hops, network and broadcast addresses, and the network as a whole are still refused. The neighbours have to be
    configured to send packets for such an address to this host, for example with a static route.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "uplink", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net uplink add up0", "Let containers use addresses from the networks on up0"),
    )

    link: Annotated[str, Argument("Link of the host", metavar="link", completes="link")]

    def act(self, host: Host) -> Action:
        check_link_name(self.link)
        return DeclareUplink(self.link, is_declared=True)
