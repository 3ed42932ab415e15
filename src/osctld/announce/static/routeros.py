"""MikroTik RouterOS: commands for a terminal or for `import`, in the spelling that versions 6 and 7 have in common.

RouterOS takes the same route twice: the commands are for a router that does not have the routes yet.
"""

from __future__ import annotations

import re

from osctld.announce.static.dialect import Commands
from osctld.core.address.next_hop import NextHop


class RouterOs(Commands):
    name = "routeros"
    title = "MikroTik RouterOS"
    is_linux = False
    pattern = re.compile(
        r"^/ipv?6? route add dst-address=(?P<network>\S+) gateway=(?P<hop>[^\s%]+)(?:%(?P<link>\S+))?$", re.MULTILINE
    )

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        return f"{_menu(version)} add dst-address=", f" gateway={hop}"

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        # In quotes: behind `find` comes an expression, in which a slash and a percent sign calculate.
        return f'{_menu(version)} remove [find dst-address="', f'" gateway="{hop}"]'


def _menu(version: int) -> str:
    return "/ip route" if version == 4 else "/ipv6 route"


DIALECT = RouterOs()
