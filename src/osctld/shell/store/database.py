"""What is kept on disk: SQLite, durable when a save has returned.

Write-ahead log with synchronous=FULL: one commit is one fsync of the log. Documents are opaque bytes here. One
connection, used from one thread at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import Block
from osctld.core.authority.held import Held
from osctld.core.errors import ApplyFailed, Refused, Unavailable
from osctld.core.person import NOBODY, Person
from osctld.shell.store import durable


class Holder(Protocol):
    """An interface that holds networks: its UUID and its container's, and the names that they have now."""

    @property
    def uuid(self) -> str: ...
    @property
    def container_uuid(self) -> str: ...
    @property
    def container(self) -> str: ...
    @property
    def interface(self) -> str: ...


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
    def holder(self) -> Holder: ...
    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> str: ...


class HistoryLine(msgspec.Struct, frozen=True):
    """A command that was to change something: seconds since 1970, as it was given, by whom, and what became of it."""

    time: float
    command: str
    by: Person = NOBODY
    #: `done`, or why not.
    result: str = "done"


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
    #: Interfaces whose names may have changed.
    holders: Sequence[Holder] = ()
    #: Documents of other containers that the same change is about.
    others: Mapping[str, bytes] = {}
    #: Seconds since 1970, for what no command changes.
    time: float = 0.0
    #: What is held, some of it as before, whose state is another now.
    holdings_restated: Sequence[Holdings] = ()


class Replacement(msgspec.Struct, frozen=True):
    """All that is to be kept instead of what there is. What is noted as pending stays, and `pending` comes to it."""

    host_uuid: str
    host_serial: int
    documents: Mapping[str, bytes]
    holdings: Sequence[Holdings]
    #: The count of runs does not go below this.
    least_run: int
    #: None keeps the present one.
    boot: str | None
    #: None keeps the present one.
    history: Sequence[HistoryLine] | None
    #: What is put to the end of the history; None for nothing.
    line: HistoryLine | None
    pending: Mapping[str, bytes] = {}
    #: None keeps the present ones.
    uplinks: Sequence[str] | None = None
    #: None keeps the present ones.
    blocks: Sequence[Block] | None = None
    #: Rows of LOG_TABLES of a store that is lost; those that there are already stay.
    log: Mapping[str, Sequence[tuple[Any, ...]]] = {}


#: The tables that tell who held what. A holding that is to be taken over from them is still held.
LOG_TABLES = ("change", "holder", "label", "past", "holding")


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
    #: Links that were declared.
    uplinks: tuple[str, ...] = ()
    #: Networks that are blocked.
    blocks: tuple[Block, ...] = ()


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
INSERT INTO {{table}}
    SELECT :version, network, :length, :kind, :holder, CASE WHEN :epoch > 0 THEN :epoch ELSE 1 + coalesce((
        SELECT max(epoch) FROM past WHERE version = :version AND past.network = each.network AND length = :length
    ), 0) END, :state, :change FROM ({_EACH_NETWORK}) AS each
"""
_THESE_HOLDINGS = f"""
    FROM holding WHERE version = :version AND network IN ({_EACH_NETWORK})
    AND length = :length AND kind = :kind AND holder = :holder
"""
_END_HOLDINGS = f"""
INSERT OR REPLACE INTO past
    SELECT version, network, length, since, kind, holder, epoch, state, :change {_THESE_HOLDINGS}
"""
_RESTATE_HOLDINGS = f"UPDATE holding SET state = :state {_THESE_HOLDINGS.replace('FROM holding', '', 1)}"
_DELETE_HOLDINGS = f"DELETE {_THESE_HOLDINGS}"
_IS_INCOMING = """EXISTS (
    SELECT 1 FROM incoming WHERE incoming.version = holding.version AND incoming.network = holding.network
        AND incoming.length = holding.length AND incoming.kind = holding.kind AND incoming.holder = holding.holder
)"""

_HELD_COLUMNS = """
    version, network, length, kind, label.container, label.interface, holder.uuid, holder.container, state, epoch,
    given.time, given.command, given.user, given.login, given.process
"""
#: The names are those of the moment that is asked about: what the last change until then gave.
_NAMES = """
    JOIN holder ON holder.id = held.holder
    JOIN label ON label.holder = held.holder
        AND label.since = (SELECT max(since) FROM label WHERE holder = held.holder AND since <= max(:at, held.since))
    JOIN change AS given ON given.number = held.since
"""
_HELD_NOW = f"""
SELECT {_HELD_COLUMNS}, NULL, '', NULL, NULL, NULL FROM holding AS held {_NAMES}
    WHERE version = :version AND network = :network AND length = :length AND held.since <= :at
