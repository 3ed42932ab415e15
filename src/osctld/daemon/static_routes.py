"""The static routes that a router needs, printed for whoever configures it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from osctld.announce.static.dialect import dialects
from osctld.announce.static_routes import StaticRoutes, Wanted, difference, networks_of, static_routes
from osctld.aside import considered
from osctld.commands import router_static
from osctld.core.command import Listing, PrintStaticRoutes, Reply, Row
from osctld.core.errors import Refused
from osctld.daemon.records import Records

#: Bytes of a file with earlier routes: more than half a million of them in the longest format.
LONGEST_FILE = 64 << 20
_CHUNK = 1 << 20


class Caller(Protocol):
    """Who asked. A file is opened with their rights."""

    async def open_file(self, path: str) -> int: ...


class StaticRouting:
    def __init__(self, *, records: Records) -> None:
        self._records = records
        # A client that asks repeatedly uses at most one thread.
        self._one = asyncio.Lock()

    async def perform(self, action: PrintStaticRoutes, caller: Caller) -> Reply:
        """Raises Refused."""
        earlier = None
        if action.since is not None:
            descriptor = await caller.open_file(action.since)
            _check_readable(descriptor, action.since)
            earlier = await asyncio.to_thread(_text_of, descriptor, action.since)
        async with self._one:
            containers = tuple(self._records.host.containers.values())
            size = self._records.claims.network_count + (earlier.count("\n") if earlier else 0)
            return await considered(size, lambda: _reply(action, static_routes(containers, action.next_hops), earlier))


def _reply(action: PrintStaticRoutes, wanted: Wanted, earlier: str | None) -> Reply:
    dialect = dialects()[action.dialect]
    if earlier is None:
        lines = dialect.lines(wanted.routes)
        rows = tuple(_rows(wanted.routes, None))
    else:
        changes = difference(dialect.read(earlier, file=action.since or ""), wanted.routes)
        lines = dialect.changes(changes, wanted.routes)
        rows = (*_rows(changes.removed, "remove"), *_rows(changes.added, "add"))
    columns = router_static.COLUMNS
    return Listing(
        columns=columns, shown=tuple(each.name for each in columns), rows=rows, lines=tuple(lines), notes=wanted.notes
    )


def _rows(routes: tuple[StaticRoutes, ...], change: str | None) -> Iterator[Row]:
    for network, hop in networks_of(routes):
        yield {
            "version": network.version,
            "network": str(network),
            "next_hop": str(hop.address),
            "link": hop.link or None,
            "change": change,
        }


def _check_readable(descriptor: int, path: str) -> None:
    """Raises Refused for what could make a thread wait, or have it read without end."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path!r}: is not a regular file", code="file", subject=path)
    if status.st_size > LONGEST_FILE:
        raise Refused(f"{path!r}: is larger than {LONGEST_FILE >> 20} MiB", code="file", subject=path)


def _text_of(descriptor: int, path: str) -> str:
    """All of a file; bytes that are no text as escapes, which no line has that was printed here."""
    pieces = []
    left = LONGEST_FILE  # it may grow meanwhile
    try:
        while left > 0 and (piece := os.read(descriptor, min(_CHUNK, left))):
            pieces.append(piece)
            left -= len(piece)
    except OSError as error:
        raise Refused(f"{path!r}: cannot be read: {error.strerror}", code="file", subject=path) from error
    return b"".join(pieces).decode(errors="backslashreplace")
