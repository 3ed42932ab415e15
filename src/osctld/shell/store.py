"""What is kept on disk: SQLite, durable when a save has returned.

Write-ahead log with synchronous=FULL: one commit is one fsync of the log. Documents are opaque bytes here. One
connection, used from one thread at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from osctld.core.errors import ApplyFailed, Unavailable


class Holdings(Protocol):
    """Rows of the table of holdings, which tell whose each of many networks is.

    `networks` are packed addresses, end to end; in all else the rows are alike.
    """

    @property
    def version(self) -> int: ...
    @property
    def networks(self) -> bytes: ...
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
    """One change to keep, whole or not at all. `document` None deletes the container.

    What was noted as pending of the container is settled by it.
    """

    container: str
    document: bytes | None
    host_serial: int
    holdings_removed: Sequence[Holdings]
    holdings_added: Sequence[Holdings]
    #: None for what nobody asked for by a command.
    history: HistoryLine | None


class Contents(msgspec.Struct, frozen=True):
    host_uuid: str
    host_serial: int
    documents: tuple[bytes, ...]
    #: How often the store was opened by `begin_run`, this time included.
    run: int = 0
    #: The `boot` that was last kept; empty at first.
    boot: str = ""
    #: Documents of changes that were begun and neither saved nor taken back.
    pending: tuple[bytes, ...] = ()


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

#: What brings a store from one schema to the next.
_MIGRATIONS = {
    1: """
CREATE TABLE run (number INTEGER NOT NULL, boot TEXT NOT NULL);
INSERT INTO run VALUES (0, '');
CREATE TABLE pending (container TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID
""",
}


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
            ((run, boot),) = self._connection.execute("SELECT number, boot FROM run").fetchall()
            pending = self._connection.execute("SELECT document FROM pending ORDER BY container").fetchall()
        except (sqlite3.Error, ValueError) as error:
            raise Unavailable(f"{self._file} cannot be read: {error}", code="store-unreadable") from error
        return Contents(uuid, serial, _only(documents), run, boot, _only(pending))

    def begin_run(self) -> None:
        """Count one more run of the daemon; durable when this returns. Raises Unavailable when it cannot be kept."""
        self._keep("UPDATE run SET number = number + 1")

    def keep_boot(self, boot: str) -> None:
        """Remember on which boot of the host the wanted containers were started. Raises Unavailable."""
        self._keep("UPDATE run SET boot = ?", boot)

    def _keep(self, statement: str, *values: str) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._file} cannot be written: {error}", code="store-unwritable") from error

    def note_pending(self, container: str, document: bytes) -> None:
        """Note what a change is about to want of a container. Raises ApplyFailed when it cannot be noted.

        It outlives the daemon, and need not outlive the host: what it speaks of is in a guest, which ends with the
        host. So nothing is synced: a commit in the write-ahead log without fsync is in the kernel's hands, and is
        there for the next daemon (SQLite, PRAGMA synchronous=NORMAL in WAL mode).
        """
        try:
            self._execute_unsynced(
                "INSERT INTO pending VALUES (?, ?) ON CONFLICT (container) DO UPDATE SET document = excluded.document",
                (container, document),
            )
        except sqlite3.Error as error:
            raise ApplyFailed(f"the change could not be noted: {error}", code="save-failed") from error

    def forget_pending(self, container: str) -> None:
        """The change was undone. Raises ApplyFailed when that cannot be kept; then the next daemon looks again."""
        try:
            self._execute_unsynced("DELETE FROM pending WHERE container = ?", (container,))
        except sqlite3.Error as error:
            raise ApplyFailed(f"the end of a change could not be noted: {error}", code="save-failed") from error

    def _execute_unsynced(self, statement: str, values: tuple[str | bytes, ...]) -> None:
        self._connection.execute("PRAGMA synchronous=NORMAL")
        try:
            self._connection.execute(statement, values)
        finally:
            self._connection.execute("PRAGMA synchronous=FULL")

    def save(self, change: Saved, *, is_made: Callable[[], bool] = lambda: True) -> None:
        """Keep a change; durable when this returns.

        All is written before `is_made` is asked whether the change has really been made, which may take its time: what
        was not is not kept.

        Raises ApplyFailed when the disk refused it and nothing was kept. A commit that reports an error may have
        reached the disk all the same: it is read again, and counts when it is there.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(change)
            if not is_made():
                self._roll_back()
                return
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
        if found > schema:
            raise Unavailable(f"{self._file} has schema {found}, this osctld knows {schema}", code="store-schema")
        if found < schema:
            self._bring_to(schema, found, new_host_uuid)

    def _bring_to(self, schema: int, found: int, host_uuid: str) -> None:
        """Make the tables, or those that an older schema lacks: all in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        if found == 0:
            self._execute_all(_TABLES)
            self._connection.execute("INSERT INTO host VALUES (?, 0)", (host_uuid,))
        for older in range(max(found, 1), schema):
            self._execute_all(_MIGRATIONS[older])
        self._connection.execute(f"PRAGMA user_version = {schema:d}")
        self._connection.execute("COMMIT")

    def _execute_all(self, statements: str) -> None:
        for statement in statements.split(";"):
            self._connection.execute(statement)

    def _write(self, change: Saved) -> None:
        execute = self._connection.execute
        if change.document is None:
            execute("DELETE FROM container WHERE name = ?", (change.container,))
        else:
            execute(
                "INSERT INTO container VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                (change.container, change.document),
            )
        for each in change.holdings_removed:
            execute(_DELETE_HOLDINGS, _values(each))
        for each in change.holdings_added:
            execute(_INSERT_HOLDINGS, _values(each))
        execute("DELETE FROM pending WHERE container = ?", (change.container,))
        execute("UPDATE host SET serial = ?", (change.host_serial,))
        if change.history is not None:
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
        line = change.history
        return same_document and (line is None or last == (line.time, line.command))


def _only(rows: Iterable[tuple[bytes]]) -> tuple[bytes, ...]:
    """The one column that the rows have."""
    return tuple(value for (value,) in rows)


def _values(rows: Holdings) -> dict[str, Any]:
    octets = {4: 4, 6: 16}[rows.version]
    names = ("version", "networks", "length", "kind", "container", "interface", "epoch", "state")
    values = {name: getattr(rows, name) for name in names}
    return {**values, "octets": octets, "count": len(rows.networks) // octets}
