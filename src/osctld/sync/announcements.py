"""The announcement table is kept as it should be: a copy of each route that is announced, and nothing else.

It is filled after the answer of whoever changed something; a failure is reported and tried again. What is to be
announced no longer is taken away before its route or its link goes (`withdraw`), so that a router never sends packets
to where nobody is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from osctld.announce.announced import Limits, copies, packed_of
from osctld.core.address.addresses import PackedNetwork
from osctld.core.config.announcing import networks_of
from osctld.core.config.host import POOL, Container, Host
from osctld.core.config.settings import Settings
from osctld.core.errors import OsctlError, Unavailable
from osctld.core.plan.changes import Changes, RouteChanges, subject_of
from osctld.core.plan.kernel_state import KernelState, Outcome, Routes, union
from osctld.core.plan.planner import Plan, plan_changes
from osctld.core.plan.text import describe_in_place
from osctld.sync.containers import ContainerSync
from osctld.sync.ports import AnnouncementTable, Kernel, Presence, SeenTable

log = logging.getLogger("osctld")

#: So many routes are changed at once: others who change something in the kernel wait as long as that takes.
AT_ONCE = 2000
#: More than this are changed in a thread.
LARGE_CHANGE = 64
#: Seconds until it is tried again after a failure.
RETRY = 5.0


class Announcements:
    def __init__(
        self,
        *,
        settings: Settings,
        kernel: Kernel,
        table: AnnouncementTable,
        lives: Presence,
        containers: ContainerSync,
        host: Callable[[], Host],
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`host` says what is wanted now; `tell` takes an event, its type and opts."""
        self._settings = settings
        self._kernel = kernel
        self._table = table
        self._lives = lives
        self._containers = containers
        self._host = host
        self._tell = tell
        self._limits = Limits(settings.neighbors, networks_of(settings.announce.networks))
        self._wake = asyncio.Event()
        #: One change of the table at a time.
        self._changing = asyncio.Lock()
        self._is_on = False
        #: What the table holds, by container; None when that has to be looked at.
        self._held: dict[str, KernelState] | None = None
        #: What is wanted in the table for each container, as long as it is the same value.
        self._known: dict[str, tuple[Container, KernelState]] = {}
        #: Networks of which the routes are about to be removed.
        self._leaving: Collection[PackedNetwork] = ()
        #: The same when it was last as it should be.
        self._last: dict[str, KernelState] = {}
        self._withheld: Mapping[PackedNetwork, str] = {}
        self._trouble = ""

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether anything is announced at all."""
        return self._is_on

    @property
    def trouble(self) -> str:
        """Why the table is not as it should be; empty if it is."""
        return self._trouble

    @property
    def withheld(self) -> Mapping[PackedNetwork, str]:
        """Networks that are not announced because a neighbour would be told too many, each with its name."""
        return self._withheld

    def announced(self) -> list[PackedNetwork]:
        """The networks that are in the table."""
        return sorted(packed for state in self._last.values() for packed in packed_of(state))

    # --- when -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was changed that may be announced."""
        self._wake.set()

    def look_again(self) -> None:
        """The kernel may have changed the table, with links or routes that went and came back."""
        self._held = None
        self._wake.set()

    def look_at_everything(self) -> None:
        """What is wanted of containers may differ although their configuration is the same, and what the table holds:
        the kernel tells nobody which IPv4 routes a link takes along when it goes down."""
        self._known.clear()
        self.look_again()

    async def begin(self) -> None:
        """Announce from now on; return when the table is as it should be. Raises OsctlError, and then it is tried
        again."""
        self._is_on = True
        self.look_again()
        await self._settle()

    async def end(self) -> None:
        """Announce nothing from now on; return when nothing of ours is in the table. Raises OsctlError."""
        self._is_on = False
        async with self._changing:
            seen = await asyncio.to_thread(self._table.look)
            failed = await self._apply(plan_changes(KernelState(), KernelState(seen.routes)))
        self._held, self._last, self._known, self._withheld = None, {}, {}, {}
        self._note_trouble("")
        if failed:
            raise Unavailable(failed, code="kernel-refused")

    async def run(self) -> None:
        """Do what is to be done whenever somebody wakes it; runs until cancelled."""
        loop = asyncio.get_running_loop()
        told = ""
        watching = asyncio.create_task(self._watch(), name="announcement table")
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._settle()
                    told = ""
                except OsctlError as error:
                    if error.message != told:
                        log.error("announcements: %s; trying again every %.0f s", error.message, RETRY)
                    told = error.message
                    self._held = None
                    loop.call_later(RETRY, self._wake.set)
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            await self._table.changed()
            if self._is_on:
                self.look_again()

    # --- withdrawing ----------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when what is to be announced no longer is not: before links and routes are taken away.

        What cannot be withdrawn goes with its link: nothing waits for that.
        """
        if not self._is_on:
            return
        try:
            await self._settle()
        except OsctlError as error:
            log.error("announcements: not withdrawn: %s", error.message)
            self.look_again()

    @contextlib.asynccontextmanager
    async def leaving(self, before: Iterable[Container], after: Iterable[Container]) -> AsyncIterator[None]:
        """While the block changes running containers, what they lose is not announced. One change at a time."""
        if not self._is_on:
            yield
            return
        names = [each.name for each in before]
        had = {packed for each in before for packed in packed_of(self._copies_of(each))}
        self._leaving = had.difference(packed for each in after for packed in packed_of(self._copies_of(each)))
        if not self._leaving:
            yield
            return
        try:
            self._forget(names)
            await self.settle()
            yield
        finally:
            self._leaving = set()
            self._forget(names)
            self.wake()

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._known.pop(name, None)

    # --- what -----------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        async with self._changing:
            await self._settle_alone()

    async def _settle_alone(self) -> None:
        if not self._is_on:
            return
        wanted = self._wanted()
        if self._held is None:
            seen = await asyncio.to_thread(self._table.look)
            self._check(seen)
            want, have = union(wanted.values()), KernelState(seen.routes)
        else:
            changed = [name for name in {*wanted, *self._held} if wanted.get(name) is not self._held.get(name)]
            want = union(wanted[name] for name in changed if name in wanted)
            have = union(self._held[name] for name in changed if name in self._held)
        self._held = None  # it is looked at again if this is left half way
        failed = await self._apply(plan_changes(want, have))
        if failed:
            raise Unavailable(failed, code="kernel-refused")
        self._held = self._last = wanted
        self._note_trouble("")

    def _wanted(self) -> dict[str, KernelState]:
        known: dict[str, tuple[Container, KernelState]] = {}
        for name, container in self._host().containers.items():
            if self._lives.state(name) == "running":
                there = self._known.get(name)
                is_same = there is not None and there[0] is container
                known[name] = there if there is not None and is_same else (container, self._copies_of(container))
        self._known = known
        return self._without_excess({name: state for name, (_, state) in known.items() if state})

    def _copies_of(self, container: Container) -> KernelState:
        state = copies(self._containers.desired(container), self._settings)
        return _without(state, self._leaving) if self._leaving else state

    def _without_excess(self, wanted: dict[str, KernelState]) -> dict[str, KernelState]:
        found: Mapping[PackedNetwork, str] = {}
        if self._limits.may_be_exceeded_by(sum(map(len, wanted.values()))):
            networks = [packed for state in wanted.values() for packed in packed_of(state)]
            found = self._limits.withheld(networks, frozenset(self.announced()))
        if found.keys() != self._withheld.keys():
            self._withheld = found
            if found:
                log.warning("announcements: %d networks exceed the limits of neighbors and are withheld", len(found))
        if not found:
            return wanted
        return {name: _without(state, found) for name, state in wanted.items()}

    def _check(self, seen: SeenTable) -> None:
        """Raise Unavailable if the table is not ours alone."""
        number = self._settings.announce.table
        trouble = ""
        if seen.foreign:
            trouble = f"table {number} holds a route of somebody else: {seen.foreign}"
        elif seen.vrf:
            trouble = f"table {number} is that of the VRF {seen.vrf}"
        else:
            rule = next((each for each in self._kernel.rules() if each.table == number), None)
            if rule is not None:
                trouble = f"table {number} is looked up by the rule '{rule}'"
        if trouble:
            trouble += "; choose another one with announce.table"
            self._note_trouble(trouble)
            raise Unavailable(trouble, code="announcement-table")

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._tell("announcements", {"pool": POOL, "error": trouble})

    async def _apply(self, plan: Plan) -> str:
        """Do it, some at a time; return the first thing that failed."""
        failed = ""
        for part in _some_at_a_time(plan):
            apply = self._kernel.apply
            outcomes = await asyncio.to_thread(apply, part, {}) if len(part.changes) > LARGE_CHANGE else apply(part, {})
            failed = failed or _first_failure(part, outcomes)
        return failed

    # --- dry runs -------------------------------------------------------------------------------------------------

    def lines(self, before: Mapping[str, Container], after: Mapping[str, Container]) -> list[str]:
        """The lines that change the table when running containers become others."""
        if not self._is_on:
            return []
        have, want = (union(map(self._copies_of, each.values())) for each in (before, after))
        return plan_changes(want, have).text().splitlines()


def _without(state: KernelState, networks: Collection[PackedNetwork]) -> KernelState:
    left = (
        Routes(way, [packed])
        for routes in state.routes.values()
        for packed, way in routes.items()
        if packed not in networks
    )
    return KernelState(left)


def _some_at_a_time(plan: Plan) -> Iterator[Plan]:
    def piece(part: Any) -> Plan:
        return Plan(KernelState(), KernelState(), Changes([part]))

    small: list[Any] = []
    for part in Changes.of(plan.changes).parts:
        if isinstance(part, RouteChanges) and len(part) > AT_ONCE:
            for start in range(0, len(part), AT_ONCE):
                yield piece(part[start : start + AT_ONCE])
        else:
            small.append(part)
    if small:
        yield Plan(KernelState(), KernelState(), Changes(small))


def _first_failure(plan: Plan, outcomes: Iterable[Outcome]) -> str:
    for change, outcome in zip(plan.changes, outcomes, strict=True):
        if outcome.error is not None:
            return f"{describe_in_place(subject_of(change))}: {outcome.error}"
    return ""
