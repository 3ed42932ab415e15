"""The static routes that a router needs, printed for whoever configures it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from osctld.announce.static.dialect import dialects
from osctld.announce.static_routes import StaticRoutes, Wanted, difference, networks_of, static_routes
from osctld.aside import considered
from osctld.commands import router_static
from osctld.core.command import Listing, PrintStaticRoutes, Reply, Row
from osctld.daemon.records import Records


class Caller(Protocol):
    """Who asked. Files are read with their rights."""

    async def read_file(self, path: str) -> str: ...


class StaticRouting:
    def __init__(self, *, records: Records) -> None:
        self._records = records
        # A client that asks repeatedly uses at most one thread.
        self._one = asyncio.Lock()

    async def perform(self, action: PrintStaticRoutes, caller: Caller) -> Reply:
        """Raises Refused."""
        earlier = await caller.read_file(action.since) if action.since is not None else None
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
