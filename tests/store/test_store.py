"""The store on real SQLite files: what it keeps, and what a disk may do to it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from osctld.config import HoldingRows
from osctld.core.errors import ApplyFailed, Unavailable
from osctld.shell.store import Contents, HistoryLine, Saved, Store

SCHEMA = 2
UUID = "3d5d0a8e-6a54-4e4b-9c5c-0d8c4d1f0a11"

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def opened(file: Path) -> Store:
    return Store(file, schema=SCHEMA, new_host_uuid=UUID)


def holding(number: int, *, container: str = "web01", epoch: int = 1, state: str = "wanted") -> HoldingRows:
    return HoldingRows(4, number.to_bytes(4, "big"), 32, "route", container, "eth0", epoch, state)


def change(
    serial: int,
    *,
    container: str = "web01",
    document: bytes | None = b"{}",
    added: tuple[HoldingRows, ...] = (),
    removed: tuple[HoldingRows, ...] = (),
) -> Saved:
    return Saved(container, document, serial, removed, added, HistoryLine(float(serial), f"change {serial}"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "osctl.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    store = opened(file)
    yield store
    store.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- what it keeps -----------------------------------------------------------------------------------------------


def test_a_new_store_knows_the_host_and_nothing_else(store: Store) -> None:
    assert store.load() == Contents(UUID, 0, ())
    assert store.history(limit=10) == []
    assert store.holdings() == []


def test_what_was_saved_is_there_when_it_is_opened_again(store: Store, file: Path) -> None:
    store.save(change(1, document=b"one", added=(holding(1), holding(2))))
    store.save(change(2, container="db", document=b"two", added=(holding(3, container="db"),)))
    store.save(change(3, document=b"three", removed=(holding(1),), added=(holding(4),)))
    store.close()

    again = opened(file)

    assert again.load() == Contents(UUID, 3, (b"two", b"three"))  # by name: db, web01
    assert [row[1][-1] for row in again.holdings()] == [2, 3, 4]
    assert [line.command for line in again.history(limit=2)] == ["change 2", "change 3"]
    again.close()


def test_a_store_keeps_the_uuid_of_its_host(store: Store, file: Path) -> None:
    store.close()

    again = Store(file, schema=SCHEMA, new_host_uuid="another")

    assert again.load().host_uuid == UUID
    again.close()


def test_deleting_a_container_deletes_its_document(store: Store) -> None:
    store.save(change(1, added=(holding(1),)))

    store.save(change(2, document=None, removed=(holding(1),)))

    assert store.load().documents == ()
    assert store.holdings() == []
    assert [line.command for line in store.history(limit=9)] == ["change 1", "change 2"]


def test_a_change_that_was_not_made_in_the_end_is_not_kept(store: Store, file: Path) -> None:
    store.save(change(1, added=(holding(1),)))

    store.save(change(2, document=b"two", removed=(holding(1),), added=(holding(2),)), is_made=lambda: False)

    store.save(change(3, container="db", document=b"three"))
    store.close()
    again = opened(file)
    assert again.load() == Contents(UUID, 3, (b"three", b"{}"))
    assert [row[1][-1] for row in again.holdings()] == [1]
    assert [line.command for line in again.history(limit=10)] == ["change 1", "change 3"]
    again.close()


def test_holdings_of_all_kinds_are_kept_and_deleted_each_by_itself(store: Store) -> None:
    rows = [
        HoldingRows(version, number.to_bytes(octets, "big"), length, kind, container, "eth0")
        for version, octets, length in ((4, 4, 32), (4, 4, 24), (6, 16, 128))
        for number in (0, 1, 256, (1 << 31) + 7)
        for kind, container in (("route", "web01"), ("address", "web01"), ("route", "db"))
    ]
    store.save(change(1, added=tuple(rows)))
    assert [row[:6] for row in store.holdings()] == sorted(map(_key, rows))

    store.save(change(2, removed=tuple(rows[::2])))

    assert [row[:6] for row in store.holdings()] == sorted(map(_key, rows[1::2]))


def _key(row: HoldingRows) -> tuple[int, bytes, int, str, str, str]:
    return (row.version, row.networks, row.length, row.kind, row.container, row.interface)


def test_another_reader_sees_a_save_as_soon_as_it_has_returned(store: Store, file: Path) -> None:
    store.save(change(1, document=b"seen"))

    witness = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = witness.execute("SELECT document FROM container").fetchall()
    witness.close()

    assert rows == [(b"seen",)]


def test_commits_are_written_through(store: Store) -> None:
    (synchronous,) = store._connection.execute("PRAGMA synchronous").fetchone()
    (mode,) = store._connection.execute("PRAGMA journal_mode").fetchone()

    assert (synchronous, mode) == (2, "wal")  # 2 is FULL


def test_a_holding_that_changes_its_state_is_kept_with_the_new_one(store: Store) -> None:
    store.save(change(1, added=(holding(1),)))

    parked = [holding(1, epoch=2, state="parked")]
    store.save(Saved("web01", b"{}", 2, [holding(1)], parked, HistoryLine(2.0, "park")))

    assert [row[-2:] for row in store.holdings()] == [(2, "parked")]


# --- what it refuses ---------------------------------------------------------------------------------------------


def test_a_change_that_cannot_be_written_leaves_everything_as_it_was(store: Store) -> None:
    store.save(change(1, document=b"old", added=(holding(1),)))

    with pytest.raises(ApplyFailed, match="the change could not be saved: UNIQUE constraint failed"):
        store.save(change(2, document=b"new", added=(holding(2), holding(1))))

    assert store.load() == Contents(UUID, 1, (b"old",))
    assert len(store.holdings()) == 1
    assert len(store.history(limit=9)) == 1
    store.save(change(2, document=b"new", added=(holding(2),)))
    assert store.load().documents == (b"new",)


@pytest.mark.parametrize("found", [3, 99])
def test_a_store_of_another_schema_is_refused_and_left_alone(file: Path, found: int) -> None:
    opened(file).close()
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute(f"PRAGMA user_version = {found}")
    before = file.read_bytes()
    open_before = descriptors()

    with pytest.raises(Unavailable, match=f"{file} has schema {found}, this osctld knows {SCHEMA}"):
        opened(file)

    assert file.read_bytes() == before
    assert descriptors() == open_before


def test_what_is_pending_is_there_until_it_is_saved_or_forgotten(file: Path) -> None:
    with contextlib.closing(opened(file)) as store:
        store.note_pending("web01", b"one")
        store.note_pending("web01", b"two")
        store.note_pending("web02", b"other")

    with contextlib.closing(opened(file)) as again:
        assert again.load().pending == (b"two", b"other")
        again.forget_pending("web02")
        assert again.load().pending == (b"two",)
        again.save(change(1))
        assert again.load().pending == ()


def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.write_bytes(b"not a database at all, but long enough to have a header " * 40)
    before = file.read_bytes()
    open_before = descriptors()

    with pytest.raises(Unavailable, match=f"{file} cannot be opened: file is not a database"):
        opened(file)

    assert file.read_bytes() == before
    assert descriptors() == open_before


def test_a_damaged_page_is_said_in_words_when_it_is_read(store: Store, file: Path) -> None:
    store.save(change(1, document=b"x" * 100_000))
    store.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    file.write_bytes(damaged)

    again = opened(file)
    with pytest.raises(Unavailable, match=f"{file} cannot be read: "):
        again.load()
    again.close()


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open database file"):
        opened(tmp_path / "nowhere" / "osctl.db")


def test_a_locked_store_refuses_a_change_and_takes_it_later(store: Store, file: Path) -> None:
    store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(ApplyFailed, match="database is locked"):
        store.save(change(1))

    other.execute("ROLLBACK")
    other.close()
    store.save(change(1))
    assert store.load().host_serial == 1


# --- a disk that is full, read-only, torn ------------------------------------------------------------------------


def test_a_store_that_may_not_grow_refuses_a_change_and_keeps_the_rest(store: Store) -> None:
    store.save(change(1, document=b"old", added=(holding(1),)))
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(ApplyFailed, match="the change could not be saved: database or disk is full"):
        store.save(change(2, document=b"x" * 1_000_000, added=(holding(2),)))

    assert store.load() == Contents(UUID, 1, (b"old",))
    store.save(change(2, document=b"small"))
    assert store.load() == Contents(UUID, 2, (b"small",))


_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    if _libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def in_own_mount_namespace(target: object) -> None:
    """Call it in a thread that has a mount namespace of its own, which ends with the thread."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if _libc.unshare(CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "unshare")
            _mount("none", Path("/"), "", MS_REC | MS_PRIVATE, "")
            assert callable(target)
            target()
        except BaseException as failure:  # noqa: BLE001 -- raised again in the caller's thread
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@needs_root
def test_on_a_full_disk_a_change_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    def scenario() -> None:
        _mount("tmpfs", tmp_path, "tmpfs", 0, "size=1m")
        store = opened(tmp_path / "osctl.db")
        store.save(change(1, document=b"old", added=(holding(1),)))
        filler = tmp_path / "filler"
        free = shutil.disk_usage(tmp_path).free
        filler.write_bytes(b"x" * free)
        assert shutil.disk_usage(tmp_path).free == 0

        with pytest.raises(ApplyFailed, match="the change could not be saved: "):
            store.save(change(2, document=b"x" * 60_000, added=(holding(2),)))

        assert store.load() == Contents(UUID, 1, (b"old",))
        filler.unlink()
        store.save(change(2, document=b"new", added=(holding(2),)))
        store.close()
        again = opened(tmp_path / "osctl.db")
        assert again.load() == Contents(UUID, 2, (b"new",))
        assert len(again.holdings()) == 2
        again.close()

    in_own_mount_namespace(scenario)


