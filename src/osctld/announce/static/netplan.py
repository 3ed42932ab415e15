"""netplan: a file of /etc/netplan that comes after the one that describes the link. Lists of several files are joined.

netplan wants to know of which kind a link is, and refuses a wrong one. The name says it: most routers have the usual
ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from osctld.announce.static.dialect import File
from osctld.announce.static_routes import StaticRoutes

#: Kinds of links by what their names look like; all others are Ethernet.
_KINDS = (
    ("bonds", re.compile(r"bond\w*")),
    ("bridges", re.compile(r"br-?\w*")),
    ("vlans", re.compile(r"vlan[\w-]*|.+\.\d+")),
    ("tunnels", re.compile(r"(?:tun|wg|gre|sit|ipip|vti|vxlan)\w*")),
)
_ETHERNET = "ethernets"


class Netplan(File):
    name = "netplan"
    title = "netplan"
    place = "a file for /etc/netplan"
    requires_link = True
    shapes = re.compile(
        r"network:|  version: 2|  [a-z]+:|    [^\s:]+:|      routes:|        - to: \"\S+\"|          via: \"\S+\""
    )
    pattern = re.compile(
        r'^    (?P<link>\S+):$|^        - to: "(?P<network>\S+)"\n          via: "(?P<hop>\S+)"$', re.MULTILINE
    )

    def body(self, routes: Sequence[StaticRoutes]) -> Iterator[str]:
        by_kind: dict[str, dict[str, list[StaticRoutes]]] = {}
        for each in routes:
            link = each.next_hop.link
            by_kind.setdefault(_kind(link), {}).setdefault(link, []).append(each)
        yield from ("network:", "  version: 2")
        for kind, by_link in by_kind.items():
            yield f"  {kind}:"
            for link, through_it in by_link.items():
                yield from (f"    {link}:", "      routes:")
                for each in through_it:
                    for text in self.texts(each.networks):
                        # In quotes: an address may end in a colon, which would end a key of YAML.
                        yield from (f'        - to: "{text}"', f'          via: "{each.next_hop.address}"')


def _kind(link: str) -> str:
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(link)), _ETHERNET)


DIALECT = Netplan()
