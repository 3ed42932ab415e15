"""Our nftables table as it is in the kernel: commands that change it, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from osctld.core import packet_filter
from osctld.core.changes import Change, Remove, subject_of
from osctld.core.kernel_state import HOST, PacketFilter, SiblingLinks
from osctld.shell.nftables import Nftables


def command(nftables: Nftables, change: Change) -> str:
    """What nft takes for a change of the table or of an element of it.

    A table that replaces another one takes its pairs of siblings over, in the same transaction: containers run.
    """
    subject = subject_of(change)
    is_removal = isinstance(change, Remove)
    match subject:
        case SiblingLinks():
            return _element("delete" if is_removal else "add", subject)
        case PacketFilter() if is_removal:
            return packet_filter.removal()
        case PacketFilter():
            kept = [_element("add", each) for each in siblings(nftables)]
            return packet_filter.script(subject) + "\n".join(kept)
        case _:
            raise TypeError(subject)


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


def siblings(nftables: Nftables) -> Iterator[SiblingLinks]:
    """Pairs of siblings. A link that is gone shows as its bare number."""
    for element in _elements(nftables, "siblings"):
        link, sibling = element["concat"]
        yield SiblingLinks(HOST, str(link), str(sibling))


def dropped(nftables: Nftables) -> dict[str, dict[str, int]]:
    """Packets dropped per host link: by `spoofed` and `bounced`, as the sets of our table count them."""
    found: dict[str, dict[str, int]] = {}
    for name in ("spoofed", "bounced"):
        for element in _elements(nftables, name):
            link, packets = element["elem"]["val"], element["elem"]["counter"]["packets"]
            found.setdefault(link, {})[name] = packets
    return found


def _element(verb: str, pair: SiblingLinks) -> str:
    words = " . ".join(each if each.isdigit() else f'"{each}"' for each in (pair.link, pair.sibling))
    return f"{verb} element {packet_filter.TABLE} siblings {{ {words} }}"


def _elements(nftables: Nftables, name: str) -> Sequence[dict[str, Any]]:
    for item in nftables.list(f"list set {packet_filter.TABLE} {name}") or ():
        if "set" in item:
            elements: Sequence[dict[str, Any]] = item["set"].get("elem", ())
            return elements
    return ()
