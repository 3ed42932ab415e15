"""systemd-networkd: a drop-in file for the .network file of the router's link to this host.

Not a .network file: only the first one that matches a link counts, and the link would lose its addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from osctld.announce.static.dialect import File
from osctld.announce.static_routes import StaticRoutes
from osctld.core.address.next_hop import NextHop


class Networkd(File):
    name = "networkd"
    title = "systemd-networkd"
    place = "a drop-in for the .network file of the link"
    takes_ipv4_via_ipv6 = True
    shapes = re.compile(r"\[Route\]|(?:Destination|Gateway)=\S+")
    pattern = re.compile(
        r"^# Printed by .* of the link (?P<link>\S+)$"
        r"|^\[Route\]\nDestination=(?P<network>\S+)\nGateway=(?P<hop>\S+)$",
        re.MULTILINE,
    )

    def prepared(self, next_hops: Mapping[int, NextHop]) -> Mapping[int, NextHop]:
        """The same, all of them on the one link that has the file."""
        next_hops = super().prepared(next_hops)
        linked = [each for each in next_hops.values() if each.link]
        for each in linked[1:]:
            if each.link != linked[0].link:
                raise self._refusal(each, f"networkd has one file for each link, and {linked[0]} is on another")
        if not linked:
            return next_hops
        link = linked[0].link
        return {version: msgspec.structs.replace(each, link=link) for version, each in next_hops.items()}

    def lines(self, routes: Sequence[StaticRoutes]) -> list[str]:
        link = next((f" {each.next_hop.link}" for each in routes if each.next_hop.link), "")
        return [f"{self.heading()}{link}", *self.body(routes)]

    def body(self, routes: Sequence[StaticRoutes]) -> Iterator[str]:
        for each in routes:
            for text in self.texts(each.networks):
                yield from ("", "[Route]", f"Destination={text}", f"Gateway={each.next_hop.address}")


DIALECT = Networkd()
