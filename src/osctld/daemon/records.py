"""What is wanted, as it is now: in memory for everybody to read, on disk for the next daemon.

A change is written, and taken over once it is durable. Only who has the turn changes anything here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from osctld import config
from osctld.cli.version import VERSION
from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.blocks import Block
from osctld.core.authority.claims import ClaimedNetworks, Claims, ClaimsChange, Holder
from osctld.core.authority.held import Held, HoldingState
from osctld.core.config.address_pools import pools_of
from osctld.core.config.configuration_events import events_between
from osctld.core.config.host import POOL, Container, Host
from osctld.core.errors import OsctlError, Refused
from osctld.core.person import Asked
from osctld.daemon.disk import Disk, RunsOnDisk
from osctld.daemon.event_log import EventLog
from osctld.lifecycle.lives import Lives
from osctld.shell.store.copies import StoreCopy
from osctld.shell.store.database import Store
from osctld.shell.store.mirrors import Mirrors, mirrored, read_mirror
from osctld.shell.store.rows import HistoryLine, Replacement, Saved

log = logging.getLogger("osctld")

#: Changes of this number of networks are written while the kernel works.
WRITTEN_MEANWHILE = 2000


class Kept(msgspec.Struct, frozen=True, dict=True):
    """What goes to disk of a change of one container, each thing computed once: for long lists of routes it takes time.

    `after` is None for a container that is deleted.
    """

    after: Container | None
    claims: ClaimsChange
    #: Networks whose state is another than before, held before or not.
    restated: frozenset[Network] = frozenset()

    @classmethod
    def of(cls, before: Container | None, after: Container | None) -> Kept:
        claims = ClaimsChange.between(before.claims() if before else (), after.claims() if after else ())
        was, will_be = (each.set_aside if each else {} for each in (before, after))
        return cls(after, claims, frozenset(network for network, _ in was.items() ^ will_be.items()))

    def added_rows(self, *, epoch: int) -> list[config.HoldingRows]:
        """`epoch`: what an authority granted, or 0."""
        return config.holding_rows(self.rows.added, self.after.set_aside if self.after else None, epoch=epoch)

    @property
    def restated_rows(self) -> list[config.HoldingRows]:
        """What is held with another state than before."""
        return config.holding_rows(self._those(self.restated), self.after.set_aside) if self.after else []

    @property
    def left_to_others(self) -> tuple[ClaimedNetworks, ...]:
        """What is on standby from now on."""
        aside = self.after.set_aside if self.after else {}
        return self._those(each for each in self.restated if aside.get(each) is HoldingState.STANDBY)

    def _those(self, networks: Iterable[Network]) -> tuple[ClaimedNetworks, ...]:
        packed = {each.packed for each in networks}
        if self.after is None or not packed:
            return ()
        return tuple(
            msgspec.structs.replace(each, networks=tuple(one for one in each.networks if one in packed))
            for each in self.after.claims()
        )

    @functools.cached_property
    def size(self) -> int:
        """How many networks come and go."""
        return sum(len(each.networks) for each in (*self.claims.removed, *self.claims.added))

    @functools.cached_property
    def rows(self) -> ClaimsChange:
        """The claims as they are kept: holders are known by their UUIDs, whatever their names are and wherever they are
        attached."""
        return self.claims.regardless_of_links()

    @property
    def holders(self) -> tuple[Holder, ...]:
        return tuple(map(self.after.holder, self.after.interfaces)) if self.after is not None else ()

    @functools.cached_property
    def document(self) -> bytes:
        return config.encode_container(self.after) if self.after is not None else b""


class Saving:
    """The save of one change, invisible until it is committed."""

    def __init__(
        self,
        records: Records,
        host: Host,
        changes: Mapping[str, Kept],
        asked: Asked | None,
        run: RunsOnDisk | None = None,
        *,
        epoch: int = 0,
    ) -> None:
        """`changes` by the names of their containers, all of them or none. With `run`, which has the disk for this
        alone, they are written from now on. `epoch`: what an authority granted, or 0."""
        self._records = records
        self._host, self._changes = host, changes
        self._asked = asked
        self._epoch = epoch
        self._run = run
        self._writing = asyncio.create_task(run(self._write)) if run is not None else None
        self._saved: Saved | None = None

    async def commit(self) -> None:
        """Keep the change, then make it the present configuration. Raises ApplyFailed when it is not durable."""
        if self._writing is None or self._run is None:
            await self._records.disk.run(self._write_and_commit)
        else:
            await self._writing
            await self._run(self._commit)
        self._records.take_over(self._host, self._changes)

    async def end(self) -> None:
        """Take back what was written and not committed."""
        if self._writing is None or self._run is None:
            return
        await asyncio.wait({self._writing})
        self._writing.exception()  # the caller of commit got the error
        await self._run(self._records.store.roll_back)

    # All of it in the disk's thread: documents and rows of long lists are made while the kernel works.

    def _write_and_commit(self) -> None:
        self._write()
        self._commit()

    def _write(self) -> None:
        changes, asked = self._changes, self._asked
        (name, first), *others = changes.items()
        self._saved = Saved(
            container=name,
            document=first.document or None,
            host_serial=self._host.serial,
            holdings_removed=[row for each in changes.values() for row in config.holding_rows(each.rows.removed)],
            holdings_added=[row for each in changes.values() for row in each.added_rows(epoch=self._epoch)],
            holdings_restated=[row for each in changes.values() for row in each.restated_rows],
            holders=[holder for each in changes.values() for holder in each.holders],
            others={other: each.document for other, each in others},
            time=time.time(),
            history=_history_line(asked) if asked is not None else None,
        )
        self._records.store.write(self._saved)

    def _commit(self) -> None:
        assert self._saved is not None, "written first"
        self._records.store.commit(self._saved)


class CopiedHost(msgspec.Struct, frozen=True):
    """What a copy holds: the configuration, when it was made (seconds since 1970) and by which version, the rest."""

    host: Host
    time: float
    version: str
    run: int
    history: list[HistoryLine]


class Records:
    """Holds the one `Host`, and who holds which network beside it."""

    def __init__(
        self, host: Host, *, store: Store, disk: Disk, mirrors: Mirrors, lives: Lives, events: EventLog
    ) -> None:
        self.claims = Claims(claim for each in host.containers.values() for claim in each.claims())
        self.host = host
        self.store = store
        self.disk = disk
        self._pools = pools_of(host.settings)
        #: Addresses of pools that were given back, and when: seconds since 1970.
        self._released: dict[PackedNetwork, float] = {}
        #: Called with what is no longer held, and when everything may have changed.
        self.on_released: Callable[[ClaimsChange], None] = lambda _: None
        self.on_replaced: Callable[[], None] = lambda: None
        #: Called with networks whose holder no longer has them.
        self.on_gone: Callable[[Iterable[PackedNetwork]], None] = lambda _: None
        #: Told when something else is wanted.
        self.on_changed: Callable[[], None] = lambda: None
        self._mirrors = mirrors
        self._lives = lives
        self._events = events

    async def history(self) -> list[HistoryLine]:
        """All that was changed, the first first."""
        return await self.disk.run(lambda: self.store.history(limit=-1))

    def released(self) -> Mapping[PackedNetwork, float]:
        """Addresses of pools that were given back lately, each with the seconds since then."""
        if not self._released:
            return {}
        now = time.time()
        longest = max((each.quiet_seconds for each in self._pools), default=0)
        self._released = {packed: moment for packed, moment in self._released.items() if now - moment < longest}
        return {packed: max(0.0, now - moment) for packed, moment in self._released.items()}

    def _note_released(self, claims: ClaimsChange) -> None:
        if not self._pools:
            return
        now, taken = time.time(), {packed for each in claims.added for packed in each.networks}
        for each in claims.removed:
            for packed in each.networks:
                if packed not in taken and any(pool.includes(packed) for pool in self._pools):
                    self._released[packed] = now

    async def begin(self) -> None:
        """Read what an earlier daemon left that concerns this one, and forget what is too old. Raises Unavailable."""
        longest = max((each.quiet_seconds for each in self._pools), default=0)
        if longest:
            lately = time.time() - longest
            for version, network, length, moment in await self.disk.run(lambda: self.store.released_since(lately)):
                packed = Network(version, int.from_bytes(network, "big"), length).packed
                if any(pool.includes(packed) for pool in self._pools):
                    self._released[packed] = max(moment, self._released.get(packed, 0.0))
        await self.shorten_history()

    async def shorten_history(self) -> None:
        """Forget of the history what the settings say."""
        wanted = self.host.settings.history
        before = time.time() - wanted.days * 86400 if wanted.days else 0.0
        try:
            await self.disk.run(lambda: self.store.forget_history(before=before, more_than=wanted.lines))
        except OsctlError as error:
            log.error("%s", error.message)

    async def given(self, networks: Iterable[Network]) -> list[Held]:
        """Since when, and by whom, each of these networks is held."""
        keys = [(each.version, each.address.packed, each.length) for each in networks]
        return await self.disk.run(lambda: self.store.given(keys)) if keys else []

    async def held(self, network: Network, *, at: float) -> list[Held]:
        """Who held a network, or a wider one around it, at a moment in seconds since 1970."""
        key = (network.version, network.address.packed, network.length)
        return await self.disk.run(lambda: self.store.held(*key, at=at))

    async def declare(self, link: str, *, is_declared: bool, asked: Asked) -> None:
        """Save whether containers may use parts of the networks of a link. Raises ApplyFailed."""
        after = self.host.with_uplink(link, is_declared=is_declared)
        line = _history_line(asked)
        await asyncio.shield(self.disk.run(lambda: self.store.save_uplinks(after.uplinks, line)))
        self.host = self.host.with_uplink(link, is_declared=is_declared)

    async def save_blocks(self, blocks: Sequence[Block], asked: Asked) -> None:
        """Keep what is blocked, then make it the present configuration. Raises ApplyFailed."""
        line = _history_line(asked)
        await asyncio.shield(self.disk.run(lambda: self.store.save_blocks(blocks, line)))
        self.host = self.host.with_blocks(blocks)

    async def note_done(self, asked: Asked) -> None:
        """Add a command to the history that changed nothing of the configuration. Raises ApplyFailed."""
        line = _history_line(asked)
        await asyncio.shield(self.disk.run(lambda: self.store.note_done(line)))

    async def keep_boot(self, boot: str) -> None:
        """Remember that what is wanted was started on this boot of the host."""
        await self.disk.run(lambda: self.store.keep_boot(boot))

    async def save(self, host: Host, name: str, kept: Kept, asked: Asked | None) -> None:
        """Save the change of one container, then make it the current configuration and notify listeners."""
        async with self.saving(host, {name: kept}, asked) as saving:
            await saving.commit()

    @contextlib.asynccontextmanager
    async def saving(
        self, host: Host, changes: Mapping[str, Kept], asked: Asked | None, *, epoch: int = 0
    ) -> AsyncIterator[Saving]:
        """Save a change of containers while it is made: it is kept by `commit`, and left without that it is not.

        `epoch` is that of what an authority above this host granted for it, or 0.

        A long list is written meanwhile, in the disk's thread; with a short one the threads would wait for each other.
        """
        if sum(each.size for each in changes.values()) < WRITTEN_MEANWHILE:
            yield Saving(self, host, changes, asked, epoch=epoch)
            return
        async with self.disk.hold() as run:
            saving = Saving(self, host, changes, asked, run, epoch=epoch)
            try:
                yield saving
            finally:
                await saving.end()

    def take_over(self, host: Host, changes: Mapping[str, Kept]) -> None:
        """Make a durable change the current configuration, and notify listeners."""
        former, self.host = self.host, host
        claims = ClaimsChange.together(each.claims for each in changes.values())
        self.claims.update(removed=claims.removed, added=claims.added)
        self._note_released(claims)
        left = tuple(each for kept in changes.values() for each in kept.left_to_others)
        self.on_released(ClaimsChange((*claims.removed, *left), claims.added))
        self.on_gone(packed for kept in changes.values() for each in kept.rows.removed for packed in each.networks)
        self.on_changed()
        for name, kept in changes.items():
            self._mirrors.note(name, kept.document or None, host_serial=host.serial)
            if self._events.is_followed:
                before, after = former.containers.get(name), host.containers.get(name)
                self._tell(name, config.plain(before) if before else None, config.plain(after) if after else None)

    # --- all of it ------------------------------------------------------------------------------------------------

    async def copy(self) -> bytes:
        """All that is kept at this moment, as the content of a file. Raises Unavailable."""
        return await self.disk.run(lambda: self.store.copy(time=time.time(), version=VERSION))

    async def settle_mirrors(self) -> None:
        """Return when nothing is being written beside a root that is about to be removed."""
        await self._mirrors.settle()

    def read_copy(self, content: bytes, *, name: str) -> CopiedHost:
        """What `copy` made. Raises Refused for a file that it has not made, or that is no longer valid."""
        copy = StoreCopy(content, name=name, schema=config.SCHEMA, upgraded=config.upgraded)
        try:
            containers = [config.decode_container(each) for each in copy.contents.documents]
        except (msgspec.MsgspecError, Refused) as error:
            raise Refused(f"{name!r}: damaged: {error}", code="bad-copy", subject=name) from error
        host = msgspec.structs.replace(
            self.host,
            uuid=copy.contents.host_uuid,
            serial=copy.contents.host_serial,
            containers={each.name: each for each in containers},
            uplinks=copy.contents.uplinks,
            blocks=copy.contents.blocks,
        )
        return CopiedHost(host, *copy.made, copy.contents.run, copy.history)

    async def ended_since(self, time: float) -> dict[str, list[Network]]:
        """Networks whose holdings have ended since then, in seconds since 1970, by the UUID of the container."""
        ended: dict[str, list[Network]] = {}
        for uuid, version, packed, length in await self.disk.run(lambda: self.store.ended_since(time)):
            ended.setdefault(uuid, []).append(Network(version, int.from_bytes(packed, "big"), length))
        return ended

    async def documents_beside_roots(self, host: Host) -> list[Container]:
        """What such a host kept beside the roots that are here now."""
        return await self.disk.run(lambda: list(documents_beside_roots(self._mirrors.state_dir, {}, host=host.uuid)))

    async def take_back(self, host: Host, *, copy: CopiedHost, restarts: bool, asked: Asked) -> None:
        """Keep a whole configuration instead of the present one, then make it that. Raises ApplyFailed.

        With `restarts` the next daemon starts what is wanted, as after a boot.
        """
        claims = Claims(claim for each in host.containers.values() for claim in each.claims())
        documents = {name: config.encode_container(each) for name, each in host.containers.items()}
        new = Replacement(
            host_uuid=host.uuid,
            host_serial=host.serial,
            documents=documents,
            holdings=[
                row for each in host.containers.values() for row in config.holding_rows(each.claims(), each.set_aside)
            ],
            least_run=copy.run,
            boot="" if restarts else None,
            history=copy.history if host.uuid != self.host.uuid else None,
            line=_history_line(asked),
            uplinks=host.uplinks,
            blocks=host.blocks,
        )
        await self.disk.run(lambda: self.store.replace(new))
        before, self.host, self.claims = self.host, host, claims
        self._mirrors.note_all(documents, host=host.uuid, host_serial=host.serial)
        self.on_replaced()
        self.on_changed()
        for name, after in sorted(host.containers.items()):
            was = before.containers.get(name)
            told = (config.plain(was) if was else None, config.plain(after))
            self._tell(name, *told)

    def _tell(self, name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
        """Tell who listens what has changed from one document of a container to the other."""
        is_running = self._lives.is_configured(name)
        for kind, opts in events_between(before, after, items=config.item_events(), pool=POOL, is_running=is_running):
            self._events.emit(kind, opts)

    # --- whether a container should run ------------------------------------------------------------------------------

    async def want_while_it_lives(
        self, name: str, asked: Asked | None, *, is_told: bool, is_wanted_anyhow: bool = False
    ) -> None:
        """Save that a running container should run, unless it stopped meanwhile; with `is_wanted_anyhow` even then."""
        if is_wanted_anyhow or self._lives.state(name) in ("starting", "running"):
            await self.want(name, asked, is_wanted=True, is_told=is_told)

    async def want(self, name: str, asked: Asked | None, *, is_wanted: bool, is_told: bool = False) -> None:
        """Save whether a container should run; with `is_told` the command goes to the history in any case."""
        container = self.host.containers.get(name)
        if container is None or (container.is_wanted == is_wanted and not is_told):
            return
        changed = msgspec.structs.replace(container, is_wanted=is_wanted)
        kept = Kept(changed, ClaimsChange.between((), ()))
        await self.save(self.host.with_container(changed), name, kept, asked)


def _history_line(asked: Asked) -> HistoryLine:
    return HistoryLine(time.time(), asked.command_line, asked.by)


def documents_beside_roots(state_dir: Path, stored: Mapping[str, bytes], *, host: str) -> Iterator[Container]:
    """What this host kept beside the roots of containers and is not what is stored, as far as it makes sense."""
    for name in mirrored(state_dir):
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError, OsctlError):
            mirror = read_mirror(state_dir, name)
            if mirror is None or (mirror.schema, mirror.host) != (config.SCHEMA, host):
                continue
            if mirror.document == stored.get(name):
                continue
            container = config.decode_container(mirror.document)
            if container.name == name:
                yield container
