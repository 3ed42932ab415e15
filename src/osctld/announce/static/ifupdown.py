"""ifupdown: stanzas for the end of /etc/network/interfaces.

A link may have several stanzas, which are brought up in their order: these have to follow the one with the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from osctld.announce.static.dialect import File
from osctld.announce.static.ip import way
from osctld.announce.static_routes import StaticRoutes

_FAMILIES = {4: "inet", 6: "inet6"}


class Ifupdown(File):
    name = "ifupdown"
    title = "ifupdown"
    place = "for the end of /etc/network/interfaces"
    takes_ipv4_via_ipv6 = True
    requires_link = True
    shapes = re.compile(r"iface \S+ inet6? manual|    up ip route replace \S+ via (?:inet6 )?\S+ dev \S+ proto static")
    pattern = re.compile(
        r"^    up ip route replace (?P<network>\S+) via (?:inet6 )?(?P<hop>\S+) dev (?P<link>\S+) proto static$",
        re.MULTILINE,
    )

    def body(self, routes: Sequence[StaticRoutes]) -> Iterator[str]:
        for each in routes:
            behind = way(each.version, each.next_hop)
            yield from ("", f"iface {each.next_hop.link} {_FAMILIES[each.version]} manual")
            yield from [f"    up ip route replace {text}{behind}" for text in self.texts(each.networks)]


DIALECT = Ifupdown()
