"""All that a store says of what is wanted, read at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import Block
from osctld.core.errors import Refused
from osctld.core.person import Person

BLOCKS = "SELECT network, since, until, command, user, login, process FROM block ORDER BY network"


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


def contents_of(connection: sqlite3.Connection) -> Contents:
    """Raises ValueError for tables that have not the rows that they must have."""
    ((uuid, serial),) = connection.execute("SELECT uuid, serial FROM host").fetchall()
    documents = connection.execute("SELECT document FROM container ORDER BY name").fetchall()
    ((run, boot),) = connection.execute("SELECT number, boot FROM run").fetchall()
    pending = connection.execute("SELECT document FROM pending ORDER BY container").fetchall()
    uplinks = connection.execute("SELECT name FROM uplink ORDER BY name").fetchall()
    links = tuple(name for (name,) in uplinks)
    blocks = tuple(map(block_of, connection.execute(BLOCKS)))
    return Contents(uuid, serial, only(documents), run, boot, only(pending), links, blocks)


def block_of(row: tuple[Any, ...]) -> Block:
    """A row of BLOCKS as a value. Raises ValueError for an invalid one."""
    network, since, until, command, user, login, process = row
    try:
        return Block(Network.parse(network), since, until, Person(user, login, process), command)
    except Refused as error:
        raise ValueError(f"a row of blocked networks is invalid: {error}") from error


def only(rows: Iterable[tuple[bytes]]) -> tuple[bytes, ...]:
    """The one column that the rows have."""
    return tuple(value for (value,) in rows)
