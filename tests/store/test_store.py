"""The store on real SQLite files: what it keeps, and what a disk may do to it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from osctld.config import HoldingRows, decode_container, encode_container, upgraded
from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import Block
from osctld.core.authority.claims import Holder
from osctld.core.config.host import Host
from osctld.core.config.settings import Settings
from osctld.core.errors import ApplyFailed, Unavailable
from osctld.core.person import Person
from osctld.shell.store import files, history
from osctld.shell.store.contents import Contents
from osctld.shell.store.copies import StoreCopy
from osctld.shell.store.database import Store
from osctld.shell.store.rows import HistoryLine, Replacement, Saved
from osctld.shell.store.schema import copy_of_schema

SCHEMA = 6
UUID = "3d5d0a8e-6a54-4e4b-9c5c-0d8c4d1f0a11"

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def opened(file: Path) -> Store:
    return Store(file, schema=SCHEMA, new_host_uuid=UUID)


def holding(number: int, *, container: str = "web01", epoch: int = 1, state: str = "wanted") -> HoldingRows:
    return HoldingRows(4, number.to_bytes(4, "big"), 32, "route", holder(container), epoch, state)


def holder(container: str, interface: str = "eth0", *, uuid: str = "") -> Holder:
    return Holder(container, interface, uuid or f"uuid of {interface} of {container}", f"uuid of {container}")


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
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Those that were opened, in order: what is set for one is seen through no other."""
    connect, made = sqlite3.connect, list[sqlite3.Connection]()

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", connected)
    return made


@pytest.fixture
def store(file: Path, connections: list[sqlite3.Connection]) -> Iterator[Store]:  # noqa: ARG001 - listed there
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

    store.write(change(2, document=b"two", removed=(holding(1),), added=(holding(2),)))
    store.roll_back()

    store.save(change(3, container="db", document=b"three"))
    store.close()
    again = opened(file)
    assert again.load() == Contents(UUID, 3, (b"three", b"{}"))
    assert [row[1][-1] for row in again.holdings()] == [1]
    assert [line.command for line in again.history(limit=10)] == ["change 1", "change 3"]
    again.close()


def test_holdings_of_all_kinds_are_kept_and_deleted_each_by_itself(store: Store) -> None:
    rows = [
        HoldingRows(version, number.to_bytes(octets, "big"), length, kind, holder(container))
        for version, octets, length in ((4, 4, 32), (4, 4, 24), (6, 16, 128))
        for number in (0, 1, 256, (1 << 31) + 7)
        for kind, container in (("route", "web01"), ("address", "web01"), ("route", "db"))
    ]
    store.save(change(1, added=tuple(rows)))
    assert [row[:6] for row in store.holdings()] == sorted(map(_key, rows))

    store.save(change(2, removed=tuple(rows[::2])))

    assert [row[:6] for row in store.holdings()] == sorted(map(_key, rows[1::2]))


def _key(row: HoldingRows) -> tuple[int, bytes, int, str, str, str]:
    return (row.version, row.networks, row.length, row.kind, row.holder.container, row.holder.interface)


def test_another_reader_sees_a_save_as_soon_as_it_has_returned(store: Store, file: Path) -> None:
    store.save(change(1, document=b"seen"))

    witness = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = witness.execute("SELECT document FROM container").fetchall()
    witness.close()

    assert rows == [(b"seen",)]


@pytest.mark.usefixtures("store")
def test_commits_are_written_through(connections: list[sqlite3.Connection]) -> None:
    (synchronous,) = connections[0].execute("PRAGMA synchronous").fetchone()
    (mode,) = connections[0].execute("PRAGMA journal_mode").fetchone()

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


@pytest.mark.parametrize("found", [SCHEMA + 1, 99])
def test_a_store_of_another_schema_is_refused_and_left_alone(file: Path, found: int) -> None:
    opened(file).close()
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute(f"PRAGMA user_version = {found}")
    before = file.read_bytes()
    open_before = descriptors()

    with pytest.raises(Unavailable, match=f"{file}: has schema {found}, this osctld supports {SCHEMA}"):
        opened(file)

    assert file.read_bytes() == before
    assert descriptors() == open_before