"""
_HELD_THEN = f"""
SELECT {_HELD_COLUMNS}, taken.time, taken.command, taken.user, taken.login, taken.process
    FROM past AS held {_NAMES} JOIN change AS taken ON taken.number = held.until
    WHERE version = :version AND network = :network AND length = :length AND held.since <= :at
    ORDER BY held.since DESC LIMIT :limit
"""
_INSERT_UPLINK = "INSERT OR IGNORE INTO uplink VALUES (?, ?)"
_INSERT_BLOCK = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)"
BLOCKS = "SELECT network, since, until, command, user, login, process FROM block ORDER BY network"
#: So many kinds of holdings of one network there may be at one time.
_KINDS = 4

#: So many commands that changed nothing are kept, the last ones: whoever asks in vain again and again fills no disk.
FAILURES = 10_000

#: How much of a command is kept for ever beside what it gave and took; the history has all of it.
_LONGEST_COMMAND = 200

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


#: version, network, length, kind, container, interface, epoch, state
HoldingRow: TypeAlias = tuple[int, bytes, int, str, str, str, int, str]
ALL_HOLDINGS = """
SELECT version, network, length, kind, label.container, label.interface, epoch, state FROM holding
    JOIN label ON label.holder = holding.holder
        AND label.since = (SELECT max(since) FROM label WHERE holder = holding.holder)
    ORDER BY 1, 2, 3, 4, 5, 6
