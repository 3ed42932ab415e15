"""What is not as it should be on this host, and how a list of that is told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from osctld.core.command import Column, Listing

COLUMNS = (
    Column(
        "severity",
        "error: containers are or will be unreachable; warning: something may fail; note",
        marks={"error": "bad", "warning": "doubtful"},
    ),
    Column("code", "stable identifier, for programs"),
    Column("what", "what was found"),
    Column("why", "why it matters"),
    Column("commands", "commands that fix it, one after another", type=list[str], is_lines=True),
)


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be. `code` is stable; `commands` fix it, run one after another."""

    severity: Severity
    code: str
    what: str
    why: str
    commands: tuple[str, ...] = ()


def listing(found: Sequence[Finding]) -> Listing:
    """Findings as a reply; its exit status is 1 when there are errors among them."""
    return Listing(
        columns=COLUMNS,
        shown=tuple(column.name for column in COLUMNS if column.name != "code"),
        rows=tuple(msgspec.structs.asdict(each) for each in found),
        is_paragraphs=True,
        when_empty="all is well",
        exit_status=int(any(each.severity is Severity.ERROR for each in found)),
    )
