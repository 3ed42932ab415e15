"""BIRD 2 and 3: a file to be included.

The protocols are named after their next hop, so that a router can include the files of many hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from osctld.announce.static.dialect import File
from osctld.announce.static_routes import StaticRoutes
from osctld.core.address.next_hop import NextHop


class Bird(File):
    name = "bird"
    title = "BIRD 2 and 3"
    place = "a file to include"
    takes_ipv4_via_ipv6 = True
    shapes = re.compile(r"protocol static \w+ \{|    ipv[46];|    route \S+ via \S+;|\}")
    pattern = re.compile(r"^    route (?P<network>\S+) via (?P<hop>[^\s%;]+)(?:%'(?P<link>[^\s']+)')?;$", re.MULTILINE)

    def body(self, routes: Sequence[StaticRoutes]) -> Iterator[str]:
        for each in routes:
            hop = each.next_hop
            # In quotes a name may have any character.
            link = f"%'{hop.link}'" if hop.link else ""
            yield f"protocol static {_symbol(each.version, hop)} {{"
            yield f"    ipv{each.version};"
            yield from [f"    route {text} via {hop.address}{link};" for text in self.texts(each.networks)]
            yield "}"


def _symbol(version: int, hop: NextHop) -> str:
    return f"osctl_static{version}_" + re.sub(r"\W", "_", str(hop), flags=re.ASCII)


DIALECT = Bird()
