"""The next hop of a route on a router: an address of this host, and where it matters the router's link to it."""

from __future__ import annotations

import re
from typing import Self

import msgspec

from osctld.core.address.addresses import Address, Network, reason_not_unicast
from osctld.core.errors import Refused

#: Names of links on routers of all kinds, from eth0 to GigabitEthernet0/0/1 and ge-0/0/0.100. Nothing that a shell,
#: YAML or a router's command line could take for more than a word.
_LINK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}", re.ASCII)

#: RFC 4291 2.5.6. The same address may be there on each link.
_LINK_LOCAL = Network.parse("fe80::/10")


class NextHop(msgspec.Struct, frozen=True):
    """An address, and the name that the router has for its link to it; empty where the address says enough."""

    address: Address
    link: str = ""

    def __str__(self) -> str:
        return f"{self.address}%{self.link}" if self.link else str(self.address)

    @property
    def version(self) -> int:
        return self.address.version

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ADDR` or `ADDR%LINK`. Raises Refused, quoting the text, for what can be no next hop."""
        bare, percent, link = text.partition("%")
        try:
            address = Address.parse(bare)
        except Refused:
            raise Refused(f"{text!r} is not an IP address", code="bad-address", subject=text) from None
        reason = reason_not_unicast(address)
        if reason is not None:
            raise Refused(f"{text}: {reason} cannot be a next hop", code="bad-next-hop", subject=text)
        if percent and not _LINK.fullmatch(link):
            raise Refused(f"{text!r}: {link!r} is not the name of a link", code="bad-name", subject=text)
        if not link and _LINK_LOCAL.includes(address):
            raise Refused(
                f"{text}: a link-local next hop requires the router's link to it, as in {text}%eth0",
                code="bad-next-hop",
                subject=text,
            )
        return cls(address, link)
