"""What is kept on disk: SQLite, durable when a save has returned.

Write-ahead log with synchronous=FULL: one commit is one fsync of the log. Documents are opaque bytes here. One
connection, used from one thread at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from osctld.core.authority.blocks import Block
from osctld.core.authority.held import Held
from osctld.core.errors import ApplyFailed, Unavailable
from osctld.shell.store import durable, history
from osctld.shell.store.contents import Contents, contents_of, only
from osctld.shell.store.copies import in_memory, serialized
from osctld.shell.store.holding_log import HoldingLog
from osctld.shell.store.rows import HistoryLine, HoldingRow, Replacement, Saved
from osctld.shell.store.schema import bring_to, copy_of_schema

_INSERT_UPLINK = "INSERT OR IGNORE INTO uplink VALUES (?, ?)"
_INSERT_BLOCK = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)"


def documents_in(file: Path) -> tuple[bytes, ...]:
    """The documents of all containers, for one who is not the daemon; nothing is written.

    Raises Unavailable when they cannot be read.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return only(connection.execute("SELECT document FROM container ORDER BY name").fetchall())
    except sqlite3.Error as error:
        raise Unavailable(f"{file}: cannot be read: {error}", code="store-unreadable") from error


class Store:
    def __init__(
        self,
        file: Path,
        *,
        schema: int,
        new_host_uuid: str,
        upgraded: Callable[[bytes, int], bytes] = lambda document, _schema: document,
    ) -> None:
        """Open the store, or make it; `upgraded` brings a document of an older schema, given with it, to this one.

        One of an older schema is copied to `copy_of_schema` before. Raises Unavailable for a store of a newer schema,
        or that cannot be read.
        """
        self._file = file
        try:
            # Autocommit mode: transactions are ours to begin and end.
            self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5)
        except sqlite3.Error as error:
            raise Unavailable(f"{file}: cannot be opened: {error}", code="store-unreadable") from error
        self._log = HoldingLog(self._connection)
        try:
            self._open(schema, new_host_uuid, upgraded)
        except (sqlite3.Error, msgspec.DecodeError) as error:
            self.close()
            raise Unavailable(f"{file}: cannot be opened: {error}", code="store-unreadable") from error
        except Unavailable:
            self.close()
            raise

    def load(self) -> Contents:
        """All that is kept. Raises Unavailable when it cannot be read."""
        try:
            return contents_of(self._connection)
        except (sqlite3.Error, ValueError) as error:
            raise Unavailable(f"{self._file}: cannot be read: {error}", code="store-unreadable") from error

    def copy(self, *, time: float, version: str) -> bytes:
        """All that is kept, as the content of a file; `StoreCopy` reads it. Raises Unavailable.

        When and by which version it was made is in it.
        """
        try:
            with contextlib.closing(in_memory(self._connection)) as copy:
                copy.execute("CREATE TABLE backup (time REAL NOT NULL, version TEXT NOT NULL)")
                copy.execute("INSERT INTO backup VALUES (?, ?)", (time, version))
                return serialized(copy)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._file}: cannot be read: {error}", code="store-unreadable") from error

    def replace(self, new: Replacement) -> None:
        """Keep something else than before, whole or not at all; durable when this returns. Raises ApplyFailed."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            execute("DELETE FROM container")
            self._log.replace(new)
            execute("UPDATE host SET uuid = ?, serial = ?", (new.host_uuid, new.host_serial))
            execute("UPDATE run SET number = max(number, ?), boot = coalesce(?, boot)", (new.least_run, new.boot))
            self._connection.executemany("INSERT INTO container VALUES (?, ?)", new.documents.items())
            self._connection.executemany("INSERT OR REPLACE INTO pending VALUES (?, ?)", new.pending.items())
            if new.uplinks is not None:
                execute("DELETE FROM uplink")
                since = new.line.time if new.line is not None else 0.0
                self._connection.executemany(_INSERT_UPLINK, [(each, since) for each in new.uplinks])
            if new.blocks is not None:
                self._replace_blocks(new.blocks)
            if new.history is not None:
                execute("DELETE FROM history")
            lines = (*(new.history or ()), *((new.line,) if new.line is not None else ()))
            history.add(self._connection, lines)
            execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            if new.line is None or not self._is_last(new.line):
                raise ApplyFailed(f"the store could not be replaced: {error}", code="save-failed") from error

    def save_uplinks(self, names: Sequence[str], line: HistoryLine) -> None:
        """Keep the links that were declared; durable when this returns. Raises ApplyFailed, and nothing was kept."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            marks = ", ".join("?" * len(names))
            self._connection.execute(f"DELETE FROM uplink WHERE name NOT IN ({marks})", tuple(names))
            self._connection.executemany(_INSERT_UPLINK, [(each, line.time) for each in names])
            history.add(self._connection, [line])
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            if not self._is_last(line):
                raise ApplyFailed(f"the change could not be saved: {_told(error)}", code="save-failed") from error

    def save_blocks(self, blocks: Sequence[Block], line: HistoryLine) -> None:
        """Keep what is blocked; durable when this returns. Raises ApplyFailed, and nothing was kept."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._replace_blocks(blocks)
            history.add(self._connection, [line])
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            if not self._is_last(line):
                raise ApplyFailed(f"the change could not be saved: {_told(error)}", code="save-failed") from error

    def note_done(self, line: HistoryLine) -> None:
        """Add to the history alone; durable when this returns. Raises ApplyFailed."""
        try:
            history.add(self._connection, [line])
        except sqlite3.Error as error:
            raise ApplyFailed(f"the history could not be written: {_told(error)}", code="save-failed") from error

    def _replace_blocks(self, blocks: Sequence[Block]) -> None:
        self._connection.execute("DELETE FROM block")
        self._connection.executemany(
            _INSERT_BLOCK,
            [
                (str(each.network), each.since, each.until, each.command, *msgspec.structs.astuple(each.by))
                for each in blocks
            ],
        )

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
            raise Unavailable(f"{self._file}: cannot be written: {error}", code="store-unwritable") from error

    def note_pending(self, container: str, document: bytes) -> None:
        """Note what a change is about to want of a container. Raises ApplyFailed when it cannot be noted.

        It outlives the daemon, and need not outlive the host: what it refers to is in a guest, which ends with the
        host. So nothing is synced: a commit in the write-ahead log without fsync is in the kernel's hands, and is there
        for the next daemon (SQLite, PRAGMA synchronous=NORMAL in WAL mode).
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

    def save(self, change: Saved) -> None:
        """Keep a change; durable when this returns. Raises ApplyFailed when the disk refused it: nothing was kept."""
        self.write(change)
        self.commit(change)

    def write(self, change: Saved) -> None:
        """Write a change that is kept when it is committed, and not before. Nothing else is written meanwhile.

        Raises ApplyFailed, and then there is nothing to commit.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(change)
        except sqlite3.Error as error:
            self.roll_back()
            raise ApplyFailed(f"the change could not be saved: {_told(error)}", code="save-failed") from error

    def commit(self, change: Saved) -> None:
        """Keep the change that was written; durable when this returns. Raises ApplyFailed when nothing was kept.

        A commit that reports an error may have reached the disk all the same: it is read again, and counts when it is
        there.
        """
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            if not self._is_kept(change):
                raise ApplyFailed(f"the change could not be saved: {_told(error)}", code="save-failed") from error

    def roll_back(self) -> None:
        """What was written and not committed is not kept."""
        self._log.roll_back()
        # After some errors SQLite has rolled back already; a disk that is gone may refuse this too.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def history(self, *, limit: int) -> list[HistoryLine]:
        return history.read(self._connection, limit=limit)

    def failures(self) -> list[HistoryLine]:
        """Commands that were refused or failed, the first first."""
        return history.read(self._connection, limit=-1, table="failure")

    def keep_failures(self, lines: Sequence[HistoryLine]) -> None:
        """Keep that these commands changed nothing, and why; the oldest are forgotten. Raises ApplyFailed."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            history.add_failures(self._connection, lines)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            raise ApplyFailed(f"failed commands could not be recorded: {error}", code="save-failed") from error

    def holdings(self) -> list[HoldingRow]:
        """All rows of holdings, with the names of their holders, in the order of their key."""
        return self._log.rows()

    def close(self) -> None:
        self._connection.close()

    def _open(self, schema: int, new_host_uuid: str, upgraded: Callable[[bytes, int], bytes]) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        # What a long statement needs to undo itself would go to /var/tmp or /tmp, which may be read-only or full.
        self._connection.execute("PRAGMA temp_store=MEMORY")
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found > schema:
            raise Unavailable(f"{self._file}: has schema {found}, this osctld supports {schema}", code="store-schema")
        if 0 < found < schema:
            self._keep_copy(found)
        if found < schema:
            bring_to(self._connection, schema, found, new_host_uuid, upgraded)

    def _keep_copy(self, found: int) -> None:
        """The way back from a newer schema, whose version of osctld may do wrong."""
        place = copy_of_schema(self._file, found)
        try:
            with contextlib.closing(in_memory(self._connection)) as copy:
                durable.write_file(place, serialized(copy))
        except OSError as error:
            raise Unavailable(
                f"{self._file}: not upgraded to a newer schema, no copy could be made at {place}: {error.strerror}",
                code="store-unwritable",
            ) from error

    def _write(self, change: Saved) -> None:
        execute = self._connection.execute
        for name, document in {change.container: change.document, **change.others}.items():
            if document is None:
                execute("DELETE FROM container WHERE name = ?", (name,))
            else:
                execute(
                    "INSERT INTO container VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                    (name, document),
                )
            execute("DELETE FROM pending WHERE container = ?", (name,))
        self._log.write(change)
        execute("UPDATE host SET serial = ?", (change.host_serial,))
        if change.history is not None:
            history.add(self._connection, [change.history])

    def held(self, version: int, address: bytes, length: int, *, at: float | None = None) -> list[Held]:
        """Who holds the network, or a larger one around it, or did at a time in seconds since 1970; the largest first.

        Raises Unavailable when it cannot be read.
        """
        try:
            return self._log.held(version, address, length, at=at)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._file}: cannot be read: {error}", code="store-unreadable") from error

    def given(self, networks: Iterable[tuple[int, bytes, int]]) -> list[Held]:
        """Since when, and by whom, these networks are held, each by version, address and length."""
        return self._log.given(networks)

    def released_since(self, moment: float) -> list[tuple[int, bytes, int, float]]:
        """Version, address and length of networks whose holding ended at that moment or later, and when."""
        return self._log.released_since(moment)

    def ended_since(self, time: float) -> list[tuple[str, int, bytes, int]]:
        """UUID of the container, IP version, network and length of each holding that ended after that time."""
        return self._log.ended_since(time)

    def forget_history(self, *, before: float, more_than: int) -> None:
        """Shorten the history to entries that are not older than a given time, and to a maximum number. Raises
        ApplyFailed."""
        try:
            self._connection.execute(
                "DELETE FROM history WHERE time < ? OR sequence <= (SELECT max(sequence) FROM history) - ?",
                (before, more_than),
            )
            self._connection.execute("DELETE FROM failure WHERE time < ?", (before,))
        except sqlite3.Error as error:
            raise ApplyFailed(f"the history could not be shortened: {error}", code="save-failed") from error

    def _is_kept(self, change: Saved) -> bool:
        try:
            execute = self._connection.execute
            row = execute("SELECT document FROM container WHERE name = ?", (change.container,)).fetchone()
        except sqlite3.Error:
            return False
        same_document = (row[0] if row else None) == change.document
        return same_document and (change.history is None or self._is_last(change.history))

    def _is_last(self, line: HistoryLine) -> bool:
        try:
            return history.read(self._connection, limit=1) == [line]
        except sqlite3.Error:
            return False


def _told(error: sqlite3.Error) -> str:
    """What SQLite says, and who knows more where it is about more than one change."""
    is_damage = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return f"{error}; osctld --check shows more" if is_damage else str(error)
