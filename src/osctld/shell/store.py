"""What is kept on disk: SQLite, durable when a save has returned.

Write-ahead log with synchronous=FULL: one commit is one fsync of the log. Documents are opaque bytes here. One
connection, used from one thread at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from osctld.core.errors import ApplyFailed, Unavailable


class Holding(Protocol):
    """A row of the table of holdings: which network is whose. `network` is packed."""

    @property
    def version(self) -> int: ...
    @property
    def network(self) -> bytes: ...
    @property
    def length(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def container(self) -> str: ...
    @property
    def interface(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> str: ...


class HistoryLine(msgspec.Struct, frozen=True):
    """One change that was made: seconds since 1970, and the command as it was given."""

    time: float
    command: str


class Saved(msgspec.Struct, frozen=True):
    """One change to keep, whole or not at all. `document` None deletes the container."""

    container: str
    document: bytes | None
    host_serial: int
    holdings_removed: Sequence[Holding]
    holdings_added: Sequence[Holding]
    history: HistoryLine


class Contents(msgspec.Struct, frozen=True):
    host_uuid: str
    host_serial: int
    documents: tuple[bytes, ...]


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


# Many rows by one statement: to step through as many statements takes four times as long.
_EACH_NETWORK = """
    WITH RECURSIVE each(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM each WHERE number + 1 < :count)
    SELECT substr(:networks, 1 + number * :octets, :octets) AS network FROM each
"""
_INSERT_HOLDINGS = f"""
INSERT INTO holding
    SELECT :version, network, :length, :kind, :container, :interface, :epoch, :state FROM ({_EACH_NETWORK})
"""
_DELETE_HOLDINGS = f"""
DELETE FROM holding WHERE version = :version AND network IN ({_EACH_NETWORK})
    AND length = :length AND kind = :kind AND container = :container AND interface = :interface
"""


class Store:
    def __init__(self, file: Path, *, schema: int, new_host_uuid: str) -> None:
        """Open the store, or make it. Raises Unavailable for one of another schema or that cannot be read."""
        self._file = file
        try:
            # Autocommit mode: transactions are ours to begin and end.
            self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5)
        except sqlite3.Error as error:
            raise Unavailable(f"{file} cannot be opened: {error}", code="store-unreadable") from error
        try:
            self._open(schema, new_host_uuid)
        except sqlite3.Error as error:
            self.close()
            raise Unavailable(f"{file} cannot be opened: {error}", code="store-unreadable") from error
        except Unavailable:
            self.close()
            raise

    def load(self) -> Contents:
        """All that is kept. Raises Unavailable when it cannot be read."""
        try:
            ((uuid, serial),) = self._connection.execute("SELECT uuid, serial FROM host").fetchall()
            documents = self._connection.execute("SELECT document FROM container ORDER BY name").fetchall()
        except (sqlite3.Error, ValueError) as error:
            raise Unavailable(f"{self._file} cannot be read: {error}", code="store-unreadable") from error
        return Contents(uuid, serial, tuple(document for (document,) in documents))

    def save(self, change: Saved) -> None:
        """Keep a change; durable when this returns.

        Raises ApplyFailed when the disk refused it and nothing was kept. A commit that reports an error may have
        reached the disk all the same: it is read again, and counts when it is there.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(change)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if not self._is_kept(change):
                raise ApplyFailed(f"the change could not be saved: {error}", code="save-failed") from error

    def history(self, *, limit: int) -> list[HistoryLine]:
        rows = self._connection.execute(
            "SELECT time, command FROM history ORDER BY sequence DESC LIMIT ?", (limit,)
        ).fetchall()
        return [HistoryLine(time, command) for time, command in reversed(rows)]

    def holdings(self) -> list[tuple[int, bytes, int, str, str, str, int, str]]:
        """All rows of holdings, in the order of their key."""
        return self._connection.execute(
            "SELECT version, network, length, kind, container, interface, epoch, state FROM holding"
            " ORDER BY 1, 2, 3, 4, 5, 6"
        ).fetchall()

    def close(self) -> None:
        self._connection.close()

    def _open(self, schema: int, new_host_uuid: str) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found == 0:
            self._create(schema, new_host_uuid)
        elif found != schema:
            raise Unavailable(f"{self._file} has schema {found}, this osctld knows {schema}", code="store-schema")

    def _create(self, schema: int, host_uuid: str) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            self._connection.execute(statement)
        self._connection.execute("INSERT INTO host VALUES (?, 0)", (host_uuid,))
        self._connection.execute(f"PRAGMA user_version = {schema:d}")
        self._connection.execute("COMMIT")

    def _write(self, change: Saved) -> None:
        execute = self._connection.execute
        if change.document is None:
            execute("DELETE FROM container WHERE name = ?", (change.container,))
        else:
            execute(
                "INSERT INTO container VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                (change.container, change.document),
            )
        for values, networks in _alike(change.holdings_removed):
            execute(_DELETE_HOLDINGS, {**values, "networks": b"".join(networks), "count": len(networks)})
        for values, networks in _alike(change.holdings_added):
            execute(_INSERT_HOLDINGS, {**values, "networks": b"".join(networks), "count": len(networks)})
        execute("UPDATE host SET serial = ?", (change.host_serial,))
        execute("INSERT INTO history (time, command) VALUES (?, ?)", (change.history.time, change.history.command))

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back already; a disk that is gone may refuse this too.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _is_kept(self, change: Saved) -> bool:
        try:
            execute = self._connection.execute
            row = execute("SELECT document FROM container WHERE name = ?", (change.container,)).fetchone()
            last = execute("SELECT time, command FROM history ORDER BY sequence DESC LIMIT 1").fetchone()
        except sqlite3.Error:
            return False
        same_document = (row[0] if row else None) == change.document
        return same_document and last == (change.history.time, change.history.command)


def _alike(rows: Iterable[Holding]) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Rows that differ in their networks alone, together: the other columns by name, and the networks."""
    networks: dict[tuple[Any, ...], list[bytes]] = {}
    for each in rows:
        values = (each.version, each.length, each.kind, each.container, each.interface, each.epoch, each.state)
        networks.setdefault(values, []).append(each.network)
    names = ("version", "length", "kind", "container", "interface", "epoch", "state")
    for values, those in networks.items():
        yield {**dict(zip(names, values, strict=True)), "octets": len(those[0])}, those
