"""When to look again whether kernels hold what is wanted: at the start, when somebody asked, when the kernel tells that
something changed, every so often, soon after a failure."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from osctld.core.errors import OsctlError
from osctld.core.fights import PEACE, Fight
from osctld.core.host import POOL, Host
from osctld.core.kernel_events import Heard, concerned_by
from osctld.lives import Lives
from osctld.network import Mending, Network
from osctld.turns import Turns

log = logging.getLogger("osctld")

T = TypeVar("T")

#: Seconds between two full looks.
PERIOD = 60.0
#: Seconds until the next look after a failed one; doubled each time up to PERIOD.
FIRST_RETRY = 1.0
#: So many containers are looked at in one turn of a reconcile; each takes less than a millisecond.
RECONCILED_AT_ONCE = 16
#: Seconds from the first news of a change to the look: who changes one thing often changes more.
SETTLING = 0.05
#: After looking somewhere because of news, leave it alone so many times as long as that took: a storm of news, which a
#: tenant can make too, takes no more than a quarter of a processor. All others wait no longer than these seconds, so
#: that what is broken there is whole again within one.
REST, LONGEST_REST = 3.0, 0.5


Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]


class KernelNews(Protocol):
    """The port to what kernels tell of changes that others made."""

    async def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until there is something to read; False when the time is over."""

    def read(self) -> Heard:
        """All that came since the last time; nothing is waited for."""


