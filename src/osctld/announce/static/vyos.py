"""VyOS: commands for the configuration mode, which `commit` applies at once.

The next hop of a `route` is an IPv4 address, that of a `route6` an IPv6 address.
"""

from __future__ import annotations

import re

from osctld.announce.static.dialect import Commands
from osctld.core.address.next_hop import NextHop


class Vyos(Commands):
    name = "vyos"
    title = "VyOS"
    removes_first = True
    pattern = re.compile(
        r"^set protocols static route6? (?P<network>\S+) next-hop (?P<hop>\S+)(?: interface (?P<link>\S+))?$",
        re.MULTILINE,
    )

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        link = f" interface {hop.link}" if hop.link else ""
        return f"set {_node(version)} ", f" next-hop {hop.address}{link}"

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:  # noqa: ARG002 - the whole route
        return f"delete {_node(version)} ", ""


def _node(version: int) -> str:
    return f"protocols static {'route' if version == 4 else 'route6'}"


DIALECT = Vyos()
