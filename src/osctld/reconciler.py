"""When to look again: at the start, every so often, and soon after a failure."""

from __future__ import annotations

import asyncio
import logging

from osctld.core.errors import OsctlError
from osctld.daemon import Daemon

log = logging.getLogger("osctld")

#: Seconds between two full looks.
PERIOD = 60.0
#: Seconds until the next look after a failed one; doubled each time up to PERIOD.
FIRST_RETRY = 1.0


class Reconciler:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def run(self) -> None:
        """Reconcile for ever; the first look is the caller's, who wants to know how it went."""
        pause = PERIOD
        while True:
            await asyncio.sleep(pause)
            try:
                await self._daemon.reconcile()
                pause = PERIOD
            except OsctlError as error:
                pause = min(FIRST_RETRY if pause == PERIOD else 2 * pause, PERIOD)
                log.error("reconcile: %s; again in %.0f s", error.message, pause)
