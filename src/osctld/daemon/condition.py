"""What is not as it should be, now and since when; and the same for Prometheus, with what was counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from osctld.core import command as commands
from osctld.core.authority.rules import older_holdings
from osctld.core.command import Reply
from osctld.core.config.host import Container, Host
from osctld.core.errors import OsctlError
from osctld.core.health import metrics, troubles
from osctld.core.health.findings import findings
from osctld.core.health.troubles import Seen, Trouble, Unrouted, unrouted_of
from osctld.daemon.guest_files import GuestFiles
from osctld.daemon.records import Records
from osctld.daemon.since import Since
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import Lives
from osctld.netif.interface_type import type_of
from osctld.shell.health.facts import gather_facts
from osctld.sync.drift import Drift
from osctld.sync.host import HostSync
from osctld.sync.obstacles import Obstacles
from osctld.sync.ports import Kernel
from osctld.sync.reconciler import Reconciler
from osctld.sync.ways import Look, Ways

log = logging.getLogger("osctld")

#: Seconds between two checks without events, and from the first event to the next check.
PERIOD, SETTLING = 60.0, 1.0
#: After such a look, so many times as long as it took nothing is looked at because of news: when very many containers
#: start, that takes at most a twentieth of a processor.
REST = 19.0
#: About this many networks are looked up: whether packets for them go out through our links.
ASKED_ABOUT = 200
#: Events after which something may be otherwise than it should.
TELLING = frozenset(
    {"blocked", "drift", "parked", "address_conflict", "mended", "state", "fight", "block", "bridge", "guest_files"}
)


class Condition:
    def __init__(
        self,
        *,
        about: Mapping[str, Any],
        records: Records,
        kernel: Kernel,
        host: HostSync,
        obstacles: Obstacles,
        drift: Drift,
        lives: Lives,
        phase: HostPhase,
        reconciler: Reconciler,
        ways: Ways,
        guest_files: GuestFiles,
        since: Since,
        announcing: Callable[[], Awaitable[tuple[str, ...]]],
    ) -> None:
        """`announcing` says why not all is announced as it should be."""
        self._about = about
        self._records = records
        self._kernel = kernel
        self._host = host
        self._obstacles = obstacles
        self._drift = drift
        self._lives = lives
        self._phase = phase
        self._reconciler = reconciler
        self._ways = ways
        self._guest_files = guest_files
        self._since = since
        self._announcing = announcing
        self._started = time.time()
        self._told = asyncio.Event()
        #: Of each container as it was when that was last asked: a configuration that is the same object is the same.
        self._unrouted: dict[str, tuple[Container, Sequence[Unrouted]]] = {}
        # A client that asks repeatedly uses at most one thread.
        self._one_look = asyncio.Lock()

    def hear(self, kind: str) -> None:
        """An event of this kind was reported."""
        if kind in TELLING:
            self._told.set()

    async def run(self) -> None:
        """Check periodically, and after events, so that the start of each problem is known."""
        loop = asyncio.get_running_loop()
        rest = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), PERIOD)
                await asyncio.sleep(max(SETTLING, rest))
            self._told.clear()
            began = loop.time()
            try:
                await self.look()
            except OsctlError as error:
                log.error("status: %s", error.message)
            rest = REST * (loop.time() - began)

    async def show(self) -> Reply:
        """What is not as it should be, as a listing with its verdict."""
        found, since = await self.look()
        running = sum(self._lives.state(name) == "running" for name in self._records.host.containers)
        return troubles.listing(self._records.host, found, since=since, running=running, at=_local_time)

    async def metrics(self, *, has_head: bool) -> Reply:
        """The same, and what was counted, in Prometheus' text format; with a head as an answer of HTTP."""
        found, since = await self.look()
        host = self._records.host
        states = self._states(host)

        def lines() -> tuple[str, ...]:
            measured = metrics.Measured(
                version=self._about.get("version", ""),
                build=self._about.get("build", ""),
                started=self._started,
                states=states,
                troubles=found,
                since=since,
                counted=self._kernel.counted(),
                amounts=self._amounts_of(host),
                mended=self._reconciler.mended,
                last_look=self._reconciler.last_look,
            )
            return tuple(metrics.lines(metrics.families(host, measured)))

        return commands.Text((metrics.HEAD if has_head else ()) + await asyncio.to_thread(lines))

    async def look(self) -> tuple[tuple[Trouble, ...], Mapping[str, float]]:
        """All that is not as it should be now, and since when, by the troubles' keys. Raises Unavailable."""
        async with self._one_look:
            host, claims = self._records.host, self._records.claims
            space = self._host.networks_in_use(host)
            older = tuple(older_holdings(claims, space, declared=host.uplinks))
            states = self._states(host)
            drift, failed = self._drift.all, self._reconciler.failed
            files = self._guest_files.failed
            yielded, shutdown = self._obstacles.all_told, self._phase.describe()

            blocked = {
                str(each.network): [claim.holder for claim in claims.overlapping(each.network)] for each in host.blocks
            }

            ways = self.look_at_ways(most=ASKED_ABOUT)
            named = frozenset().union(*(host.containers[name].bridges for name in states))
            announcing = await self._announcing()

            def find() -> tuple[Trouble, ...]:
                facts = self._host.look()
                astray, without_main = ways.take(facts)
                gathered = gather_facts(facts, host)
                gathered = msgspec.structs.replace(gathered, without_main=without_main, announcing=announcing)
                found = findings(gathered)
                seen = Seen(
                    facts=facts, states=states, yielded=yielded, older_holdings=older, drift=drift, failed=failed,
                    files=files, unrouted=dict(self._unrouted_of(host)), findings=found, shutdown=shutdown,
                    blocked=blocked, astray=astray, bridges={each: self._host.host_link(each) for each in named},
                )  # fmt: skip
                return troubles.troubles(host, seen)

            found = await asyncio.to_thread(find)
            since = dict(self._since.note(each.key for each in found))
            return found, since | {each.key: each.since for each in found if each.since is not None}

    def look_at_ways(self, *, most: int) -> Look:
        """A look at which packets for containers go elsewhere, to be taken in a thread. Of about `most` networks it is
        asked, and the configuration is taken as it is now."""
        host, told = self._records.host, self._obstacles.told
        return self._ways.prepared(
            [each for each in host.containers.values() if self._lives.is_configured(each.name)],
            space=self._host.networks_in_use(host),
            holdings=self._records.claims,
            left_out={
                each.name: frozenset([*each.set_aside, *(one.route.network for one in told(each.name))])
                for each in host.containers.values()
                if told(each.name)
            },
            most=most,
        )

    def _states(self, host: Host) -> Mapping[str, str]:
        """Of those containers that are not stopped."""
        return {name: state for name in host.containers if (state := self._lives.state(name)) != "stopped"}

    def _unrouted_of(self, host: Host) -> Iterator[tuple[str, Sequence[Unrouted]]]:
        known, self._unrouted = self._unrouted, {}
        for name, container in host.containers.items():
            before = known.get(name)
            is_known = before is not None and before[0] is container
            self._unrouted[name] = before if before is not None and is_known else (container, unrouted_of(container))
            if found := self._unrouted[name][1]:
                yield name, found

    def _amounts_of(self, host: Host) -> Mapping[str, int]:
        """How many addresses and routes there are."""
        total: Counter[str] = Counter()
        for container in host.containers.values():
            for each in container.interfaces:
                total.update(type_of(each).amounts(each))
        return total


def _local_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
