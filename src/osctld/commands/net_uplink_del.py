"""Stop allowing containers to use the networks of a link."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, DeclareUplink, Example
from osctld.core.config.host import Host
from osctld.core.errors import Refused


class NetUplinkDel(ActCommand, frozen=True, kw_only=True):
    """Stop allowing containers to use addresses from the networks of a link.

    Addresses that are already in use stay; osctl self check reports them.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "uplink", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net uplink del up0", "Let containers take no more addresses from the networks on up0"),
    )

    link: Annotated[str, Argument("Link", metavar="link", completes="uplink")]

    def act(self, host: Host) -> Action:
        if self.link not in host.uplinks:
            raise Refused(f"{self.link!r}: not a declared uplink", code="uplink-not-found", subject=self.link)
        return DeclareUplink(self.link, is_declared=False)
