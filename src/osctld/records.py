"""What is wanted, as it is now: in memory for everybody to read, on disk for the next daemon.

A change is written, and taken over once it is durable. Only who has the turn changes anything here.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from osctld import config
from osctld.core.claims import Claims, ClaimsChange
from osctld.core.configuration_events import events_between
from osctld.core.host import POOL, Container, Host
from osctld.core.host_networks import HostNetwork
from osctld.event_log import EventLog
from osctld.lives import Lives
from osctld.shell.store import HistoryLine, Saved, Store

T = TypeVar("T")


class Kept(msgspec.Struct, frozen=True, dict=True):
    """What goes to disk of a change of one container, each thing computed once: for long lists of routes it takes time.

    `after` is None for a container that is deleted.
    """

    after: Container | None
    claims: ClaimsChange

    @classmethod
    def of(cls, before: Container | None, after: Container | None) -> Kept:
        claims = ClaimsChange.between(before.claims() if before else (), after.claims() if after else ())
        return cls(after, claims)

    @functools.cached_property
    def document(self) -> bytes:
        return config.encode_container(self.after) if self.after is not None else b""


class Records:
    """Holds the one `Host`, and who holds which network beside it."""

    def __init__(self, host: Host, *, store: Store, lives: Lives, events: EventLog) -> None:
        self.claims = Claims(claim for each in host.containers.values() for claim in each.claims())
        self.host = msgspec.structs.replace(host, holdings=self.claims)
        self._store = store
        self._lives = lives
        self._events = events

    def see_networks(self, networks: tuple[HostNetwork, ...]) -> None:
        """Remember what the host itself uses now, for edits that ask."""
        self.host = msgspec.structs.replace(self.host, networks=networks)

    async def history(self) -> list[HistoryLine]:
        """All that was changed, the first first."""
        return await self._on_disk(lambda: self._store.history(limit=-1))

    async def keep_boot(self, boot: str) -> None:
        """Remember that what is wanted was started on this boot of the host."""
        await self._on_disk(lambda: self._store.keep_boot(boot))

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._lives.disk, work)

    async def save(self, host: Host, name: str, kept: Kept, command_line: str | None) -> None:
        """Keep the change of one container, then make it the present configuration and tell who listens."""
        # Shielded: a client that goes away must not leave it open whether the change was kept.
        await asyncio.shield(self.write(host, name, kept, command_line))
        self.take_over(host, name, kept)

    def write(
        self,
        host: Host,
        name: str,
        kept: Kept,
        command_line: str | None,
        *,
        is_made: Callable[[], bool] = lambda: True,
    ) -> asyncio.Future[None]:
        """Write the change of one container to disk, and commit it unless `is_made`, which may block, says no.

        The future raises ApplyFailed when it is not durable.
        """

        def write() -> None:
            # All of it in the disk's thread: documents and rows of long lists are made while the kernel works.
            change = Saved(
                container=name,
                document=kept.document or None,
                host_serial=host.serial,
                holdings_removed=config.holding_rows(kept.claims.removed),
                holdings_added=config.holding_rows(kept.claims.added),
                history=HistoryLine(time.time(), command_line) if command_line is not None else None,
            )
            self._store.save(change, is_made=is_made)

        return asyncio.get_running_loop().run_in_executor(self._lives.disk, write)

    def take_over(self, host: Host, name: str, kept: Kept) -> None:
        """Make a change that is durable the present configuration, and tell who listens."""
        before, after = self.host.containers.get(name), host.containers.get(name)
        self.host = host
        self.claims.update(removed=kept.claims.removed, added=kept.claims.added)
        if self._events.is_followed:
            documents = (config.plain(before) if before else None, config.plain(after) if after else None)
            is_running = self._lives.is_configured(name)
            for kind, opts in events_between(*documents, pool=POOL, is_running=is_running):
                self._events.emit(kind, opts)

    async def want_while_it_lives(self, name: str, command_line: str | None, *, is_told: bool) -> None:
        """Keep that a container shall run that does: it may have ended meanwhile."""
        if self._lives.state(name) in ("starting", "running"):
            await self.want(name, command_line, is_wanted=True, is_told=is_told)

    async def want(self, name: str, command_line: str | None, *, is_wanted: bool, is_told: bool = False) -> None:
        """Keep whether a container shall run; with `is_told` the command goes to the history in any case."""
        container = self.host.containers.get(name)
        if container is None or (container.is_wanted == is_wanted and not is_told):
            return
        changed = msgspec.structs.replace(container, is_wanted=is_wanted)
        kept = Kept(changed, ClaimsChange.between((), ()))
        await self.save(self.host.with_container(changed), name, kept, command_line)
