"""Take back that containers may use the networks of a link."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, DeclareUplink, Example
from osctld.core.config.host import Host
from osctld.core.errors import Refused


class NetUplinkDel(ActCommand, frozen=True, kw_only=True):
    """Take back that containers may use addresses of the networks of a link.

    What they use already stays; osctl self check tells of it.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "uplink", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net uplink del up0", "Give out no more addresses of the networks on up0"),
    )

    link: Annotated[str, Argument("Link", metavar="link", completes="uplink")]

    def act(self, host: Host) -> Action:
        if self.link not in host.uplinks:
            raise Refused(f"{self.link!r}: not declared", code="uplink-not-found", subject=self.link)
        return DeclareUplink(self.link, is_declared=False)
