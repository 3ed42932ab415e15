"""Our nftables table as it is in the kernel: commands that change it, and what it holds."""

from __future__ import annotations

from collections.abc import Iterable

from osctld.core.plan import packet_filter
from osctld.core.plan.changes import Change, Remove, subject_of
from osctld.core.plan.kernel_state import FilterElement, PacketFilter
from osctld.shell.kernel.nftables import Nftables


def command(change: Change, filling: Iterable[FilterElement]) -> str:
    """What nft takes for a change of the whole table.

    One that is made gets these elements in the same transaction: containers run.
    """
    subject = subject_of(change)
    assert isinstance(subject, PacketFilter)
    if isinstance(change, Remove):
        return packet_filter.removal()
    filling = list(filling)
    elements = (packet_filter.element(each) for each in filling)
    return (
        packet_filter.script(subject)
        + packet_filter.sets_of_links(filling)
        + "".join(f"add element {place} {{ {key} }}\n" for place, key, _ in elements)
    )


def present(nftables: Nftables) -> PacketFilter | None:
    """The tables that are there, by their mark; None when one or rules of the first are missing, or it bears none.

    How many rules another version had is not known: whatever is left of them, they are replaced.
    """
    items = nftables.list(f"list table {packet_filter.TABLE}", terse=True) or ()
    chains = [item["chain"]["name"] for item in items if "chain" in item]
    found = next((each for each in map(packet_filter.read_mark, chains) if each is not None), None)
    if found is None:
        return None
    is_whole = sum("rule" in item for item in items) == packet_filter.rules(found, chains)
    if found.version == packet_filter.VERSION and not is_whole:
        return None
    tables = (item.get("table", {}) for item in nftables.list("list tables") or ())
    there = {f"{each.get('family')} {each.get('name')}" for each in tables}
    return found if there.issuperset(packet_filter.TABLES) else None
