"""Bringing kernels back to what is wanted, and when to look: at the start, every so often, soon after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from osctld.core.errors import OsctlError
from osctld.core.host import POOL, Host
from osctld.lives import Lives
from osctld.network import Network
from osctld.turns import Turns

log = logging.getLogger("osctld")

#: Seconds between two full looks.
PERIOD = 60.0
#: Seconds until the next look after a failed one; doubled each time up to PERIOD.
FIRST_RETRY = 1.0
#: So many containers are looked at in one turn of a reconcile; each takes less than a millisecond.
RECONCILED_AT_ONCE = 16


Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]


class Reconciler:
    def __init__(
        self, *, host: Callable[[], Host], network: Network, lives: Lives, turns: Turns, tell: Tell
    ) -> None:
        """`host` gives the configuration as it is at that moment; `tell` takes an event, its type and opts."""
        self._host = host
        self._network = network
        self._lives = lives
        self._turns = turns
        self._tell = tell
        #: What the last one did, in words.
        self.last = "none yet"

    async def run(self) -> None:
        """Reconcile for ever; the first look is the caller's, who wants to know how it went."""
        pause = PERIOD
        while True:
            await asyncio.sleep(pause)
            try:
                await self.reconcile()
                pause = PERIOD
            except OsctlError as error:
                pause = min(FIRST_RETRY if pause == PERIOD else 2 * pause, PERIOD)
                log.error("reconcile: %s; again in %.0f s", error.message, pause)

    async def reconcile(self, only: str | None = None, *, mends_guests: bool = False) -> tuple[str, ...]:
        """Bring the kernel to what is wanted: host level, each configured container, what nobody wants any more.

        Says what was done. Inside guests only what their policy says is mended, everything with `mends_guests`; with
        `only`, that container alone is looked at.
        """
        found: list[str] = []
        await self._turns.take(lambda: self._reconcile_host(found))
        # What is as it is wanted, and that is most, is found so by one look at the whole host; the rest is looked at
        # again, each container by itself. Some at a time, so that nobody waits for all.
        host_side = await self._turns.take(lambda: self._network.observe_host_side(self._host()))
        names = list(self._host().containers) if only is None else [only]
        for start in range(0, len(names), RECONCILED_AT_ONCE):
            some = names[start : start + RECONCILED_AT_ONCE]
            await self._turns.take(
                lambda some=some: self._reconcile_containers(some, host_side, found, mends_guests)  # type: ignore[misc]
            )
        for line in found:
            log.warning("reconcile: %s", line)
        if found:
            self._tell("mended", {"pool": POOL, "id": only, "what": found})
        self.last = "; ".join(found) if found else "nothing to mend"
        return tuple(found)

    async def _reconcile_host(self, found: list[str]) -> None:
        if self._network.see_to_host_level(self._host(), found):
            await self._network.fill_filter(self._host())
        await self._network.sweep(self._host(), found)

    async def _reconcile_containers(
        self, names: Iterable[str], host_side: Any, found: list[str], mends_guests: bool
    ) -> None:
        for name in names:
            await self._reconcile_container(name, host_side, found, mends_guests)

    async def _reconcile_container(self, name: str, host_side: Any, found: list[str], mends_guests: bool) -> None:
        container = self._host().containers.get(name)
        if container is None or not self._lives.is_configured(name):
            await self._network.settle(name)
            return
        try:
            if not self._network.is_unsettled(name) and await self._network.is_as_wanted(container, host_side):
                self.note_drift(name, ())
                return
            planned = await self._network.plan(container, container, mends_guest=mends_guests)
            if await self._network.press_on(planned.plan, found, name=name):
                await self._network.settle(name)
            self.note_drift(name, planned.drift)
        except OsctlError as error:
            found.append(f"{name}: {error.message}")

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
