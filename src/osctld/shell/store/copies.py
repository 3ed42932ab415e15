"""Copies of a store, in memory or as the content of a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from osctld.core.errors import Refused
from osctld.shell.store import history
from osctld.shell.store.contents import contents_of
from osctld.shell.store.schema import bring_to


class StoreCopy:
    """What `Store.copy` made, in memory."""

    def __init__(self, content: bytes, *, name: str, schema: int, upgraded: Callable[[bytes, int], bytes]) -> None:
        """`name` is what the person calls it. Raises Refused for a file that is not a copy, is damaged, or is of a
        newer version."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            connection.deserialize(content or b"nothing")
            problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            if problems != ["ok"]:
                raise Refused(f"{name!r}: damaged: {problems[0]}", code="bad-copy", subject=name)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > schema:
                raise Refused(
                    f"{name!r}: has schema {found}, this osctld supports {schema}", code="store-schema", subject=name
                )
            made = connection.execute("SELECT time, version FROM backup").fetchone()
            if 0 < found < schema:
                bring_to(connection, schema, found, "", upgraded)
            #: Seconds since 1970, and the version of osctld.
            self.made: tuple[float, str] = (float(made[0]), str(made[1]))
            self.contents = contents_of(connection)
            self.history = history.read(connection, limit=-1)
        except (sqlite3.Error, msgspec.DecodeError, ValueError, TypeError) as error:
            reason = f"{name!r}: not a copy made by osctl self backup: {error}"
            raise Refused(reason, code="bad-copy", subject=name) from error
        finally:
            connection.close()


def in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A copy that needs no disk: one is wanted most when that is full."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    connection.backup(copy)
    return copy


def serialized(connection: sqlite3.Connection) -> bytes:
    return without_log(connection.serialize())


def without_log(content: bytes) -> bytes:
    """A database file that needs no write-ahead log beside it: the log's mode is in the file's head."""
    return content[:18] + b"\1\1" + content[20:]  # read and write version (SQLite, Database File Format, 1.3.3)