class Reconciler:
    def __init__(
        self,
        *,
        host: Callable[[], Host],
        network: Network,
        lives: Lives,
        turns: Turns,
        tell: Tell,
        tidy: Callable[[], None],
    ) -> None:
        """`host` gives the configuration as it is at that moment; `tell` takes an event, its type and opts; `tidy` is
        called after each look at everything."""
        self._host = host
        self._network = network
        self._lives = lives
        self._turns = turns
        self._tell = tell
        self._tidy = tidy
        #: What the last one did, in words.
        self.last = "none yet"
        #: Containers that news concern and that were not looked at since; None stands for everything.
        self._due: set[str | None] = set()
        self._fights: dict[str | None, Fight] = {}
        #: Until when they are not looked at again because of news.
        self._rests: dict[str | None, float] = {}
        #: Seconds spent in turns so far.
        self._spent = 0.0

    async def run(self, news: KernelNews) -> None:
        """Reconcile for ever; the first look is the caller's, who wants to know how it went."""
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
                log.error("reconcile: %s; again in %.0f s", error.message, pause)

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
        await self._in_turn(lambda: self._note(news.read()))
        now = _now()
        self._fights = {place: fight for place, fight in self._fights.items() if not fight.is_over(now)}
        self._rests = {place: end for place, end in self._rests.items() if end > now}
        places = self._due - self._rests.keys()
        self._due -= places
        if None in places:
            await self._look_at_everything()
            return
        for names in _some_at_a_time(sorted(filter(None, places))):
            await self._in_turn(functools.partial(self._look_again, names))

    async def _note(self, heard: Heard) -> None:
        concerned = concerned_by(heard, self._host(), facts=self._network.facts)
        self._due |= concerned.containers
        if concerned.everything:
            self._due.add(None)

    async def _look_at_everything(self) -> None:
        spent = self._spent
        try:
            found = (await self.reconcile()).found
        except OsctlError as error:
            log.error("reconcile: %s", error.message)
            found = (error.message,)
            self._due.add(None)
        self._pace(None, found, took=self._spent - spent)

    async def _look_again(self, names: Iterable[str]) -> None:
        for name in names:
            began, drift = _now(), self._network.drift.get(name, ())
            mending = Mending()
            await self._reconcile_container(name, None, mending, mends_guest=False)
            if mending.found:
                self._conclude(mending)
            changed = self._network.drift.get(name, ())
            self._pace(name, mending.found or (changed if changed != drift else ()), took=_now() - began)

    def _pace(self, place: str | None, found: Sequence[str], *, took: float) -> None:
        """Say when to look here again at the earliest. Again and again the same is a fight, and told when it begins."""
        self._rests[place] = _now() + REST * took
        if not found:
            return
        before = self._fights.get(place, PEACE)
        self._fights[place] = fight = before.another(_now())
        self._rests[place] = max(self._rests[place], fight.rests_until)
        if fight.has_begun and not before.has_begun:
            self._tell("fight", {"pool": POOL, "id": place, "what": list(found)})
            log.warning(
                "%s: changed again and again by somebody, from now on looked at after pauses: %s",
                place or "the host", "; ".join(found),
            )  # fmt: skip

    def _seconds_of_rest(self) -> float | None:
        """Until what is due and rests may be looked at; None when nothing is due."""
        ends = [self._rests.get(place, 0.0) for place in self._due]
        return max(0.0, min(ends) - _now()) if ends else None

    # --- looking ---------------------------------------------------------------------------------------------------

    async def reconcile(self, only: str | None = None, *, mends_guests: bool = False) -> Mending:
        """Bring the kernel to what is wanted: host level, each configured container, what nobody wants any more.

        Says what was done. Inside guests only what their policy says is mended, everything with `mends_guests`; with
        `only`, that container alone is looked at.
        """
        mending = Mending()
        await self._in_turn(lambda: self._reconcile_host(mending))
        # What is as it is wanted, and that is most, is found so by one look at the whole host; the rest is looked at
        # again, each container by itself. Some at a time, so that nobody waits for all.
        host_side = await self._in_turn(lambda: self._network.observe_host_side(self._host()))
        for names in _some_at_a_time(list(self._host().containers) if only is None else [only]):
            await self._in_turn(
                functools.partial(self._reconcile_containers, names, host_side, mending, mends_guests=mends_guests)
            )
        self._conclude(mending)
        self._tidy()
        return mending

    def _conclude(self, mending: Mending) -> None:
        for line in mending.found:
            log.warning("reconcile: %s", line)
        self.last = "; ".join(mending.found) or "nothing to mend"

    async def _reconcile_host(self, mending: Mending) -> None:
        if self._network.see_to_host_level(self._host(), mending):
            await self._network.fill_filter(self._host())
        await self._network.press_on(self._network.plan_sweep(self._host()), mending, name=None)
        self._tell_mended(None, mending)

    async def _reconcile_containers(
        self, names: Iterable[str], host_side: Any, mending: Mending, *, mends_guests: bool
    ) -> None:
        for name in names:
            await self._reconcile_container(name, host_side, mending, mends_guest=mends_guests)

    async def _reconcile_container(self, name: str, host_side: Any, mending: Mending, *, mends_guest: bool) -> None:
        """Mend one container. `host_side` is what an earlier look at the host found; without it the host is asked."""
        container = self._host().containers.get(name)
        if container is None or not self._lives.is_configured(name):
            await self._network.settle(name)
            return
        here = Mending()
        try:
            if not self._network.is_unsettled(name) and await self._network.is_as_wanted(container, host_side):
                self.note_drift(name, ())
                return
            planned = await self._network.plan(container, container, mends_guest=mends_guest)
            if self._lives.is_ending(name):
                return  # what it lacks now it has not lost by anybody's mistake
            if await self._network.press_on(planned.plan, here, name=name):
                await self._network.settle(name)
            self.note_drift(name, planned.drift)
        except OsctlError as error:
            if self._lives.is_ending(name):
                return
            here.failed.append(f"{name}: {error.message}")
        self._tell_mended(name, here)
        mending += here

    def _tell_mended(self, place: str | None, mending: Mending) -> None:
        if mending.mended:
            self._tell("mended", {"pool": POOL, "id": place, "what": list(mending.mended)})

    def note_drift(self, name: str, drift: tuple[str, ...]) -> None:
        """Tell what is different inside a guest and left so, once for each difference."""
        if drift == self._network.drift.get(name, ()):
            return
        self._tell("drift", {"pool": POOL, "id": name, "differences": list(drift)})
        for each in drift:
            log.warning("%s: changed inside, left so: %s", name, each)
        if drift:
            self._network.drift[name] = drift
        else:
            del self._network.drift[name]

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
