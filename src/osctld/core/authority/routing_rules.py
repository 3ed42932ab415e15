"""The host's routing rules: which packets look elsewhere before the main table, which has the routes to containers.

A rule that sends packets to another table takes from containers what is in that table, however good our routes are.
The look-up of our packet filter (`fib`) obeys rules, too: those for what the host itself sends, though what it asks
about comes from containers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from osctld.core.address.addresses import Address, Network
from osctld.core.plan.kernel_state import MAIN_TABLE

LOCAL_TABLE, DEFAULT_TABLE = 255, 253
#: Where routes to containers are, and what the host has itself.
USUAL_TABLES = (MAIN_TABLE, LOCAL_TABLE, DEFAULT_TABLE)
_NAMES = {LOCAL_TABLE: "local", MAIN_TABLE: "main", DEFAULT_TABLE: "default"}

#: Of what the host itself sends.
LOOPBACK = "lo"

#: What a rule does that looks into a table.
LOOKUP = "lookup"


class Rule(msgspec.Struct, frozen=True):
    """A rule as the kernel reports it. `action` is `lookup`, `goto`, `nop`, `blackhole`, `unreachable` or `prohibit`.

    `mark` is a value and its mask. `more` are further selectors, as ip-rule(8) spells them.
    """

    version: int
    priority: int
    table: int = 0
    action: str = LOOKUP
    source: Network | None = None
    destination: Network | None = None
    iif: str = ""
    oif: str = ""
    mark: tuple[int, int] | None = None
    is_inverted: bool = False
    suppressed_length: int = -1
    more: str = ""

    def __str__(self) -> str:
        return f"{self.priority}: {self._words}"

    @property
    def removal(self) -> str:
        """The command that takes it away."""
        return f"ip{' -6' if self.version == 6 else ''} rule del pref {self.priority} {self._words}"

    @property
    def _words(self) -> str:
        words = ["not"] if self.is_inverted else []
        words += ["from", str(self.source) if self.source is not None else "all"]
        words += ["to", str(self.destination)] if self.destination is not None else []
        words += ["iif", self.iif] if self.iif else []
        words += ["oif", self.oif] if self.oif else []
        if self.mark is not None:
            value, mask = self.mark
            words += ["fwmark", f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}"]
        words += [self.more] if self.more else []
        words += [LOOKUP, table_name(self.table)] if self.action == LOOKUP else [self.action]
        words += ["suppress_prefixlength", str(self.suppressed_length)] if self.suppressed_length >= 0 else []
        return " ".join(words)

    @property
    def takes_all(self) -> bool:
        """Whether it is for every packet."""
        selectors = (self.source, self.destination, self.mark)
        has_one = any(each is not None for each in selectors) or self.iif or self.oif or self.more
        return not has_one and not self.is_inverted

    def may_take(self, address: Address, *, iif: str, source: Address | None) -> bool:
        """Whether a packet to an address, coming by a link or sent by the host, may be taken by it. What it cannot be
        said of, may be."""
        fits = (
            (self.destination is None or self.destination.includes(address))
            and (self.source is None or source is None or self.source.includes(source))
            and (not self.iif or self.iif == (iif or LOOPBACK))
            and not self.oif
            and (self.mark is None or self.mark[0] & self.mark[1] == 0)
        )
        return fits is not self.is_inverted

    @property
    def may_mislead_filter(self) -> bool:
        """Whether the packet filter's look-up, as if the host sent to the source of a packet, may be taken by it."""
        is_of_others = self.iif not in ("", LOOPBACK) or bool(self.oif)
        has_mark = self.mark is not None and self.mark[0] & self.mark[1] != 0
        return (not is_of_others and not has_mark) or self.is_inverted


def table_name(number: int) -> str:
    return _NAMES.get(number, str(number))


def before_main(rules: Iterable[Rule], version: int) -> Sequence[Rule]:
    """The rules that are asked before the main table is, but for that of the host's own addresses.

    What stands behind takes nothing from anybody: our routes are found before.
    """
    found: list[Rule] = []
    for each in sorted((each for each in rules if each.version == version), key=lambda each: each.priority):
        if each.takes_all and each.action == LOOKUP and each.table == MAIN_TABLE:
            if each.suppressed_length < 0:
                break
            continue  # all but what leads nearly everywhere: our routes are found by it
        if not (each.takes_all and each.table == LOCAL_TABLE):
            found.append(each)
    return found


def lacks_main(rules: Iterable[Rule], version: int) -> bool:
    """Whether no rule looks into the main table for all packets."""
    mine = [each for each in rules if each.version == version]
    return bool(mine) and not any(each.takes_all and each.table == MAIN_TABLE for each in mine)


def taken_by(
    rules: Iterable[Rule], address: Address, *, iif: str, source: Address | None, table: int | None
) -> Rule | None:
    """The first rule by which a packet can have come to a table; None stands for its end, by a rule or in a table."""
    for each in rules:
        if each.version != address.version or not each.may_take(address, iif=iif, source=source):
            continue
        if each.action == LOOKUP:
            is_it = each.table == table or (table is None and each.table not in USUAL_TABLES)
        else:
            is_it = table is None and each.action not in ("goto", "nop")
        if is_it:
            return each
    return None


def tables_of(rules: Iterable[Rule]) -> Collection[int]:
    """The tables that they name."""
    return {each.table for each in rules if each.action == LOOKUP} - {*USUAL_TABLES, 0}
