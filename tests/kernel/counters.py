"""What the packet filter counts, read all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from osctld.core.plan import packet_filter
from osctld.shell.kernel.nftables import Nftables


def counted() -> dict[str, dict[str, int]]:
    """Packets counted per host link, by the name of the set of our table that counts them."""
    nftables = Nftables()
    found: dict[str, dict[str, int]] = {}
    counters = [(packet_filter.TABLE, each) for each in packet_filter.COUNTERS]
    counters += [(packet_filter.ARP_TABLE, each) for each in packet_filter.ARP_COUNTERS]
    counters += [(packet_filter.BRIDGE_TABLE, each) for each in packet_filter.BRIDGE_COUNTERS]
    for table, name in counters:
        for element in _elements(nftables, table, name):
            link, packets = element["elem"]["val"], element["elem"]["counter"]["packets"]
            of_link = found.setdefault(link, {})
            of_link[name] = of_link.get(name, 0) + packets
    nftables.close()
    return found


def _elements(nftables: Nftables, table: str, name: str) -> Sequence[dict[str, Any]]:
    for item in nftables.list(f"list set {table} {name}") or ():
        if "set" in item:
            elements: Sequence[dict[str, Any]] = item["set"].get("elem", ())
            return elements
    return ()
