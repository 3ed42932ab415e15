"""iproute2: lines for `ip -batch`.

`replace` makes a route, or gives an existing one of the same network another next hop, so that the lines can be applied
again. Protocol `static` says that an operator made the routes: routing daemons leave them alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from osctld.announce.static.dialect import Commands
from osctld.announce.static_routes import Difference, StaticRoutes
from osctld.core.address.next_hop import NextHop


class Ip(Commands):
    name = "ip"
    title = "iproute2"
    takes_ipv4_via_ipv6 = True
    pattern = re.compile(
        r"^route replace (?P<network>\S+) via (?:inet6 )?(?P<hop>\S+)(?: dev (?P<link>\S+))? proto static$",
        re.MULTILINE,
    )

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        return "route replace ", way(version, hop)

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        return "route del ", way(version, hop)

    def removed(self, difference: Difference) -> Iterable[StaticRoutes]:
        return difference.only_removed()


def way(version: int, hop: NextHop) -> str:
    """What follows the network in a command of iproute2."""
    family = "inet6 " if hop.version != version else ""
    link = f" dev {hop.link}" if hop.link else ""
    return f" via {family}{hop.address}{link} proto static"


DIALECT = Ip()
