"""The tables, and how those of an older schema become those of today."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

_TABLES = """
CREATE TABLE host (uuid TEXT NOT NULL, serial INTEGER NOT NULL);
CREATE TABLE container (name TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE holding (
    version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, kind TEXT NOT NULL,
    container TEXT NOT NULL, interface TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (version, network, length, kind, container, interface)
) WITHOUT ROWID;
CREATE TABLE history (sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, command TEXT NOT NULL);
"""

#: What the tables of one schema lack of the next.
_MIGRATIONS = {
    1: """
CREATE TABLE run (number INTEGER NOT NULL, boot TEXT NOT NULL);
INSERT INTO run VALUES (0, '');
CREATE TABLE pending (container TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID
""",
    # Holders by UUID, their names beside; holdings with the change that gave them, and those that were.
    3: """
CREATE TABLE change (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, command TEXT NOT NULL,
    user INTEGER, login INTEGER, process INTEGER
);
CREATE INDEX change_time ON change (time);
INSERT INTO change VALUES (0, 0, '', NULL, NULL, NULL);
CREATE TABLE holder (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, container TEXT NOT NULL);
CREATE TABLE label (
    holder INTEGER NOT NULL, since INTEGER NOT NULL, container TEXT NOT NULL, interface TEXT NOT NULL,
    PRIMARY KEY (holder, since)
) WITHOUT ROWID;
CREATE TEMP TABLE known AS
    SELECT json_extract(each.value, '$.uuid') AS uuid, json_extract(CAST(document AS TEXT), '$.uuid') AS container_uuid,
        container.name AS container, json_extract(each.value, '$.name') AS interface
    FROM (SELECT * FROM container WHERE json_valid(CAST(document AS TEXT))) AS container,
        json_each(CAST(document AS TEXT), '$.interfaces') AS each;
INSERT INTO holder (uuid, container) SELECT uuid, container_uuid FROM known;
INSERT INTO label SELECT holder.id, 0, known.container, known.interface FROM known JOIN holder USING (uuid);
DROP TABLE known;
ALTER TABLE holding RENAME TO holding_before;
CREATE TABLE holding (
    version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, kind TEXT NOT NULL,
    holder INTEGER NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (version, network, length, kind, holder)
) WITHOUT ROWID;
INSERT INTO holding
    SELECT version, network, length, kind, label.holder, epoch, state, 0
    FROM holding_before JOIN label USING (container, interface);
DROP TABLE holding_before;
CREATE TABLE past (
    version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, since INTEGER NOT NULL,
    kind TEXT NOT NULL, holder INTEGER NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (version, network, length, since, kind, holder)
) WITHOUT ROWID;
CREATE INDEX past_until ON past (until);
CREATE TABLE uplink (name TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
ALTER TABLE history ADD COLUMN user INTEGER;
ALTER TABLE history ADD COLUMN login INTEGER;
ALTER TABLE history ADD COLUMN process INTEGER;
ALTER TABLE history ADD COLUMN result TEXT NOT NULL DEFAULT 'done'
""",
    4: """
CREATE TABLE block (
    network TEXT PRIMARY KEY, since REAL NOT NULL, until REAL, command TEXT NOT NULL,
    user INTEGER, login INTEGER, process INTEGER
) WITHOUT ROWID
""",
    # Beside the history, so that they neither push changes out of it nor make holes in its numbers.
    5: """
CREATE TABLE failure (
    sequence INTEGER PRIMARY KEY, time REAL NOT NULL, command TEXT NOT NULL,
    user INTEGER, login INTEGER, process INTEGER, result TEXT NOT NULL
)
""",
}


def bring_to(
    connection: sqlite3.Connection, schema: int, found: int, host_uuid: str, upgraded: Callable[[bytes, int], bytes]
) -> None:
    """Make the tables, or those that an older schema lacks, and bring documents along: all in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    if found == 0:
        _execute_all(connection, _TABLES)
        connection.execute("INSERT INTO host VALUES (?, 0)", (host_uuid,))
    for older in range(max(found, 1), schema):
        _execute_all(connection, _MIGRATIONS.get(older, ""))
    for table, key in (("container", "name"), ("pending", "container")) if found else ():
        for name, document in connection.execute(f"SELECT {key}, document FROM {table}").fetchall():
            connection.execute(f"UPDATE {table} SET document = ? WHERE {key} = ?", (upgraded(document, found), name))
    connection.execute(f"PRAGMA user_version = {schema:d}")
    connection.execute("COMMIT")


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(statement)


def copy_of_schema(file: Path, schema: int) -> Path:
    """Where the copy of a store is that was made before its schema, this one, was left behind."""
    return file.with_name(f"{file.name}.schema{schema}")
