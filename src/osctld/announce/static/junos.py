"""Junos: commands for the configuration mode, which `commit` applies at once.

A next hop on a named link is a qualified one: only there Junos takes a link beside the address.
"""

from __future__ import annotations

import re

from osctld.announce.static.dialect import Commands
from osctld.core.address.next_hop import NextHop

_TABLES = {4: "routing-options static route", 6: "routing-options rib inet6.0 static route"}


class Junos(Commands):
    name = "junos"
    title = "Junos"
    is_linux = False
    removes_first = True
    pattern = re.compile(
        r"^set routing-options (?:rib inet6\.0 )?static route (?P<network>\S+) "
        r"(?:qualified-)?next-hop (?P<hop>\S+)(?: interface (?P<link>\S+))?$",
        re.MULTILINE,
    )

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        way = f"qualified-next-hop {hop.address} interface {hop.link}" if hop.link else f"next-hop {hop.address}"
        return f"set {_TABLES[version]} ", f" {way}"

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:  # noqa: ARG002 - the whole route
        return f"delete {_TABLES[version]} ", ""


DIALECT = Junos()
