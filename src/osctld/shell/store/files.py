"""The store's file while no daemon has it: what is wrong, what can still be read, putting another in its place."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from osctld.core.authority.blocks import Block
from osctld.core.errors import ApplyFailed, Refused
from osctld.shell.store import durable
from osctld.shell.store.contents import BLOCKS, block_of
from osctld.shell.store.history import HISTORY_COLUMNS, history_line
from osctld.shell.store.holding_log import ALL_HOLDINGS, LOG_TABLES
from osctld.shell.store.rows import HistoryLine
from osctld.shell.store.schema import copy_of_schema

#: What SQLite keeps beside a database in write-ahead mode.
_LOG, _INDEX = "-wal", "-shm"


class Readable(msgspec.Struct, frozen=True):
    """What can be read of a store, sound or not. `problems` are SQLite's words; none: it is sound as a database."""

    problems: tuple[str, ...]
    schema: int = 0
    documents: dict[str, bytes] = {}
    pending: dict[str, bytes] = {}
    #: version, network, length, kind, container, interface, epoch, state
    holdings: tuple[tuple[Any, ...], ...] = ()
    history: tuple[HistoryLine, ...] = ()
    #: Rows of the tables of who held what, by name.
    log: dict[str, tuple[tuple[Any, ...], ...]] = {}
    uplinks: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    host_uuid: str = ""
    host_serial: int = 0
    run: int = 0
    boot: str = ""


def read(file: Path) -> Readable | None:
    """Read without changing anything; None if there is no file. A daemon may have it open."""
    if not file.exists():
        return None
    problems: list[str] = []
    found: dict[str, Any] = {}
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)
    except sqlite3.Error as error:
        return Readable((str(error),))
    with contextlib.closing(connection):

        def rows(query: str) -> Iterator[tuple[Any, ...]]:
            """As many as can be read."""
            try:
                yield from connection.execute(query)
            except sqlite3.Error as error:
                if str(error) not in problems:
                    problems.append(str(error))

        problems += [str(row[0]) for row in rows("PRAGMA integrity_check(20)") if row[0] != "ok"]
        for (schema,) in rows("PRAGMA user_version"):
            found["schema"] = schema
        for found["host_uuid"], found["host_serial"] in rows("SELECT uuid, serial FROM host"):
            pass
        if found.get("schema", 2) >= 2:
            for found["run"], found["boot"] in rows("SELECT number, boot FROM run"):
                pass
            found["pending"] = dict(rows("SELECT container, document FROM pending"))
        found["documents"] = dict(rows("SELECT name, document FROM container"))
        if found.get("schema", 4) >= 4:
            found["holdings"] = tuple(rows(ALL_HOLDINGS))
            lines = rows(f"SELECT {HISTORY_COLUMNS} FROM history ORDER BY sequence")
            found["history"] = tuple(map(history_line, lines))
            found["uplinks"] = tuple(name for (name,) in rows("SELECT name FROM uplink"))
            if found.get("schema", 5) >= 5:
                found["blocks"] = tuple(map(block_of, rows(BLOCKS)))
            found["log"] = {table: tuple(rows(f"SELECT * FROM {table}")) for table in LOG_TABLES}
        else:
            found["holdings"] = tuple(
                rows("SELECT version, network, length, kind, container, interface, epoch, state FROM holding")
            )
            found["history"] = tuple(
                HistoryLine(time, command)
                for time, command in rows("SELECT time, command FROM history ORDER BY sequence")
            )
    return Readable(tuple(problems), **found)


def put_in_place(file: Path, content: bytes, *, aside: str) -> Path | None:
    """Give the store another content, durably; what was there before is kept beside it, under a name with `aside`.

    Returns where that is, None when there was nothing. Nobody may have the store open. Whenever the power is cut, one
    of the two is in place. Raises ApplyFailed.
    """
    kept = file.with_name(f"{file.name}.{aside}") if file.exists() else None
    new = file.with_name(f"{file.name}.new")
    try:
        durable.write_file(new, content)
        if kept is not None:
            for suffix in ("", _LOG):
                if (there := Path(f"{file}{suffix}")).exists():
                    os.link(there, f"{kept}{suffix}")
        durable.sync_directory(file.parent)
        # A log that belongs to another database would be played into the new one.
        for suffix in (_LOG, _INDEX):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
        durable.sync_directory(file.parent)
        new.replace(file)
        durable.sync_directory(file.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ApplyFailed(f"{error.filename or file}: {error.strerror}", code="disk") from error
    return kept


def settle_log(file: Path) -> None:
    """Have all of a sound database in its one file. Raises ApplyFailed."""
    try:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=5)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise ApplyFailed(f"{file}: {error}", code="store-unreadable") from error


def read_copy_of_schema(file: Path, schema: int) -> bytes:
    """The copy made before that schema was left behind. Raises Refused when there is none, or a damaged one."""
    place = copy_of_schema(file, schema)
    found = read(place)
    if found is None:
        there = ", ".join(sorted(str(each) for each in file.parent.glob(f"{file.name}.schema*")))
        raise Refused(
            f"there is no copy of schema {schema}, {place}" + (f"; there are {there}" if there else ""),
            code="no-copy",
            subject=str(place),
        )
    problems = found.problems or (() if found.schema == schema else (f"it has schema {found.schema}",))
    if problems:
        raise Refused(f"{place}: damaged: {problems[0]}", code="bad-copy", subject=str(place))
    return place.read_bytes()
