"""Our nftables table as it is in the kernel: commands that change it, and what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from osctld.core import packet_filter
from osctld.core.changes import Change, Remove, subject_of
from osctld.core.kernel_state import FilterElement, PacketFilter
from osctld.shell.nftables import Nftables


def command(change: Change, filling: Iterable[FilterElement]) -> str:
    """What nft takes for a change of the whole table.

    One that is made gets these elements in the same transaction: containers run.
    """
    subject = subject_of(change)
    assert isinstance(subject, PacketFilter)
    if isinstance(change, Remove):
        return packet_filter.removal()
    elements = (packet_filter.element(each) for each in filling)
    return packet_filter.script(subject) + "".join(f"add element {place} {{ {key} }}\n" for place, key, _ in elements)


def present(nftables: Nftables) -> PacketFilter | None:
    """The table that is there, by its mark; None when there is none, it bears none, or rules of it are missing."""
    items = nftables.list(f"list table {packet_filter.TABLE}", terse=True) or ()
    if sum("rule" in item for item in items) != packet_filter.RULES:
        return None
    for item in items:
        found = packet_filter.read_mark(item.get("chain", {}).get("name", ""))
        if found is not None:
            return found
    return None


def counted(nftables: Nftables) -> dict[str, dict[str, int]]:
    """Packets counted per host link, by the name of the set of our table that counts them."""
    found: dict[str, dict[str, int]] = {}
    for name in packet_filter.COUNTERS:
        for element in _elements(nftables, name):
            link, packets = element["elem"]["val"], element["elem"]["counter"]["packets"]
            found.setdefault(link, {})[name] = packets
    return found


def _elements(nftables: Nftables, name: str) -> Sequence[dict[str, Any]]:
    for item in nftables.list(f"list set {packet_filter.TABLE} {name}") or ():
        if "set" in item:
            elements: Sequence[dict[str, Any]] = item["set"].get("elem", ())
            return elements
    return ()