"""


def documents_in(file: Path) -> tuple[bytes, ...]:
    """The documents of all containers, for one who is not the daemon; nothing is written.

    Raises Unavailable when they cannot be read.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return _only(connection.execute("SELECT document FROM container ORDER BY name").fetchall())
    except sqlite3.Error as error:
        raise Unavailable(f"{file} cannot be read: {error}", code="store-unreadable") from error


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
        #: Row numbers of holders with the names that were last kept, by UUID.
        self._holders: dict[str, tuple[int, str, str]] = {}
        try:
            # Autocommit mode: transactions are ours to begin and end.
            self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5)
        except sqlite3.Error as error:
            raise Unavailable(f"{file} cannot be opened: {error}", code="store-unreadable") from error
        try:
            self._open(schema, new_host_uuid, upgraded)
        except (sqlite3.Error, msgspec.DecodeError) as error:
            self.close()
            raise Unavailable(f"{file} cannot be opened: {error}", code="store-unreadable") from error
        except Unavailable:
            self.close()
            raise

    def load(self) -> Contents:
        """All that is kept. Raises Unavailable when it cannot be read."""
        try:
            return _contents(self._connection)
        except (sqlite3.Error, ValueError) as error:
            raise Unavailable(f"{self._file} cannot be read: {error}", code="store-unreadable") from error

    def copy(self, *, time: float, version: str) -> bytes:
        """All that is kept, as the content of a file; `StoreCopy` reads it. Raises Unavailable.

        When and by which version it was made is in it.
        """
        try:
            with contextlib.closing(_in_memory(self._connection)) as copy:
                copy.execute("CREATE TABLE backup (time REAL NOT NULL, version TEXT NOT NULL)")
                copy.execute("INSERT INTO backup VALUES (?, ?)", (time, version))
                return _serialized(copy)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._file} cannot be read: {error}", code="store-unreadable") from error

    def replace(self, new: Replacement) -> None:
        """Keep something else than before, whole or not at all; durable when this returns. Raises ApplyFailed."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            execute("DELETE FROM container")
            self._replace_holdings(new)
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
            self._connection.executemany(_INSERT_HISTORY, map(_history_values, lines))
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
            self._connection.execute(_INSERT_HISTORY, _history_values(line))
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
            self._connection.execute(_INSERT_HISTORY, _history_values(line))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            if not self._is_last(line):
                raise ApplyFailed(f"the change could not be saved: {_told(error)}", code="save-failed") from error

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
        self._holders.clear()  # with some of it
        # After some errors SQLite has rolled back already; a disk that is gone may refuse this too.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def history(self, *, limit: int) -> list[HistoryLine]:
        return _history(self._connection, limit=limit)

    def failures(self) -> list[HistoryLine]:
        """Commands that were refused or failed, the first first."""
        return _history(self._connection, limit=-1, table="failure")

    def keep_failures(self, lines: Sequence[HistoryLine]) -> None:
        """Keep that these commands changed nothing, and why; the oldest are forgotten. Raises ApplyFailed."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_INSERT_FAILURE, map(_history_values, lines))
            self._connection.execute(
                "DELETE FROM failure WHERE sequence <= (SELECT max(sequence) FROM failure) - ?", (FAILURES,)
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.roll_back()
            raise ApplyFailed(f"commands that failed could not be kept: {error}", code="save-failed") from error

    def holdings(self) -> list[HoldingRow]:
        """All rows of holdings, with the names of their holders, in the order of their key."""
        return self._connection.execute(ALL_HOLDINGS).fetchall()

    def close(self) -> None:
        self._connection.close()

    def _open(self, schema: int, new_host_uuid: str, upgraded: Callable[[bytes, int], bytes]) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        # What a long statement needs to undo itself would go to /var/tmp or /tmp, which may be read-only or full.
        self._connection.execute("PRAGMA temp_store=MEMORY")
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found > schema:
            raise Unavailable(f"{self._file} has schema {found}, this osctld knows {schema}", code="store-schema")
        if 0 < found < schema:
            self._keep_copy(found)
        if found < schema:
            _bring_to(self._connection, schema, found, new_host_uuid, upgraded)

    def _keep_copy(self, found: int) -> None:
        """The way back from a newer schema, whose version of osctld may do wrong."""
        place = copy_of_schema(self._file, found)
        try:
            with contextlib.closing(_in_memory(self._connection)) as copy:
                durable.write_file(place, _serialized(copy))
        except OSError as error:
            raise Unavailable(
                f"{self._file} is not brought to a newer schema: no copy could be made at {place}: {error.strerror}",
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
        self._write_holdings(change)
        execute("UPDATE host SET serial = ?", (change.host_serial,))
        if change.history is not None:
            execute(_INSERT_HISTORY, _history_values(change.history))

    # --- holdings -------------------------------------------------------------------------------------------------

    def _write_holdings(self, change: Saved) -> None:
        holders = [*change.holders, *(each.holder for each in (*change.holdings_removed, *change.holdings_added))]
        named = [each for each in holders if self._names_of(each.uuid) != (each.container, each.interface)]
        if not (named or change.holdings_removed or change.holdings_added or change.holdings_restated):
            return
        number = self._begin_change(change.history or HistoryLine(change.time, ""))
        for each in named:
            self._name(each, number)
        for rows in change.holdings_removed:
            values = self._values(rows, number)
            self._connection.execute(_END_HOLDINGS, values)
            self._connection.execute(_DELETE_HOLDINGS, values)
        for rows in change.holdings_added:
            self._connection.execute(_INSERT_HOLDINGS.format(table="holding"), self._values(rows, number))
        for rows in change.holdings_restated:
            self._connection.execute(_RESTATE_HOLDINGS, self._values(rows, number))

    def _replace_holdings(self, new: Replacement) -> None:
        """What stays is held since it was; the rest ends."""
        execute = self._connection.execute
        for table, rows_of in new.log.items():
            if not rows_of:
                continue
            marks = ", ".join("?" * len(rows_of[0]))
            self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows_of)
        number = self._begin_change(new.line or HistoryLine(0.0, ""))
        for rows in new.holdings:
            if self._names_of(rows.holder.uuid) != (rows.holder.container, rows.holder.interface):
                self._name(rows.holder, number)
        execute("CREATE TEMP TABLE incoming AS SELECT * FROM holding LIMIT 0")
        for rows in new.holdings:
            execute(_INSERT_HOLDINGS.format(table="incoming"), self._values(rows, number))
        execute("CREATE INDEX incoming_network ON incoming (version, network, length)")
        execute(
            "INSERT OR REPLACE INTO past SELECT version, network, length, since, kind, holder, epoch, state, ?"
            f" FROM holding WHERE NOT {_IS_INCOMING}",
            (number,),
        )
        execute(f"DELETE FROM holding WHERE NOT {_IS_INCOMING}")
        execute("INSERT OR IGNORE INTO holding SELECT * FROM incoming")
        for rows in new.holdings:
            execute(_RESTATE_HOLDINGS, self._values(rows, number))
        execute("DROP TABLE incoming")

    def _begin_change(self, line: HistoryLine) -> int:
        values = (line.time, line.command[:_LONGEST_COMMAND], line.by.user, line.by.login, line.by.process)
        statement = "INSERT INTO change (time, command, user, login, process) VALUES (?, ?, ?, ?, ?)"
        number = self._connection.execute(statement, values).lastrowid
        assert number is not None
        return number

    def _names_of(self, uuid: str) -> tuple[str, str] | None:
        """The names that a holder was last kept with."""
        if uuid not in self._holders:
            row = self._connection.execute(
                "SELECT id, label.container, interface FROM holder JOIN label ON holder = id"
                " WHERE uuid = ? ORDER BY since DESC LIMIT 1",
                (uuid,),
            ).fetchone()
            if row is None:
                return None
            self._holders[uuid] = row
        return self._holders[uuid][1:]

    def _name(self, holder: Holder, change: int) -> None:
        execute, names = self._connection.execute, (holder.container, holder.interface)
        if self._names_of(holder.uuid) is None:
            number = execute(
                "INSERT INTO holder (uuid, container) VALUES (?, ?)", (holder.uuid, holder.container_uuid)
            ).lastrowid
            assert number is not None
        else:
            number = self._holders[holder.uuid][0]
        execute("INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?)", (number, change, *names))
        self._holders[holder.uuid] = (number, *names)

    def _values(self, rows: Holdings, change: int) -> dict[str, Any]:
        octets = _OCTETS[rows.version]
        return {
            **{name: getattr(rows, name) for name in ("version", "networks", "length", "kind", "epoch", "state")},
            "octets": octets,
            "count": len(rows.networks) // octets,
            "change": change,
            "holder": self._holders[rows.holder.uuid][0],
        }

    def held(self, version: int, address: bytes, length: int, *, at: float | None = None) -> list[Held]:
        """Who holds the network, or a wider one around it, or did at a moment in seconds since 1970; the widest first.

        Raises Unavailable when it cannot be read.
        """
        try:
            number = self._change_at(at)
            found: list[Held] = []
            for shorter in range(length + 1):
                values = {
                    "version": version, "length": shorter, "network": _masked(address, shorter), "at": number,
                    "limit": _KINDS,
                }  # fmt: skip
                found += map(_held, self._connection.execute(_HELD_NOW, values))
                if at is not None:
                    then = map(_held, self._connection.execute(_HELD_THEN, values))
                    found += [each for each in then if each.until is not None and each.until > at]
        except sqlite3.Error as error:
            raise Unavailable(f"{self._file} cannot be read: {error}", code="store-unreadable") from error
        return found

    def given(self, networks: Iterable[tuple[int, bytes, int]]) -> list[Held]:
        """Since when, and by whom, these networks are held, each by version, address and length."""
        now = self._change_at(None)
        return [
            _held(row)
            for version, address, length in networks
            for row in self._connection.execute(
                _HELD_NOW, {"version": version, "network": address, "length": length, "at": now}
            )
        ]

    def _change_at(self, at: float | None) -> int:
        """The number of the last change until a moment; of the last of all."""
        where, values = ("", ()) if at is None else ("WHERE time <= ?", (at,))
        (number,) = self._connection.execute(
            f"SELECT number FROM change {where} ORDER BY time DESC, number DESC LIMIT 1", values
        ).fetchone() or (-1,)
        if at is None:
            (number,) = self._connection.execute("SELECT max(number) FROM change").fetchone()
        return int(number)

    def released_since(self, moment: float) -> list[tuple[int, bytes, int, float]]:
        """Version, address and length of networks whose holding ended at that moment or later, and when."""
        return self._connection.execute(
            "SELECT version, network, length, time FROM past JOIN change ON number = until"
            " WHERE until IN (SELECT number FROM change WHERE time >= ?)",
            (moment,),
        ).fetchall()

    def ended_since(self, time: float) -> list[tuple[str, int, bytes, int]]:
        """UUID of the container, IP version, network and length of each holding that ended after that time."""
        return self._connection.execute(
            "SELECT DISTINCT holder.container, past.version, network, length FROM change"
            " JOIN past ON until = number JOIN holder ON holder.id = past.holder WHERE time > ?",
            (time,),
        ).fetchall()

    def forget_history(self, *, before: float, more_than: int) -> None:
        """Keep of the history what is not older than a moment, and so many lines at most. Raises ApplyFailed."""
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
            return _history(self._connection, limit=1) == [line]
        except sqlite3.Error:
            return False


class StoreCopy:
    """What `Store.copy` made, in memory."""

    def __init__(self, content: bytes, *, name: str, schema: int, upgraded: Callable[[bytes, int], bytes]) -> None:
        """`name` is what the person calls it. Raises Refused for what is no copy, or a damaged one, or a newer one."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            connection.deserialize(content or b"nothing")
            problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            if problems != ["ok"]:
                raise Refused(f"{name!r} is damaged: {problems[0]}", code="bad-copy", subject=name)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > schema:
                raise Refused(
                    f"{name!r} has schema {found}, this osctld knows {schema}", code="store-schema", subject=name
                )
            made = connection.execute("SELECT time, version FROM backup").fetchone()
            if 0 < found < schema:
                _bring_to(connection, schema, found, "", upgraded)
            #: Seconds since 1970, and the version of osctld.
            self.made: tuple[float, str] = (float(made[0]), str(made[1]))
            self.contents = _contents(connection)
            self.history = _history(connection, limit=-1)
        except (sqlite3.Error, msgspec.DecodeError, ValueError, TypeError) as error:
            reason = f"{name!r} is no copy that osctl self backup made: {error}"
            raise Refused(reason, code="bad-copy", subject=name) from error
        finally:
            connection.close()


def _bring_to(
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


def _contents(connection: sqlite3.Connection) -> Contents:
    """Raises ValueError for tables that have not the rows that they must have."""
    ((uuid, serial),) = connection.execute("SELECT uuid, serial FROM host").fetchall()
    documents = connection.execute("SELECT document FROM container ORDER BY name").fetchall()
    ((run, boot),) = connection.execute("SELECT number, boot FROM run").fetchall()
    pending = connection.execute("SELECT document FROM pending ORDER BY container").fetchall()
    uplinks = connection.execute("SELECT name FROM uplink ORDER BY name").fetchall()
    links = tuple(name for (name,) in uplinks)
    blocks = tuple(map(block_of, connection.execute(BLOCKS)))
    return Contents(uuid, serial, _only(documents), run, boot, _only(pending), links, blocks)


def block_of(row: tuple[Any, ...]) -> Block:
    """A row of BLOCKS as a value. Raises ValueError for one that makes no sense."""
    network, since, until, command, user, login, process = row
    try:
        return Block(Network.parse(network), since, until, Person(user, login, process), command)
    except Refused as error:
        raise ValueError(f"a row of blocked networks makes no sense: {error}") from error


_INSERT_HISTORY = "INSERT INTO history (time, command, user, login, process, result) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_FAILURE = _INSERT_HISTORY.replace("history", "failure")


def _history_values(line: HistoryLine) -> tuple[Any, ...]:
    return (line.time, line.command, line.by.user, line.by.login, line.by.process, line.result)


def history_line(row: tuple[Any, ...]) -> HistoryLine:
    """A row of HISTORY_COLUMNS as a value."""
    time, command, user, login, process, result = row
    return HistoryLine(time, command, Person(user, login, process), result)


#: In the order in which `history_line` takes them.
HISTORY_COLUMNS = "time, command, user, login, process, result"


def _history(connection: sqlite3.Connection, *, limit: int, table: str = "history") -> list[HistoryLine]:
    rows = connection.execute(f"SELECT {HISTORY_COLUMNS} FROM {table} ORDER BY sequence DESC LIMIT ?", (limit,))
    return [history_line(row) for row in reversed(rows.fetchall())]


def _in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A copy that needs no disk: one is wanted most when that is full."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    connection.backup(copy)
    return copy


def _serialized(connection: sqlite3.Connection) -> bytes:
    return without_log(connection.serialize())


def without_log(content: bytes) -> bytes:
    """A database file that needs no write-ahead log beside it: the log's mode is in the file's head."""
    return content[:18] + b"\1\1" + content[20:]  # read and write version (SQLite, Database File Format, 1.3.3)


def copy_of_schema(file: Path, schema: int) -> Path:
    """Where the copy of a store is that was made before its schema, this one, was left behind."""
    return file.with_name(f"{file.name}.schema{schema}")


def _told(error: sqlite3.Error) -> str:
    """What SQLite says, and who knows more where it is about more than one change."""
    is_damage = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return f"{error}; osctld --check tells more" if is_damage else str(error)


def _only(rows: Iterable[tuple[bytes]]) -> tuple[bytes, ...]:
    """The one column that the rows have."""
    return tuple(value for (value,) in rows)


_OCTETS = {4: 4, 6: 16}


def _masked(address: bytes, length: int) -> bytes:
    """The first so many bits of a packed address, the rest zero."""
    rest = 8 * len(address) - length
    return (int.from_bytes(address, "big") >> rest << rest).to_bytes(len(address), "big")


def _held(row: tuple[Any, ...]) -> Held:
    version, network, length, kind, container, interface, uuid, container_uuid, state, epoch = row[:10]
    since, command, user, login, process, until, until_command, until_user, until_login, until_process = row[10:]
    return Held(
        version=version,
        network=network,
        length=length,
        kind=kind,
        container=container,
        interface=interface,
        uuid=uuid,
        container_uuid=container_uuid,
        state=state,
        epoch=epoch,
        since=since or None,
        command=command,
        by=Person(user, login, process),
        until=until,
        until_command=until_command,
        until_by=Person(until_user, until_login, until_process),
    )
