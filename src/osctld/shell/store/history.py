"""What was changed, and what was refused: lines of two tables that are alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from osctld.core.person import Person
from osctld.shell.store.rows import HistoryLine

#: So many commands that changed nothing are kept, the last ones: whoever asks in vain again and again fills no disk.
FAILURES = 10_000

_INSERT_HISTORY = "INSERT INTO history (time, command, user, login, process, result) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_FAILURE = _INSERT_HISTORY.replace("history", "failure")


def add(connection: sqlite3.Connection, lines: Iterable[HistoryLine]) -> None:
    """Put changes to the end of the history."""
    connection.executemany(_INSERT_HISTORY, map(_values, lines))


def add_failures(connection: sqlite3.Connection, lines: Iterable[HistoryLine]) -> None:
    """The same for what was refused; the oldest are forgotten."""
    connection.executemany(_INSERT_FAILURE, map(_values, lines))
    connection.execute("DELETE FROM failure WHERE sequence <= (SELECT max(sequence) FROM failure) - ?", (FAILURES,))


def _values(line: HistoryLine) -> tuple[Any, ...]:
    return (line.time, line.command, line.by.user, line.by.login, line.by.process, line.result)


def history_line(row: tuple[Any, ...]) -> HistoryLine:
    """A row of HISTORY_COLUMNS as a value."""
    time, command, user, login, process, result = row
    return HistoryLine(time, command, Person(user, login, process), result)


#: In the order in which `history_line` takes them.
HISTORY_COLUMNS = "time, command, user, login, process, result"


def read(connection: sqlite3.Connection, *, limit: int, table: str = "history") -> list[HistoryLine]:
    rows = connection.execute(f"SELECT {HISTORY_COLUMNS} FROM {table} ORDER BY sequence DESC LIMIT ?", (limit,))
    return [history_line(row) for row in reversed(rows.fetchall())]
