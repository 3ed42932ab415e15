"""Cisco IOS and IOS XE: lines for the configuration mode. IPv4 networks are written with a mask."""

from __future__ import annotations

import re
from collections.abc import Sequence

from osctld.announce.static.dialect import Commands
from osctld.core.address.addresses import Address, PackedNetwork, network_texts
from osctld.core.address.next_hop import NextHop

_MASKS = tuple(str(Address(4, 0xFFFFFFFF << 32 - length & 0xFFFFFFFF)) for length in range(33))
_LENGTHS = {mask: length for length, mask in enumerate(_MASKS)}


class Ios(Commands):
    name = "ios"
    title = "Cisco IOS and IOS XE"
    is_linux = False
    pattern = re.compile(
        r"^ip(?:v6)? route (?P<network>\S+/\d+|\S+ [\d.]+)(?: (?P<link>\S+))? (?P<hop>\S+)$", re.MULTILINE
    )

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        link = f" {hop.link}" if hop.link else ""
        return f"{'ip' if version == 4 else 'ipv6'} route ", f"{link} {hop.address}"

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        before, behind = self.ends(version, hop)
        return f"no {before}", behind

    def texts(self, networks: Sequence[PackedNetwork]) -> Sequence[str]:
        texts = network_texts(networks)
        if networks and len(networks[0]) != 5:
            return texts
        return [f"{address} {_MASKS[int(length)]}" for address, _, length in (each.partition("/") for each in texts)]

    def network_of(self, text: str) -> str:
        address, blank, mask = text.partition(" ")
        return f"{address}/{_LENGTHS[mask]}" if blank else text


DIALECT = Ios()