@needs_root
def test_in_a_read_only_directory_nothing_is_saved_and_it_is_said(tmp_path: Path) -> None:
    def scenario() -> None:
        _mount("tmpfs", tmp_path, "tmpfs", 0, "size=1m")
        store = opened(tmp_path / "osctl.db")
        store.save(change(1, document=b"old"))
        store.close()
        _mount("tmpfs", tmp_path, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m")
        open_before = descriptors()

        with pytest.raises(Unavailable, match=f"{tmp_path}/osctl.db cannot be opened: "):
            opened(tmp_path / "osctl.db")
        with pytest.raises(Unavailable, match=f"{tmp_path}/new.db cannot be opened: "):
            opened(tmp_path / "new.db")

        assert descriptors() == open_before
        _mount("tmpfs", tmp_path, "tmpfs", MS_REMOUNT, "size=1m")
        again = opened(tmp_path / "osctl.db")
        assert again.load() == Contents(UUID, 1, (b"old",))
        again.close()

    in_own_mount_namespace(scenario)


def test_a_torn_last_write_loses_that_write_alone(store: Store, file: Path, tmp_path: Path) -> None:
    store.save(change(1, document=b"first"))
    log = Path(f"{file}-wal")
    complete = log.stat().st_size
    store.save(change(2, document=b"second" * 50))
    crashed = tmp_path / "crashed"
    sizes = range(complete, log.stat().st_size, 512)
    assert len(sizes) > 5

    for size in sizes:
        shutil.rmtree(crashed, ignore_errors=True)
        crashed.mkdir()
        shutil.copy(file, crashed / "osctl.db")
        (crashed / "osctl.db-wal").write_bytes(log.read_bytes()[:size])

        again = opened(crashed / "osctl.db")

        assert again.load() == Contents(UUID, 1, (b"first",))
        assert [line.command for line in again.history(limit=9)] == ["change 1"]
        again.save(change(2, document=b"next"))
        assert again.load() == Contents(UUID, 2, (b"next",))
        again.close()


#: Saves without end, and says so after each one.
WRITER = """
import sys
from pathlib import Path
from osctld.config import HoldingRows
from osctld.shell.store import HistoryLine, Saved, Store
store = Store(Path(sys.argv[1]), schema=2, new_host_uuid="u")
before = ()
for serial in range(1, 1_000_000):
    rows = tuple(HoldingRows(4, (serial + n).to_bytes(4, "big"), 32, "route", "web01", "eth0") for n in range(40))
    document = str(serial).encode() * 500
    store.save(Saved("web01", document, serial, before, rows, HistoryLine(float(serial), f"change {serial}")))
    before = rows
    print(serial, flush=True)
"""


@pytest.mark.parametrize("enough", [1, 2, 5, 17, 60])
def test_killed_in_the_middle_of_a_commit_what_was_answered_is_kept_and_nothing_is_half(
    file: Path, enough: int
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert writer.stdout is not None
    answered = 0
    while answered < enough:
        answered = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    answered = int(rest[-1]) if rest else answered
    writer.stdout.close()
    writer.wait()

    again = Store(file, schema=2, new_host_uuid="u")
    kept = again.load()

    assert kept.host_serial in (answered, answered + 1)
    assert kept.documents == (str(kept.host_serial).encode() * 500,)
    assert [int.from_bytes(row[1], "big") for row in again.holdings()] == [kept.host_serial + n for n in range(40)]
    assert len(again.history(limit=1_000_000)) == kept.host_serial
    again.close()


def test_a_commit_that_reports_an_error_but_reached_the_disk_counts(store: Store, file: Path) -> None:
    class FailingAfterCommit:
        """The connection, except that it reports an error once a commit is done."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def __getattr__(self, name: str) -> object:
            return getattr(self.connection, name)

        def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
            cursor = self.connection.execute(statement, values)
            if statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return cursor

    store._connection = FailingAfterCommit(store._connection)  # type: ignore[assignment]

    store.save(change(1, document=b"kept"))

    witness = opened(file)
    assert witness.load() == Contents(UUID, 1, (b"kept",))
    witness.close()


def test_a_store_of_the_first_schema_is_brought_to_the_present_one_with_all_that_it_holds(file: Path) -> None:
    old = sqlite3.connect(file)
    old.executescript(
        """
        CREATE TABLE host (uuid TEXT NOT NULL, serial INTEGER NOT NULL);
        CREATE TABLE container (name TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE holding (
            version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, kind TEXT NOT NULL,
            container TEXT NOT NULL, interface TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
            PRIMARY KEY (version, network, length, kind, container, interface)
        ) WITHOUT ROWID;
        CREATE TABLE history (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, command TEXT NOT NULL
        );
        INSERT INTO host VALUES ('of-old', 3);
        INSERT INTO container VALUES ('web01', x'7b7d');
        INSERT INTO history (time, command) VALUES (1.0, 'ct new web01');
        PRAGMA user_version = 1;
        """
    )
    old.close()

    store = opened(file)
    store.begin_run()
    contents, history = store.load(), store.history(limit=10)
    store.close()

    assert contents == Contents("of-old", 3, (b"{}",), run=1)
    assert history == [HistoryLine(1.0, "ct new web01")]


def test_each_run_gets_a_number_of_its_own_and_the_boot_is_remembered(file: Path) -> None:
    for number in (1, 2, 3):
        store = opened(file)
        store.begin_run()
        assert store.load().run == number
        store.keep_boot("this one")
        store.close()

    store = opened(file)
    assert store.load().boot == "this one"
    store.close()


def test_a_change_that_nobody_asked_for_leaves_no_line_in_the_history(store: Store) -> None:
    store.save(Saved("web01", b"{}", 1, (), (), None))

    assert store.load().documents == (b"{}",)
    assert store.history(limit=10) == []
