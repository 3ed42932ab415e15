"""FRRouting: lines of its configuration, for vtysh.

Of IPv4 routes, staticd takes an IPv4 next hop alone (tried with 8.4).
"""

from __future__ import annotations

import re

from osctld.announce.static.dialect import Commands
from osctld.core.address.next_hop import NextHop


class Frr(Commands):
    name = "frr"
    title = "FRRouting"
    pattern = re.compile(r"^(?:ip|ipv6) route (?P<network>\S+) (?P<hop>\S+)(?: (?P<link>\S+))?$", re.MULTILINE)

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        link = f" {hop.link}" if hop.link else ""
        return f"{'ip' if version == 4 else 'ipv6'} route ", f" {hop.address}{link}"

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        before, behind = self.ends(version, hop)
        return f"no {before}", behind


DIALECT = Frr()
