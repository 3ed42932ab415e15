"""Declare a link whose networks containers may use."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, DeclareUplink, Example
from osctld.core.config.host import Host, check_link_name


class NetUplinkAdd(ActCommand, frozen=True, kw_only=True):
    """Declare that containers may use addresses of the networks that a link of the host is in.

    Without that they are refused: they belong to neighbours on that link. The host's own addresses, its next hops, and
    network and broadcast addresses are refused all the same, and so is the network as a whole. That the neighbours
    send packets for such an address to this host is to be seen to on their side, for example by a static route.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "uplink", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net uplink add up0", "Let containers have addresses of the networks on up0"),
    )

    link: Annotated[str, Argument("Link of the host", metavar="link", completes="link")]

    def act(self, host: Host) -> Action:
        check_link_name(self.link)
        return DeclareUplink(self.link, is_declared=True)
