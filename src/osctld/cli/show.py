"""A reply to text: tables and records for eyes, exact values or one line of JSON for programs.

The layout is that of the original osctl, so that scripts which cut its columns keep working: upper-case header, every
column one wider than its longest cell, two blanks between columns, trailing blanks kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.command import (
    Column,
    Command,
    ExitStatus,
    GlobalOptions,
    Listing,
    ListOptions,
    Mark,
    Reply,
    Row,
    ShowOptions,
    Text,
)
from osctld.core.errors import Refused, UsageError

_NANOSECONDS = 1_000_000_000
#: Before lines that stand below their label.
_INDENT = 4

#: What selects a colour of the terminal's own (SGR, ECMA-48 8.3.117).
_COLORS: Mapping[Mark, str] = {"good": "32", "doubtful": "33", "bad": "31"}


def show(reply: Reply, command: Command, options: GlobalOptions, *, is_colored: bool = False) -> str:
    """What goes to standard output for a reply, ending in a newline unless empty. `is_colored`: for a terminal.

    Raises UsageError for an unknown field of `--output`, Refused for a field of `--sort` that is not shown.
    """
    match reply:
        case ExitStatus():
            return ""
        case Text(lines=lines):
            if options.json:
                return _json(lines) if lines else ""
            return "".join(f"{line}\n" for line in lines)
        case Listing():
            return _show_listing(reply, command, options, is_colored=is_colored)


def _show_listing(listing: Listing, command: Command, options: GlobalOptions, *, is_colored: bool) -> str:
    wishes = command if isinstance(command, ShowOptions) else ShowOptions()
    if options.json:
        if listing.is_record:
            return _json(dict(listing.rows[0]) if listing.rows else None)
        return _json([dict(row) for row in listing.rows])
    if listing.lines is not None:
        return "".join(f"{line}\n" for line in listing.lines)
    columns = chosen_columns(listing, wishes.output)
    when_empty = listing.verdict or listing.when_empty
    if not listing.rows and when_empty and not wishes.hide_header:
        return f"{when_empty}\n"
    rows: Sequence[Row] = listing.rows
    if isinstance(command, ListOptions) and command.sort:
        rows = sorted_rows(rows, command.sort, columns)
    cells = [[_cell(row.get(column.name), column, is_exact=options.parsable) for column in columns] for row in rows]
    layout = _records if listing.is_record or listing.is_paragraphs else _table
    verdict = f"{listing.verdict}\n\n" if listing.verdict and not wishes.hide_header else ""
    return verdict + layout(cells, columns, hides_header=wishes.hide_header, is_colored=is_colored)


def field_names(command: Command, options: GlobalOptions) -> str | None:
    """The answer to `--list`, which needs no daemon: all fields that a listing may have. None without it."""
    if not isinstance(command, ShowOptions) or not command.list_fields:
        return None
    names = [column.name for column in command.columns]
    return _json(names) if options.json else "".join(f"{name}\n" for name in names)


# --- which columns, in which order --------------------------------------------------------------------------------


def chosen_columns(listing: Listing, output: Iterable[str] | None) -> tuple[Column, ...]:
    """The columns to show: `a,b` exactly these, `+a,b` these too, `-a,b` without these, `all` every one.

    A sign applies until the next one. Raises UsageError for an unknown field.
    """
    known = {column.name: column for column in listing.columns}
    wanted = list(output or ())
    starts_from_shown = not wanted or wanted[0][0] in "+-"
    names = list(listing.shown) if starts_from_shown else []
    sign = "+"
    for word in wanted:
        if word[0] in "+-":
            sign = word[0]
        field = word.removeprefix("+").removeprefix("-")
        if field != "all" and field not in known:
            raise UsageError(f"unknown output parameter {field!r} (expected {', '.join(known)})")
        fields = list(known) if field == "all" else [field]
        if sign == "-":
            names = [name for name in names if name not in fields]
        else:
            names.extend(name for name in fields if name not in names)
    return tuple(known[name] for name in names)


def sorted_rows(rows: Iterable[Row], by: Sequence[str], shown: Collection[Column]) -> list[Row]:
    """Order rows by exact values, ascending, empty ones first. Raises Refused for a column that is not shown."""
    names = {column.name for column in shown}
    for name in by:
        if name not in names:
            there_are = ", ".join(each.name for each in shown)
            raise Refused(f"unknown sort column {name!r} (expected {there_are})", code="unknown-column", subject=name)
    return sorted(rows, key=lambda row: tuple(_sort_key(row.get(name)) for name in by))


def _sort_key(value: Any) -> tuple[int, Any]:
    """A key that orders values of different types too: empty ones, numbers, addresses, words, lists."""
    if _is_empty(value):
        return (0, 0)
    if isinstance(value, int | float):
        return (1, value)
    if isinstance(value, str):
        if value[0].isdigit() or ":" in value:
            try:
                return (2, InterfaceAddress.parse(value))
            except Refused:
                pass
        return (3, value)
    if isinstance(value, Mapping):
        return (4, tuple(_sort_key(each) for each in value.values()))
    if isinstance(value, Iterable):
        return (4, tuple(_sort_key(each) for each in value))
    return (3, str(value))


# --- cells --------------------------------------------------------------------------------------------------------


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (not isinstance(value, int | float) and not value)


def _cell(value: Any, column: Column, *, is_exact: bool) -> str:
    if value and isinstance(value, str):  # most are, and there may be very many
        return _cut(value, column, is_exact=is_exact)
    if _is_empty(value):
        return "-"
    if value is True:
        return "true"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_cell(each, column, is_exact=is_exact)}" for name, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ("\n" if column.is_lines else ",").join(_cell(each, column, is_exact=is_exact) for each in value)
    if isinstance(value, int | float) and not is_exact:
        if column.unit == "bytes":
            return readable_bytes(value)
        if column.unit == "nanoseconds":
            return readable_time(value)
    return _cut(str(value), column, is_exact=is_exact)


def _cut(value: str, column: Column, *, is_exact: bool) -> str:
    text = printable(value)
    is_cut = column.longest and len(text) > column.longest and not is_exact
    return f"{text[: column.longest - 3]}..." if is_cut else text


def printable(text: str) -> str:
    """One line without control characters: a word that came from a container must not drive the terminal."""
    return text if text.isprintable() else "".join(_visible(each) for each in text)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def readable_bytes(count: float) -> str:
    """1536 as 1.5K: one decimal, units of 1024; below 1024 the number itself."""
    if count < 1024:
        return str(count)
    for unit in "KMGT":
        count /= 1024
        # Rounded first: 1048575 bytes are 1.0M, not 1024.0K.
        if round(count, 1) < 1024 or unit == "T":
            break
    return f"{count:.1f}{unit}"


def readable_time(nanoseconds: float) -> str:
    """A duration as 12s, mm:ss, hh:mm:ss or Nd, hh:mm:ss; what is below a second is dropped."""
    seconds = int(nanoseconds) // _NANOSECONDS
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes:02}:{seconds:02}"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{seconds:02}"
    return f"{days}d, {clock}" if days else clock


# --- layouts ------------------------------------------------------------------------------------------------------


def _table(cells: Sequence[Sequence[str]], columns: Sequence[Column], *, hides_header: bool, is_colored: bool) -> str:
    labels = _labels(columns)
    # The labels count for the widths even when they are hidden, so that the columns stay where they were.
    widths = [max(map(len, column)) + 1 for column in zip(labels, *cells, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (labels, *cells)]
    header, *lines = padded
    if is_colored:
        lines = [_colored(line, columns) for line in lines]
    return "".join("  ".join(line) + "\n" for line in (lines if hides_header else [header, *lines]))


def _records(cells: Sequence[Sequence[str]], columns: Sequence[Column], *, hides_header: bool, is_colored: bool) -> str:
    records = [_colored(record, columns) for record in cells] if is_colored else cells
    labels = _labels(columns)
    width = max(map(len, labels), default=0) + 1

    def field(column: Column, label: str, cell: str) -> str:
        if hides_header:
            # No lines print nothing, not even a newline: they may be piped to a program.
            return "" if column.is_lines and cell == "-" else f"{cell}\n"
        if column.is_lines and cell != "-":
            # Below the label and not beside it, so that whole lines can be taken.
            return f"{label.rjust(width)}:\n" + "".join(f"{' ' * _INDENT}{line}\n" for line in cell.split("\n"))
        return f"{label.rjust(width)}:  {cell}\n"

    def text(record: Sequence[str]) -> str:
        return "".join(map(field, columns, labels, record))

    return "".join(f"{text(record)}\n" for record in records)


def _labels(columns: Iterable[Column]) -> list[str]:
    return [column.name.upper() for column in columns]


def _colored(line: Iterable[str], columns: Iterable[Column]) -> list[str]:
    """The cells of a line, those whose value has a mark in its colour."""
    marks = (column.marks.get(cell.rstrip()) for cell, column in zip(line, columns, strict=True))
    return [
        cell if mark is None else f"\x1b[{_COLORS[mark]}m{cell}\x1b[0m" for cell, mark in zip(line, marks, strict=True)
    ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode() + "\n"
