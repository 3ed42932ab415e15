"""Who holds what, since which change and until which: rows that are never forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from osctld.core.authority.held import Held
from osctld.core.person import Person
from osctld.shell.store.rows import HistoryLine, Holder, HoldingRow, Holdings, Replacement, Saved

#: The tables that tell who held what. A holding that is to be taken over from them is still held.
LOG_TABLES = ("change", "holder", "label", "past", "holding")

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
_WHERE_THESE = f"""
    WHERE version = :version AND network IN ({_EACH_NETWORK})
    AND length = :length AND kind = :kind AND holder = :holder
"""
_THESE_HOLDINGS = f"FROM holding {_WHERE_THESE}"
_END_HOLDINGS = f"""
INSERT OR REPLACE INTO past
    SELECT version, network, length, since, kind, holder, epoch, state, :change {_THESE_HOLDINGS}
"""
_RESTATE_HOLDINGS = f"UPDATE holding SET state = :state {_WHERE_THESE}"
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
#: So many kinds of holdings of one network there may be at one time.
_KINDS = 4

#: How much of a command is kept for ever beside what it gave and took; the history has all of it.
_LONGEST_COMMAND = 200

ALL_HOLDINGS = """
SELECT version, network, length, kind, label.container, label.interface, epoch, state FROM holding
    JOIN label ON label.holder = holding.holder
        AND label.since = (SELECT max(since) FROM label WHERE holder = holding.holder)
    ORDER BY 1, 2, 3, 4, 5, 6
"""


class HoldingLog:
    """The tables of LOG_TABLES, in transactions that others begin and end."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        #: Row numbers of holders with the names that were last kept, by UUID.
        self._holders: dict[str, tuple[int, str, str]] = {}

    def roll_back(self) -> None:
        """What was written since the transaction began has been rolled back."""
        self._holders.clear()

    def rows(self) -> list[HoldingRow]:
        """All rows of holdings, with the names of their holders, in the order of their key."""
        return self._connection.execute(ALL_HOLDINGS).fetchall()

    def write(self, change: Saved) -> None:
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

    def replace(self, new: Replacement) -> None:
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
        """Who holds the network, or a larger one around it, or did at a time in seconds since 1970; the largest first.

        Raises sqlite3.Error when it cannot be read.
        """
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


_OCTETS = {4: 4, 6: 16}


def _masked(address: bytes, length: int) -> bytes:
    """The leading bits of a packed address, the rest zero."""
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
