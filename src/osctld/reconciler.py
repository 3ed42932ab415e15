"""Bringing kernels back to what is wanted, and when to look: at the start, every so often, soon after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from osctld.core.errors import OsctlError
from osctld.core.host import Host
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


class Reconciler:
    def __init__(self, *, host: Callable[[], Host], network: Network, lives: Lives, turns: Turns) -> None:
        """`host` gives the configuration as it is at that moment."""
        self._host = host
        self._network = network
        self._lives = lives
        self._turns = turns
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

    async def reconcile(self) -> None:
        """Bring the kernel to what is wanted: host level, each configured container, what nobody wants any more."""
        found: list[str] = []
        await self._turns.take(lambda: self._reconcile_host(found))
        # What is as it is wanted, and that is most, is found so by one look at the whole host; the rest is looked at
        # again, each container by itself. Some at a time, so that nobody waits for all.
        host_side = await self._turns.take(lambda: self._network.observe_host_side(self._host()))
        names = list(self._host().containers)
        for start in range(0, len(names), RECONCILED_AT_ONCE):
            some = names[start : start + RECONCILED_AT_ONCE]
            await self._turns.take(lambda some=some: self._reconcile_containers(some, host_side, found))  # type: ignore[misc]
        for line in found:
            log.warning("reconcile: %s", line)
        self.last = "; ".join(found) if found else "nothing to mend"

    async def _reconcile_host(self, found: list[str]) -> None:
        self._network.see_to_host_level(found)
        await self._network.sweep(self._host(), found)

    async def _reconcile_containers(self, names: Iterable[str], host_side: Any, found: list[str]) -> None:
        for name in names:
            await self._reconcile_container(name, host_side, found)

    async def _reconcile_container(self, name: str, host_side: Any, found: list[str]) -> None:
        container = self._host().containers.get(name)
        if container is None or not self._lives.is_configured(name):
            self._network.settle(name)
            return
        try:
            if not self._network.is_unsettled(name) and await self._network.is_as_wanted(container, host_side):
                return
            if await self._network.press_on(await self._network.plan(container, container), found, name=name):
                self._network.settle(name)
        except OsctlError as error:
            found.append(f"{name}: {error.message}")