#: The tables of schema 3, as the version that had it made them.
SCHEMA_3 = """
CREATE TABLE host (uuid TEXT NOT NULL, serial INTEGER NOT NULL);
INSERT INTO host VALUES ('3d5d0a8e-6a54-4e4b-9c5c-0d8c4d1f0a11', 2);
CREATE TABLE container (name TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE holding (
    version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, kind TEXT NOT NULL,
    container TEXT NOT NULL, interface TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (version, network, length, kind, container, interface)
) WITHOUT ROWID;
CREATE TABLE history (sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, command TEXT NOT NULL);
CREATE TABLE run (number INTEGER NOT NULL, boot TEXT NOT NULL);
INSERT INTO run VALUES (0, '');
CREATE TABLE pending (container TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO container VALUES ('web01', CAST('%s' AS BLOB));
INSERT INTO holding VALUES (4, x'01020304', 32, 'route', 'web01', 'eth0', 1, 'wanted');
INSERT INTO holding VALUES (4, x'0a000000', 30, 'via', 'web01', 'eth1', 1, 'wanted');
INSERT INTO history VALUES (1, 5.0, 'osctl ct netif ip add web01 eth0 1.2.3.4');
PRAGMA user_version = 3
"""
OLD_DOCUMENT = json.dumps(
    {"uuid": "of web01", "interfaces": [{"uuid": "of eth0", "name": "eth0"}, {"uuid": "of eth1", "name": "eth1"}]}
)


