"""When to look again whether kernels hold what is wanted: at the start, when somebody asked, when the kernel tells that
something changed, every so often, soon after a failure."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypeVar

from osctld.core.authority.host_networks import HostSpace
from osctld.core.authority.rules import older_holdings
from osctld.core.config.host import POOL, why_no_bridge
from osctld.core.errors import OsctlError
from osctld.core.plan.kernel_state import HostLink, Route
from osctld.core.plan.text import describe_in_place
from osctld.core.reconcile.fights import PEACE, Fight
from osctld.core.reconcile.host_level import links_without_default
from osctld.core.reconcile.kernel_events import Heard, concerned_by
from osctld.daemon.change_notes import ChangeNotes
from osctld.daemon.records import Records
from osctld.daemon.turns import Turns
from osctld.sync.containers import ContainerSync
from osctld.sync.drift import Drift
from osctld.sync.host import HostSync
from osctld.sync.mending import Mending
from osctld.sync.obstacles import Obstacles
from osctld.sync.plan_sender import PlanSender
from osctld.sync.ports import Presence

log = logging.getLogger("osctld")

T = TypeVar("T")

#: Seconds between two full looks.
PERIOD = 60.0
#: Seconds until the next look after a failed one; doubled each time up to PERIOD.
FIRST_RETRY = 1.0
#: So many containers are looked at in one turn of a reconcile; each takes less than a millisecond.
RECONCILED_AT_ONCE = 16
#: Seconds from the first notification of a change to the check: a change is often followed by others.
SETTLING = 0.05
#: After looking somewhere because of news, leave it alone so many times as long as that took: a storm of news, which a
#: tenant can make too, takes at most a quarter of a processor. All others wait at most these seconds, so that what is
#: broken there is whole again within one.
REST, LONGEST_REST = 3.0, 0.5


class Part(Enum):
    """What is looked at beside single containers."""

    EVERYTHING = "the host"
    FORWARDING = "forwarding"


#: A container by its name, or a part.
Place: TypeAlias = str | Part

Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]


class KernelNews(Protocol):
    """The port to the kernel's notifications of foreign changes."""

    async def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until there is something to read; False when the time is over."""

    def read(self) -> Heard:
        """All that came since the last time; nothing is waited for."""

    def hear_all_removals(self, *, is_wanted: bool) -> None:
        """From now on hear of routes of all protocols that are removed, or of ours alone."""

    def hear_learned_on(self, links: Iterable[str]) -> bool:
        """From now on hear of routes by these links that routing daemons add; whether some of the links are new."""


class Reconciler:
    def __init__(
        self,
        *,
        records: Records,
        host: HostSync,
        containers: ContainerSync,
        notes: ChangeNotes,
        drift: Drift,
        obstacles: Obstacles,
        sender: PlanSender,
        lives: Presence,
        turns: Turns,
        tell: Tell,
        tidy: Callable[[], None],
    ) -> None:
        """`tell` takes an event, its type and opts; `tidy` is called after each look at everything."""
        self._records = records
        self._host = host
        self._containers = containers
        self._notes = notes
        self._drift = drift
        self._obstacles = obstacles
        self._sender = sender
        self._lives = lives
        self._turns = turns
        self._tell = tell
        self._tidy = tidy
        #: What the host used when it was last compared with what containers hold.
        self._space: HostSpace | None = None
        #: Bridges of containers as they were when they were last looked at because of news.
        self._bridges: dict[str, HostLink | None] = {}
        #: What the last one did, as text.
        self.last = "none yet"
        #: When everything was last checked, in seconds since 1970; how many differences were repaired so far.
        self.last_look: float | None = None
        self.mended = 0
        self._failed: dict[str, tuple[str, ...]] = {}
        #: What notifications concern and has not been checked since.
        self._due: set[Place] = set()
        self._fights: dict[Place, Fight] = {}
        #: Until when they are not checked again because of notifications.
        self._rests: dict[Place, float] = {}
        #: Seconds spent in turns so far.
        self._spent = 0.0

    @property
    def failed(self) -> Mapping[str, tuple[str, ...]]:
        """What could not be repaired at the last attempt, as text, by container."""
        return dict(self._failed)

    async def run(self, news: KernelNews) -> None:
        """Reconcile for ever; the first look is the caller's, who wants to know how it went."""
        self._space = self._host.networks_in_use(self._records.host)
        self._learn_of_bridges()
        self._obstacles.on_refused = functools.partial(news.hear_all_removals, is_wanted=True)
        news.hear_all_removals(is_wanted=bool(self._obstacles.refused_of))
        self._due |= self._obstacles.refused_of  # what was in the way may have gone unheard since
        self._listen_for_learned(news)
        await asyncio.gather(self._look_every_so_often(), self._heed(news))

    async def _look_every_so_often(self) -> None:
        pause = PERIOD
        while True:
            await asyncio.sleep(pause)
            try:
                await self.reconcile()
                pause = PERIOD
            except OsctlError as error:
                pause = min(FIRST_RETRY if pause == PERIOD else 2 * pause, PERIOD)
                log.error("reconcile: %s; trying again in %.0f s", error.message, pause)

    # --- when the kernel tells -------------------------------------------------------------------------------------

    async def _heed(self, news: KernelNews) -> None:
        while True:
            if await news.wait(self._seconds_of_rest()):
                await asyncio.sleep(SETTLING)
            spent = self._spent
            await self._look_where_it_is_due(news)
            await asyncio.sleep(min(REST * (self._spent - spent), LONGEST_REST))

    async def _look_where_it_is_due(self, news: KernelNews) -> None:
        # In turn, so that what was heard of a change of our own is compared with what that change saved.
        await self._in_turn(functools.partial(self._read, news))
        news.hear_all_removals(is_wanted=bool(self._obstacles.refused_of))
        self._listen_for_learned(news)
        now = _now()
        self._fights = {place: fight for place, fight in self._fights.items() if not fight.is_over(now)}
        self._rests = {place: end for place, end in self._rests.items() if end > now}
        places = self._due - self._rests.keys()
        self._due -= places
        if Part.EVERYTHING in places:
            await self._look_at_everything()
            return
        if Part.FORWARDING in places:
            await self._in_turn(self._look_at_forwarding)
        for names in _some_at_a_time(sorted(each for each in places if isinstance(each, str))):
            await self._in_turn(functools.partial(self._look_again, names))

    async def _read(self, news: KernelNews) -> None:
        heard = news.read()
        self._host.hear()
        self._tell_what_the_host_took()
        concerned = concerned_by(heard, self._records.host, self._records.claims, facts=self._host.facts)
        self._due |= concerned.containers | self._attached_to_changed(concerned.bridges)
        self._learn_of_bridges()
        if heard.links:
            self._due |= self._obstacles.refused_of  # foreign routes disappear with a link, without a notification
        if concerned.everything:
            self._due.add(Part.EVERYTHING)
        if concerned.forwarding:
            self._due.add(Part.FORWARDING)

    def _learn_of_bridges(self) -> None:
        """See what bridges are like to which containers have been attached since the last time."""
        for each in self._records.host.containers.values():
            for name in each.bridges - self._bridges.keys():
                self._bridges[name] = self._host.host_link(name)

    def _attached_to_changed(self, bridges: Iterable[str]) -> set[str]:
        """The containers on those of these bridges that have changed. A bridge is in the news whenever a port comes or
        goes, which is no change for the others on it."""
        found: set[str] = set()
        for name in bridges:
            is_known, before = name in self._bridges, self._bridges.get(name)
            now = self._bridges[name] = self._host.host_link(name)
            if is_known and now == before:
                continue
            containers = self._records.host.containers.values()
            found.update(each.name for each in containers if name in each.bridges)
            if is_known and (why_no_bridge(before) is None) != (why_no_bridge(now) is None):
                state = "missing" if why_no_bridge(now) is not None else "there"
                self._tell("bridge", {"pool": POOL, "id": None, "link": name, "state": state})
                log.warning("%s: bridge of %d containers is %s", name, len(found), state)
        return found

    def _listen_for_learned(self, news: KernelNews) -> None:
        """Hear of what makes other links uplinks."""
        if news.hear_learned_on(self._host.links_to_learn_of):
            self._due.add(Part.FORWARDING)  # it may have come since they were looked at

    def _tell_what_the_host_took(self) -> None:
        """Report what the host has come to use although a container holds it: only a person can fix that."""
        host = self._records.host
        space, before = self._host.networks_in_use(host), self._space
        self._space = space
        if space is before or before is None:
            return
        came = HostSpace(each for each in space if each not in before)
        for each in older_holdings(self._records.claims, came, declared=host.uplinks):
            wanted, there = each.objection.wanted, each.objection.there
            self._tell(
                "address_conflict",
                {
                    "pool": POOL, "id": wanted.holder.container, "netif": wanted.holder.interface,
                    "network": str(wanted.network), "count": each.count, "holder": str(there),
                },
            )  # fmt: skip
            log.warning("%s of %s: also used by the host: %s", wanted.network, wanted.holder, there)

    async def _look_at_everything(self) -> None:
        spent = self._spent
        try:
            found = (await self.reconcile()).found
        except OsctlError as error:
            log.error("reconcile: %s", error.message)
            found = (error.message,)
            self._due.add(Part.EVERYTHING)
        self._pace(Part.EVERYTHING, found, took=self._spent - spent)

    async def _look_at_forwarding(self) -> None:
        began, before, mending = _now(), self._host.facts, Mending()
        try:
            self._host.mend_forwarding(self._records.host, mending)
        except OsctlError as error:
            mending.failed.append(error.message)
            self._due.add(Part.EVERYTHING)
        if self._host.facts.uplinks != before.uplinks:
            self._due.add(Part.EVERYTHING)  # our links take their MTU from them
        self._host.tell_of(mending)
        if mending.found:
            self._conclude(mending)
        self._pace(Part.FORWARDING, mending.found, took=_now() - began)

    async def _look_again(self, names: Iterable[str]) -> None:
        for name in names:
            began, drift = _now(), self._drift.of(name)
            mending = Mending()
            await self._reconcile_container(name, None, mending, mends_guest=False)
            if mending.found:
                self._conclude(mending)
            changed = self._drift.of(name)
            self._pace(name, mending.found or (changed if changed != drift else ()), took=_now() - began)

    def _pace(self, place: Place, found: Sequence[str], *, took: float) -> None:
        """Say when to look here again at the earliest. Again and again the same is a fight, and told when it begins."""
        self._rests[place] = _now() + REST * took
        if not found:
            return
        before = self._fights.get(place, PEACE)
        self._fights[place] = fight = before.another(_now())
        self._rests[place] = max(self._rests[place], fight.rests_until)
        if fight.has_begun and not before.has_begun:
            container, words = (place, place) if isinstance(place, str) else (None, place.value)
            self._tell("fight", {"pool": POOL, "id": container, "what": list(found)})
            log.warning(
                "%s: repeatedly changed by somebody else, checked less often from now on: %s",
                words, "; ".join(found),
            )  # fmt: skip

    def _seconds_of_rest(self) -> float | None:
        """Until what is due and rests may be looked at; None when nothing is due."""
        ends = [self._rests.get(place, 0.0) for place in self._due]
        return max(0.0, min(ends) - _now()) if ends else None

    # --- looking ---------------------------------------------------------------------------------------------------

    async def reconcile(self, only: str | None = None, *, mends_guests: bool = False) -> Mending:
        """Bring the kernel to the wanted state: host level, each configured container, leftovers.

        Returns what was done. Inside guests, only what their policy says is repaired, everything with `mends_guests`;
        with `only`, that container alone is looked at.
        """
        mending = Mending()
        await self._in_turn(functools.partial(self._mend_host, mending))
        if mends_guests:
            # Whoever says so by name wants it now, whatever was tried before.
            self._host.ask_routers(links_without_default(self._host.facts))
        # What is as it is wanted, and that is most, is found so by one look at the whole host; the rest is looked at
        # again, each container by itself. Some at a time, so that nobody waits for all.
        host_side = await self._in_turn(self._observe_host_side)
        for names in _some_at_a_time(list(self._records.host.containers) if only is None else [only]):
            await self._in_turn(
                functools.partial(self._reconcile_containers, names, host_side, mending, mends_guests=mends_guests)
            )
        await self._in_turn(functools.partial(self._mend_blocks, mending))
        self._conclude(mending)
        if only is None:
            self.last_look = time.time()
        self._tidy()
        return mending

    def _conclude(self, mending: Mending) -> None:
        for line in mending.set_up:
            log.info("host: %s", line)
        for line in mending.found:
            log.warning("reconcile: %s", line)
        self.last = "; ".join((*mending.set_up, *mending.found)) or "nothing to repair"
        self.mended += len(mending.mended)

    async def _mend_host(self, mending: Mending) -> None:
        await self._host.mend(self._records.host, mending)
        await self._host.mend_blocks(self._records.host, mending, removes_only=True)

    async def _mend_blocks(self, mending: Mending) -> None:
        # Behind the containers: where a block is to be, a route of theirs may have been left.
        await self._host.mend_blocks(self._records.host, mending)

    async def _observe_host_side(self) -> Any:
        return await self._containers.observe_host_side(self._records.host)

    async def _reconcile_containers(
        self, names: Iterable[str], host_side: Any, mending: Mending, *, mends_guests: bool
    ) -> None:
        for name in names:
            await self._reconcile_container(name, host_side, mending, mends_guest=mends_guests)

    async def _reconcile_container(self, name: str, host_side: Any, mending: Mending, *, mends_guest: bool) -> None:
        """Repair one container. `host_side` is an earlier observation of the host; without it the host is observed."""
        container = self._records.host.containers.get(name)
        self._failed.pop(name, None)
        if container is None or not self._lives.is_configured(name):
            await self._notes.settle(name)
            return
        here = Mending()
        self._obstacles.try_again(name)
        before = self._obstacles.told(name)
        try:
            if self._notes.begun(name) is None and await self._containers.is_as_wanted(container, host_side):
                self._containers.is_renewed(name)
                self._drift.note(name, ())
                self._containers.note_yielded(container)
                if mends_guest:
                    mending += self._yielding_of(name)
                return
            planned = await self._containers.plan(container, container, mends_guest=mends_guest)
            if self._lives.is_ending(name):
                return  # what it lacks now it has not lost by anybody's mistake
            is_all = await self._sender.press_on(planned.plan, here, name=name)
            if not is_all and name in self._obstacles.refused_of:
                # What was just found to be in the way may be in that of a gateway, by which others were to go.
                here.failed = []
                planned = await self._containers.plan(container, container, mends_guest=mends_guest)
                is_all = await self._sender.press_on(planned.plan, here, name=name)
            if is_all:
                await self._notes.settle(name)
                self._containers.is_renewed(name)
            if planned.renewal:
                # Inside, that is nobody's doing: it was wanted otherwise.
                inside = [each for each in here.mended if each.endswith(f" in container {name}")]
                here.mended = [each for each in here.mended if each not in inside]
                updated = f"{name}: updated {planned.renewal}"
                here.set_up = [f"{updated}: {each.removeprefix('repaired ')}" for each in inside]
            self._drift.note(name, planned.drift)
            self._containers.note_yielded(container)
            came_and_went = {*before} ^ {*self._obstacles.told(name)}
            yielding = {f"repaired {describe_in_place(each.route)}" for each in came_and_went}
            here.mended = [each for each in here.mended if each not in yielding]
            if mends_guest:
                here += self._yielding_of(name)
            here.left += [f"left to the tenant of {name}: {each}" for each in planned.drift]
        except OsctlError as error:
            if self._lives.is_ending(name):
                return
            here.failed.append(f"{name}: {error.message}")
        if here.failed:
            self._failed[name] = tuple(here.failed)
        self._tell_mended(name, here)
        mending += here

    def _tell_mended(self, place: str | None, mending: Mending) -> None:
        if mending.mended:
            self._tell("mended", {"pool": POOL, "id": place, "what": list(mending.mended)})

    def _yielding_of(self, name: str) -> Mending:
        """What is reported of yielding routes when everything is to be repaired: a null route is intentional."""
        found = Mending()
        for each in self._obstacles.told(name):
            (found.failed if isinstance(each.to, Route) else found.left).append(f"{name}: {each}")
        return found

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async def timed() -> T:
            began = _now()
            try:
                return await work()
            finally:
                self._spent += _now() - began

        return await self._turns.take(timed)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _some_at_a_time(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + RECONCILED_AT_ONCE] for start in range(0, len(names), RECONCILED_AT_ONCE))
