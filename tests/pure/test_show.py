"""Replies as text: the layout that scripts rely on."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osctld.cli.show import field_names, readable_bytes, readable_time, show
from osctld.commands.history import History
from osctld.core.command import (
    Column,
    Command,
    ExitStatus,
    GlobalOptions,
    Listing,
    ListOptions,
    ShowOptions,
    Text,
)
from osctld.core.errors import Refused, UsageError


class Ls(Command, ListOptions, frozen=True, kw_only=True):
    """List."""

    words: ClassVar[tuple[str, ...]] = ("ls",)


class Show(Command, ShowOptions, frozen=True, kw_only=True):
    """Show."""

    words: ClassVar[tuple[str, ...]] = ("show",)


COLUMNS = (
    Column("id"),
    Column("state"),
    Column("addr"),
    Column("memory", unit="bytes"),
    Column("cpu_time", unit="nanoseconds"),
)
ROWS: tuple[dict[str, Any], ...] = (
    {"id": "web01", "state": "running", "addr": "10.0.0.10/32", "memory": 1536, "cpu_time": 75_500_000_000},
    {"id": "db", "state": None, "addr": "10.0.0.9/32", "memory": 10, "cpu_time": 0},
    {"id": "", "state": False, "addr": "fd00::1/128", "memory": None, "cpu_time": None},
)
LISTING = Listing(COLUMNS, ("id", "state", "memory"), ROWS)
PLAIN = GlobalOptions()


def table(listing: Listing = LISTING, options: GlobalOptions = PLAIN, **wishes: Any) -> str:
    return show(listing, Ls(**wishes), options)


def column(name: str, **wishes: Any) -> list[str]:
    return table(output=(name,), hide_header=True, **wishes).split()


# --- tables -------------------------------------------------------------------------------------------------------


def test_a_table_is_laid_out_column_by_column() -> None:
    assert table() == (
        "ID      STATE     MEMORY \n"
        "web01   running   1.5K   \n"
        "db      -         10     \n"
        "-       -         -      \n"
    )  # fmt: skip


def test_a_hidden_header_leaves_the_columns_where_they_were() -> None:
    assert table(hide_header=True) == table().split("\n", 1)[1]


def test_an_empty_table_is_its_header() -> None:
    assert table(Listing(COLUMNS, ("id", "state"), ())) == "ID   STATE \n"


NAMES = st.text("abcdef_", min_size=1, max_size=12)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3)


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True), st.data())
def test_columns_align_whatever_is_in_them(names: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, VALUES)), max_size=5))
    listing = Listing(tuple(map(Column, names)), tuple(names), tuple(rows))

    lines = table(listing).split("\n")

    assert lines.pop() == ""
    assert len(lines) == len(rows) + 1
    assert len(set(map(len, lines))) == 1
    assert all(line.isprintable() for line in lines)
    ends = 0
    for name in names[:-1]:
        assert lines[0][ends:].startswith(f"{name.upper()} ")
        ends += _width(listing, name) + 2
        # At least one blank of the column, two between columns.
        assert all(line[ends - 3 : ends] == "   " for line in lines)
    assert lines[0][ends:].startswith(f"{names[-1].upper()} ")


def _width(listing: Listing, name: str) -> int:
    """The width of a column that stands alone, without the newline."""
    return len(table(Listing(listing.columns, (name,), listing.rows)).split("\n")[0])


# --- cells --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (False, "-"),
        ("", "-"),
        ((), "-"),
        ({}, "-"),
        (True, "true"),
        (0, "0"),
        (("a", "b"), "a,b"),
        ({4: "10.0.0.0/30", 6: None}, "4=10.0.0.0/30,6=-"),
        ("a\nb\x1b[1m", "a\\nb\\x1b[1m"),
    ],
)
def test_a_cell_says_a_value_in_one_word(value: Any, text: str) -> None:
    listing = Listing((Column("x"),), ("x",), ({"x": value},))

    assert table(listing, hide_header=True) == f"{text} \n".replace(" \n", " " * max(1, 2 - len(text)) + "\n")


def test_a_field_that_a_row_does_not_have_is_empty() -> None:
    assert table(Listing((Column("x"),), ("x",), ({},)), hide_header=True) == "- \n"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (1536, "1.5K"),
        (1048575, "1.0M"),
        (5 * 1024**3, "5.0G"),
        (1024**4, "1.0T"),
        (5000 * 1024**4, "5000.0T"),
    ],
)
def test_bytes_are_shown_in_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert readable_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "01:00"), (3599, "59:59"), (3600, "01:00:00"), (90061, "1d, 01:01:01")],
)
def test_times_grow_with_what_they_tell(seconds: float, text: str) -> None:
    assert readable_time(seconds * 1_000_000_000) == text


def test_parsable_shows_exact_values() -> None:
    options = GlobalOptions(parsable=True)

    assert table(options=options, output=("memory", "cpu_time"), hide_header=True).split() == [
        *("1536", "75500000000", "10", "0", "-", "-")
    ]


# --- which columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "header"),
    [
        (("state", "id"), "STATE ID"),
        (("+addr",), "ID STATE MEMORY ADDR"),
        (("+addr", "cpu_time"), "ID STATE MEMORY ADDR CPU_TIME"),
        (("-state", "id"), "MEMORY"),
        (("-state", "+addr"), "ID MEMORY ADDR"),
        (("+id",), "ID STATE MEMORY"),
        (("all",), "ID STATE ADDR MEMORY CPU_TIME"),
        (("memory", "all"), "MEMORY ID STATE ADDR CPU_TIME"),
        ((), "ID STATE MEMORY"),
    ],
)
def test_output_selects_and_orders_columns(output: tuple[str, ...], header: str) -> None:
    assert table(output=output).splitlines()[0].split() == header.split()


def test_an_unknown_column_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"^unknown output parameter 'x'"):
        table(output=("id", "x"))


def test_list_names_the_fields_one_a_line() -> None:
    names = ("time", "time_iso", "epoch", "pool", "user", "login", "process", "result", "command")
    assert field_names(History(list_fields=True), PLAIN) == "".join(f"{each}\n" for each in names)
    as_json = field_names(History(list_fields=True), GlobalOptions(json=True))
    assert as_json is not None
    assert json.loads(as_json) == list(names)
    assert field_names(History(), PLAIN) is None


def test_a_long_cell_is_cut_where_its_column_says_so_unless_exact_values_are_asked_for() -> None:
    listing = Listing((Column("a"), Column("b", longest=8)), ("a", "b"), ({"a": "x" * 9, "b": "y" * 9},))

    assert table(listing, hide_header=True) == f"{'x' * 9}   yyyyy... \n"
    assert table(listing, GlobalOptions(parsable=True), hide_header=True) == f"{'x' * 9}   {'y' * 9} \n"
    assert table(listing, GlobalOptions(json=True)) == f'[{{"a":"{"x" * 9}","b":"{"y" * 9}"}}]\n'


def test_a_terminal_shows_what_is_marked_in_its_colour_in_the_same_columns() -> None:
    columns = (Column("id"), Column("state", marks={"running": "good", "failing": "bad"}))
    rows = ({"id": "a", "state": "running"}, {"id": "b", "state": "failing"}, {"id": "c", "state": "stopped"})
    listing = Listing(columns, ("id", "state"), rows)

    colored = show(listing, Ls(), PLAIN, is_colored=True)

    assert colored.splitlines()[1:3] == ["a    \x1b[32mrunning \x1b[0m", "b    \x1b[31mfailing \x1b[0m"]
    assert re.sub(r"\x1b\[\d+m", "", colored) == show(listing, Ls(), PLAIN)
    record = Listing(columns, ("id", "state"), rows[:1], is_record=True)
    assert show(record, Show(hide_header=True), PLAIN, is_colored=True) == "a\n\x1b[32mrunning\x1b[0m\n\n"


# --- in which order -----------------------------------------------------------------------------------------------


def test_rows_are_sorted_by_exact_values_empty_ones_first() -> None:
    assert column("id", sort=("id",)) == ["-", "db", "web01"]
    assert column("memory", sort=("memory",)) == ["-", "10", "1.5K"]


def test_addresses_are_sorted_by_number() -> None:
    assert column("addr", sort=("addr",)) == ["10.0.0.9/32", "10.0.0.10/32", "fd00::1/128"]


def test_rows_keep_their_order_unless_sorted() -> None:
    assert column("id") == ["web01", "db", "-"]


def test_the_second_sort_column_decides_between_equals() -> None:
    rows = ({"a": 1, "b": 2}, {"a": 1, "b": 1}, {"a": 0, "b": 3})
    listing = Listing((Column("a"), Column("b")), ("a", "b"), rows)

    assert table(listing, sort=("a", "b"), hide_header=True).split() == ["0", "3", "1", "1", "1", "2"]


def test_sorting_by_a_column_that_is_not_shown_is_refused_with_status_1() -> None:
    with pytest.raises(Refused, match=r"^unknown sort column 'addr' \(expected ") as caught:
        table(sort=("addr",))

    assert caught.value.exit_status == 1


@given(st.lists(VALUES | st.dictionaries(st.integers(), st.integers(), max_size=2)))
def test_values_of_any_kind_can_be_sorted_together(values: list[Any]) -> None:
    listing = Listing((Column("x"),), ("x",), tuple({"x": value} for value in values))

    assert len(table(listing, sort=("x",)).splitlines()) == len(values) + 1


# --- records ------------------------------------------------------------------------------------------------------

RECORD = Listing(COLUMNS, ("id", "cpu_time"), ROWS[:1], is_record=True)


def test_a_record_is_a_line_per_field_with_labels_to_the_right() -> None:
    assert show(RECORD, Show(), PLAIN) == "       ID:  web01\n CPU_TIME:  01:15\n\n"


def test_a_record_without_labels_is_values_alone() -> None:
    assert show(RECORD, Show(hide_header=True), PLAIN) == "web01\n01:15\n\n"


LINES = Listing(
    (Column("what"), Column("commands", is_lines=True)),
    ("what", "commands"),
    ({"what": "a", "commands": ("one, two", "three")}, {"what": "b", "commands": ()}),
    is_paragraphs=True,
)


def test_parts_that_are_lines_stand_on_lines_of_their_own_without_anything_before_them_but_blanks() -> None:
    assert table(LINES) == "     WHAT:  a\n COMMANDS:\n    one, two\n    three\n\n     WHAT:  b\n COMMANDS:  -\n\n"


def test_without_labels_parts_that_are_lines_are_all_there_is() -> None:
    assert table(LINES, hide_header=True, output=("commands",)) == "one, two\nthree\n\n\n"


def test_a_line_break_in_a_part_makes_no_line_of_its_own() -> None:
    row = {"what": "a", "commands": ("echo a\nreboot",)}

    text = table(msgspec.structs.replace(LINES, rows=(row,)), hide_header=True, output=("commands",))

    assert text == "echo a\\nreboot\n\n"


# --- for programs -------------------------------------------------------------------------------------------------


def test_json_is_all_data_on_one_line_whatever_is_selected() -> None:
    text = table(options=GlobalOptions(json=True), output=("id",), sort=("id",), hide_header=True)

    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert json.loads(text) == list(ROWS)


def test_json_of_a_record_is_one_object() -> None:
    assert json.loads(show(RECORD, Show(), GlobalOptions(json=True))) == ROWS[0]


def test_text_is_its_lines_and_as_json_a_list_of_them() -> None:
    assert show(Text(("a", "b")), Ls(), PLAIN) == "a\nb\n"
    assert show(Text(("a", "b")), Ls(), GlobalOptions(json=True)) == '["a","b"]\n'
    assert show(Text(), Ls(), GlobalOptions(json=True)) == ""


def test_an_exit_status_says_nothing() -> None:
    assert show(ExitStatus(3), Ls(), PLAIN) == ""