def store_of_schema_3(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as old:
        for statement in (SCHEMA_3 % OLD_DOCUMENT).split(";"):
            old.execute(statement)


def test_a_store_is_copied_before_it_is_brought_to_a_newer_schema_and_not_without(file: Path) -> None:
    store_of_schema_3(file)
    copy = copy_of_schema(file, 3)
    copy.mkdir()  # nothing can be written in its place

    with pytest.raises(Unavailable, match=f"not upgraded to a newer schema, no copy could be made at {copy}"):
        Store(file, schema=SCHEMA, new_host_uuid=UUID, upgraded=lambda _, schema: b"from %d" % schema)

    copy.rmdir()
    with contextlib.closing(
        Store(file, schema=SCHEMA, new_host_uuid=UUID, upgraded=lambda _, schema: b"from %d" % schema)
    ) as again:
        assert again.load().documents == (b"from 3",)
    with contextlib.closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as there:
        assert there.execute("PRAGMA user_version").fetchall() == [(3,)]
        assert there.execute("SELECT document FROM container").fetchall() == [(OLD_DOCUMENT.encode(),)]
        assert there.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [each.name for each in copy.parent.glob("*.schema*")] == [copy.name]


def test_holdings_of_schema_3_are_held_on_by_uuids_and_nobody_knows_since_when(file: Path) -> None:
    store_of_schema_3(file)

    with contextlib.closing(opened(file)) as store:
        assert store.holdings() == [
            (4, bytes((1, 2, 3, 4)), 32, "route", "web01", "eth0", 1, "wanted"),
            (4, bytes((10, 0, 0, 0)), 30, "via", "web01", "eth1", 1, "wanted"),
        ]
        (held,) = store.held(4, bytes((1, 2, 3, 4)), 32)
        assert (held.uuid, held.container_uuid, held.since, held.command) == ("of eth0", "of web01", None, "")
        assert store.history(limit=9) == [HistoryLine(5.0, "osctl ct netif ip add web01 eth0 1.2.3.4")]
        gone = HoldingRows(4, bytes((1, 2, 3, 4)), 32, "route", Holder("web01", "eth0", "of eth0", "of web01"))
        store.save(change(3, removed=(gone,)))
        assert [row[3] for row in store.holdings()] == ["via"]


# --- who held what -----------------------------------------------------------------------------------------------


def line(time: float, command: str, user: int = 0) -> HistoryLine:
    return HistoryLine(time, command, Person(user, 1000 + user, 77))


def test_who_held_a_network_is_known_over_deletions_and_renames(store: Store) -> None:
    given, taken, again = holding(1), holding(1), HoldingRows(4, bytes((0, 0, 0, 1)), 32, "route", holder("db"))
    renamed = holder("shop", uuid=holder("web01").uuid)
    store.save(Saved("web01", b"{}", 1, (), (given,), line(10.0, "give")))
    store.save(Saved("web01", b"{}", 1, (), (), line(20.0, "rename"), holders=(renamed,)))
    store.save(Saved("web01", None, 1, (taken,), (), line(30.0, "delete", user=7)))
    store.save(Saved("db", b"{}", 1, (), (again,), line(40.0, "give again")))

    def who(at: float | None) -> list[tuple[str, float | None, float | None]]:
        return [(each.container, each.since, each.until) for each in store.held(4, bytes((0, 0, 0, 1)), 32, at=at)]

    assert who(9.9) == []
    assert who(10.0) == [("web01", 10.0, 30.0)]
    assert who(19.0) == [("web01", 10.0, 30.0)]
    assert who(25.0) == [("shop", 10.0, 30.0)]
    assert who(30.0) == who(35.0) == []
    assert who(41.0) == who(None) == [("db", 40.0, None)]
    (then,) = store.held(4, bytes((0, 0, 0, 1)), 32, at=25.0)
    assert (then.uuid, then.command, then.until_command) == (holder("web01").uuid, "give", "delete")
    assert (then.by, then.until_by) == (Person(0, 1000, 77), Person(7, 1007, 77))


def test_a_part_of_a_network_was_held_by_who_held_the_network_and_by_who_was_given_the_part(store: Store) -> None:
    wide = HoldingRows(4, bytes((10, 0, 0, 0)), 8, "route", holder("web01"))
    part = HoldingRows(4, bytes((10, 5, 0, 0)), 16, "route", holder("db"))
    store.save(Saved("web01", b"{}", 1, (), (wide,), line(1.0, "wide")))
    store.save(Saved("db", b"{}", 1, (), (part,), line(2.0, "part")))

    def who(*octets: int, at: float | None = None) -> list[str]:
        return [each.container for each in store.held(4, bytes(octets), 32, at=at)]

    assert who(10, 5, 1, 1) == ["web01", "db"]
    assert who(10, 6, 1, 1) == ["web01"]
    assert who(10, 5, 1, 1, at=1.5) == ["web01"]
    assert who(11, 5, 1, 1) == []
    found = store.given([(4, bytes((10, 5, 0, 0)), 16), (4, bytes((10, 0, 0, 0)), 16)])
    assert [(each.container, each.since) for each in found] == [("db", 2.0)]


def test_a_change_that_moves_no_network_and_no_name_is_none_of_the_log(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    store.save(Saved("web01", b"{}", 1, (), (holding(1),), line(1.0, "give"), holders=(holder("web01"),)))
    store.save(Saved("web01", b"other", 1, (), (), line(2.0, "set"), holders=(holder("web01"),)))

    assert connections[0].execute("SELECT command FROM change ORDER BY number").fetchall() == [("",), ("give",)]
    assert [each.command for each in store.history(limit=9)] == ["give", "set"]
    assert store.history(limit=1) == [line(2.0, "set")]


def test_what_a_failed_save_named_is_named_by_the_next(store: Store) -> None:
    store.save(change(1, added=(holding(1),)))
    with pytest.raises(ApplyFailed):
        store.save(change(2, container="db", added=(holding(2, container="db"), holding(1), holding(1))))

    store.save(change(2, container="db", added=(holding(2, container="db"),)))

    assert [row[4] for row in store.holdings()] == ["web01", "db"]


def test_what_a_replacement_keeps_is_held_since_it_was(store: Store) -> None:
    store.save(Saved("web01", b"{}", 1, (), (holding(1), holding(2)), line(1.0, "give")))
    kept, come = holding(1), holding(3)
    store.replace(Replacement(UUID, 1, {"web01": b"{}"}, [kept, come], 0, None, None, line(5.0, "restore")))

    def since(number: int, at: float | None = None) -> list[tuple[float | None, float | None]]:
        return [(each.since, each.until) for each in store.held(4, number.to_bytes(4, "big"), 32, at=at)]

    assert since(1) == [(1.0, None)]
    assert since(2) == []
    assert since(2, at=4.0) == [(1.0, 5.0)]
    assert since(3) == [(5.0, None)]


def test_what_was_released_lately_is_known(store: Store) -> None:
    store.save(Saved("web01", b"{}", 1, (), (holding(1), holding(2)), line(1.0, "give")))
    store.save(Saved("web01", b"{}", 1, (holding(1),), (), line(5.0, "take")))
    store.save(Saved("web01", b"{}", 1, (holding(2),), (), line(9.0, "take")))

    assert store.released_since(6.0) == [(4, bytes((0, 0, 0, 2)), 32, 9.0)]
    assert len(store.released_since(5.0)) == 2


def test_declared_uplinks_are_kept_with_who_declared_them(store: Store, file: Path) -> None:
    store.save_uplinks(["up0", "up1"], line(3.0, "declare", user=5))
    store.close()

    with contextlib.closing(opened(file)) as again:
        assert again.load().uplinks == ("up0", "up1")
        assert again.history(limit=9) == [line(3.0, "declare", user=5)]
        again.save_uplinks(["up1"], line(4.0, "take back"))
        assert again.load().uplinks == ("up1",)


def test_the_history_is_shortened_by_age_and_by_number_and_the_log_is_not(store: Store) -> None:
    for number in range(1, 11):
        store.save(change(number, added=(holding(number),)))

    store.forget_history(before=4.0, more_than=100)
    assert [each.time for each in store.history(limit=99)] == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    store.forget_history(before=0.0, more_than=3)
    assert [each.time for each in store.history(limit=99)] == [8.0, 9.0, 10.0]
    (held,) = store.held(4, (2).to_bytes(4, "big"), 32)
    assert (held.since, held.command) == (2.0, "change 2")


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

    with pytest.raises(Unavailable, match=f"{file}: cannot be opened: file is not a database"):
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
    with pytest.raises(Unavailable, match=f"{file}: cannot be read: "):
        again.load()
    again.close()


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open database file"):
        opened(tmp_path / "nowhere" / "osctl.db")


def test_a_locked_store_refuses_a_change_and_takes_it_later(
    store: Store, file: Path, connections: list[sqlite3.Connection]
) -> None:
    connections[0].execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(ApplyFailed, match="database is locked"):
        store.save(change(1))

    other.execute("ROLLBACK")
    other.close()
    store.save(change(1))
    assert store.load().host_serial == 1


# --- a disk that is full, read-only, torn ------------------------------------------------------------------------


def test_a_store_that_may_not_grow_refuses_a_change_and_keeps_the_rest(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    store.save(change(1, document=b"old", added=(holding(1),)))
    (pages,) = connections[0].execute("PRAGMA page_count").fetchone()
    connections[0].execute(f"PRAGMA max_page_count = {pages + 2}")

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

        with pytest.raises(Unavailable, match=f"{tmp_path}/osctl.db: cannot be opened: "):
            opened(tmp_path / "osctl.db")
        with pytest.raises(Unavailable, match=f"{tmp_path}/new.db: cannot be opened: "):
            opened(tmp_path / "new.db")

        assert descriptors() == open_before
        _mount("tmpfs", tmp_path, "tmpfs", MS_REMOUNT, "size=1m")
        again = opened(tmp_path / "osctl.db")
        assert again.load() == Contents(UUID, 1, (b"old",))
        again.close()

    in_own_mount_namespace(scenario)


@needs_root
def test_a_change_of_very_many_holdings_needs_no_directory_for_temporary_files() -> None:
    def scenario() -> None:
        _mount("tmpfs", Path("/mnt"), "tmpfs", 0, "size=256m")
        for directory in filter(Path.exists, map(Path, ("/var/tmp", "/usr/tmp", "/tmp"))):
            _mount("tmpfs", directory, "tmpfs", MS_RDONLY, "size=1m")
        os.chdir("/proc")  # of this thread alone; the last place where SQLite would look
        store = opened(Path("/mnt/osctl.db"))
        networks = b"".join(number.to_bytes(4, "big") for number in range(100_000))
        rows = HoldingRows(4, networks, 32, "route", holder("web01"))

        store.save(change(1, added=(rows,)))
        store.save(change(2, removed=(rows,)))

        assert store.holdings() == []
        store.close()

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


def test_whatever_part_of_the_last_write_reached_the_disk_the_store_is_as_before_or_after_it(
    store: Store, file: Path, tmp_path: Path
) -> None:
    """A disk writes sectors in the order it likes, until it is told to have all: those of the last commit alone."""
    store.save(change(1, document=b"first" * 2000, added=(holding(1),)))
    log = Path(f"{file}-wal")
    complete = log.stat().st_size
    before = Contents(UUID, 1, (b"first" * 2000,))
    store.save(change(2, document=b"second" * 2000, removed=(holding(1),), added=(holding(2),)))
    after = Contents(UUID, 2, (b"second" * 2000,))
    whole = log.read_bytes()
    sectors = range(complete, len(whole), 512)
    chance = random.Random(14)
    seen = set()
    crashed = tmp_path / "crashed"

    for number in range(60):
        lost = chance.sample(sectors, chance.choice((0, 1, 2, len(sectors) // 2)) if number else 0)
        content = bytearray(whole)
        for start in lost:
            content[start : start + 512] = bytes(len(content[start : start + 512]))
        shutil.rmtree(crashed, ignore_errors=True)
        crashed.mkdir()
        shutil.copy(file, crashed / "osctl.db")
        (crashed / "osctl.db-wal").write_bytes(content)

        again = opened(crashed / "osctl.db")

        found = again.load()
        assert found in (before, after), lost
        assert [row[1][-1] for row in again.holdings()] == [found.host_serial]
        seen.add(found.host_serial)
        again.close()
    assert seen == {1, 2}


def test_pages_that_were_torn_while_the_log_was_put_into_the_file_come_from_the_log(
    store: Store, file: Path, tmp_path: Path
) -> None:
    for serial in range(1, 4):
        store.save(change(serial, document=b"%d" % serial * 9000, added=(holding(serial),)))
    crashed = tmp_path / "crashed"
    pages = file.stat().st_size // 4096
    assert pages > 0

    for page in range(pages):
        shutil.rmtree(crashed, ignore_errors=True)
        crashed.mkdir()
        content = bytearray(file.read_bytes())
        content[page * 4096 + 2048 : (page + 1) * 4096] = b"\xff" * 2048
        (crashed / "osctl.db").write_bytes(content)
        shutil.copy(f"{file}-wal", crashed / "osctl.db-wal")

        again = opened(crashed / "osctl.db")

        assert again.load().host_serial == 3
        assert len(again.holdings()) == 3
        again.close()


#: Saves without end, and says so after each one.
WRITER = """
import sys
from pathlib import Path
from osctld.config import HoldingRows
from osctld.core.authority.claims import Holder
from osctld.shell.store.database import Store
from osctld.shell.store.rows import HistoryLine, Saved
store = Store(Path(sys.argv[1]), schema=int(sys.argv[2]), new_host_uuid="u")
holder = Holder("web01", "eth0", "uuid of eth0", "uuid of web01")
before = ()
for serial in range(1, 1_000_000):
    rows = tuple(HoldingRows(4, (serial + n).to_bytes(4, "big"), 32, "route", holder) for n in range(40))
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
        [sys.executable, "-c", WRITER, str(file), str(SCHEMA)],
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

    again = Store(file, schema=SCHEMA, new_host_uuid="u")
    kept = again.load()

    assert kept.host_serial in (answered, answered + 1)
    assert kept.documents == (str(kept.host_serial).encode() * 500,)
    assert [int.from_bytes(row[1], "big") for row in again.holdings()] == [kept.host_serial + n for n in range(40)]
    assert len(again.history(limit=1_000_000)) == kept.host_serial
    again.close()


def test_a_commit_that_reports_an_error_but_reached_the_disk_counts(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []

    class FailingAfterCommit(sqlite3.Connection):
        """Reports an error once a commit is done."""

        def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
            cursor = super().execute(statement, values)
            if statement == "COMMIT":
                failures.append(statement)
                raise sqlite3.OperationalError("disk I/O error")
            return cursor

    opened(file).close()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=FailingAfterCommit))
        store = opened(file)

    store.save(change(1, document=b"kept"))

    assert failures
    store.close()

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


def store_of_schema_2(file: Path, *, document: bytes) -> None:
    opened(file).close()
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.execute("INSERT INTO container VALUES ('web01', ?)", (document,))
        old.execute("INSERT INTO pending VALUES ('web01', ?)", (document,))
        old.execute("PRAGMA user_version = 2")
        old.commit()


def test_containers_of_a_store_of_the_second_schema_keep_nesting_also_in_changes_that_were_under_way(
    file: Path,
) -> None:
    new = Host(uuid=UUID, settings=Settings()).with_new_container(
        "web01", user=None, distribution="busybox", version="stable"
    )
    document = encode_container(new.container("web01"))
    store_of_schema_2(file, document=document)

    with contextlib.closing(Store(file, schema=3, new_host_uuid="another", upgraded=upgraded)) as store:
        contents = store.load()

    (kept,), (begun,) = contents.documents, contents.pending
    assert decode_container(kept) == decode_container(begun)
    assert decode_container(kept).has_nesting
    assert json.loads(kept) == {**json.loads(document), "nesting": True}
    with contextlib.closing(Store(file, schema=3, new_host_uuid="another", upgraded=upgraded)) as store:
        assert store.load().documents == (kept,)  # and once it is of the present schema, it is left alone


def test_a_document_that_cannot_be_read_stops_the_upgrade_of_a_store_and_nothing_is_changed(file: Path) -> None:
    store_of_schema_2(file, document=b"no document")
    before = contents_of(file)

    with pytest.raises(Unavailable, match=f"{file}: cannot be opened: JSON is malformed"):
        Store(file, schema=3, new_host_uuid=UUID, upgraded=upgraded)

    assert contents_of(file) == before


def contents_of(file: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(file)) as witness:
        return [*witness.iterdump(), *map(str, witness.execute("PRAGMA user_version"))]


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


def blocked() -> tuple[Block, ...]:
    return (
        Block(Network.parse("1.2.3.4"), 5.0, 7205.5, Person(0, 1000, 77), "osctl net block --for 2h 1.2.3.4"),
        Block(Network.parse("2001:db8:2::/64"), 6.0, None, Person(), "osctl net block 2001:db8:2::/64"),
    )


def test_what_is_blocked_is_kept_with_who_did_it_and_until_when(file: Path) -> None:
    line = HistoryLine(5.0, "osctl net block --for 2h 1.2.3.4")
    with contextlib.closing(opened(file)) as store:
        store.save_blocks(blocked()[:1], HistoryLine(4.0, "before"))

        store.save_blocks(blocked(), line)

    with contextlib.closing(opened(file)) as again:
        assert again.load().blocks == blocked()
        assert again.history(limit=1) == [line]
        again.save_blocks((), HistoryLine(6.0, "osctl net unblock all"))
        assert again.load().blocks == ()


def test_what_is_blocked_is_in_a_copy_and_stays_unless_something_else_is_to_be_kept(file: Path) -> None:
    with contextlib.closing(opened(file)) as store:
        store.save_blocks(blocked(), HistoryLine(5.0, "x"))
        copy = StoreCopy(store.copy(time=1.0, version="1"), name="copy", schema=SCHEMA, upgraded=lambda each, _: each)
        assert copy.contents.blocks == blocked()
        new = Replacement(UUID, 1, {}, (), least_run=0, boot=None, history=None, line=None)

        store.replace(new)
        assert store.load().blocks == blocked()

        store.replace(msgspec.structs.replace(new, blocks=blocked()[1:]))
        assert store.load().blocks == blocked()[1:]


def test_what_is_blocked_can_be_read_of_a_store_that_no_daemon_opens(file: Path) -> None:
    with contextlib.closing(opened(file)) as store:
        store.save_blocks(blocked(), HistoryLine(5.0, "x"))

    found = files.read(file)

    assert found is not None
    assert found.blocks == blocked()


def test_a_store_of_schema_4_has_nothing_blocked(file: Path) -> None:
    with contextlib.closing(opened(file)) as store:
        store.save_blocks(blocked(), HistoryLine(5.0, "x"))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as old:
        old.executescript("DROP TABLE block; DROP TABLE failure; PRAGMA user_version = 4")

    with contextlib.closing(opened(file)) as store:
        assert store.load().blocks == ()


# --- what was refused ---------------------------------------------------------------------------------------------


def refused(number: int) -> HistoryLine:
    return HistoryLine(float(number), f"osctl ct del web{number}", Person(0, None, number), "it runs")


def test_of_what_was_refused_the_last_is_kept_and_the_history_is_left_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FAILURES", 3)
    with contextlib.closing(opened(file)) as store:
        store.save_blocks((), HistoryLine(5.0, "x"))
        store.keep_failures([refused(1), refused(2)])
        store.keep_failures([refused(3), refused(4)])
        assert store.failures() == [refused(2), refused(3), refused(4)]

    with contextlib.closing(opened(file)) as store:
        assert store.failures() == [refused(2), refused(3), refused(4)]
        store.forget_history(before=4.0, more_than=1)
        assert (store.failures(), store.history(limit=-1)) == ([refused(4)], [HistoryLine(5.0, "x")])


def test_what_was_refused_is_not_kept_where_nothing_can_be_written_and_what_follows_is(file: Path) -> None:
    with contextlib.closing(opened(file)) as store:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("CREATE TRIGGER full BEFORE INSERT ON failure BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
        with pytest.raises(ApplyFailed, match="failed commands could not be recorded: disk is full"):
            store.keep_failures([refused(1)])
        store.save_blocks((), HistoryLine(5.0, "x"))
        assert (store.failures(), store.history(limit=-1)) == ([], [HistoryLine(5.0, "x")])


def test_a_store_of_schema_5_knows_of_nothing_that_was_refused(file: Path) -> None:
    with contextlib.closing(opened(file)) as store:
        store.keep_failures([refused(1)])
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as old:
        old.executescript("DROP TABLE failure; PRAGMA user_version = 5")

    with contextlib.closing(opened(file)) as store:
        assert store.failures() == []
