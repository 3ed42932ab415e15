"""What the host uses of the address space for itself, outside of our own links."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from osctld.core.addresses import BITS, Network


class HostNetwork(msgspec.Struct, frozen=True, order=True):
    """An address of the host (`is_address`, its network is that one address), or a network that it has a unicast
    route to: a connected one or one that somebody wrote down, on `link`."""

    network: Network
    link: str
    is_address: bool = False

    def __str__(self) -> str:
        if self.is_address:
            return f"{self.network.address} is an address of the host, on {self.link}"
        return f"{self.network} is in use on the host, on {self.link}"


def networks_of_others(found: Iterable[HostNetwork], our_links: Iterable[str]) -> Iterator[HostNetwork]:
    """Those that count against somebody who wants a network: not on links of ours, not link-local, not everything.

    Every IPv6 link has fe80::/64, and a default route says nothing about who uses what.
    """
    ours = frozenset(our_links)
    for each in found:
        if each.link not in ours and each.network.length > 0 and not _EVERYWHERE.includes(each.network):
            yield each


_EVERYWHERE = Network(6, 0xFE80 << (BITS[6] - 16), 10)
