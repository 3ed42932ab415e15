"""Commands that were to change something and did not, with the reason: written after their answers, many at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from osctld.core.errors import OsctlError
from osctld.core.person import Asked
from osctld.daemon.disk import Disk
from osctld.shell.store.database import Store
from osctld.shell.store.history import FAILURES
from osctld.shell.store.rows import HistoryLine

log = logging.getLogger("osctld")

#: Seconds for which they are collected: one write for all, so that refusals do not slow down changes of others.
GATHERED_SECONDS = 1.0

#: The result of a command whose client disconnected before it was done.
LEFT = "the client disconnected before it was done"


class Failures:
    def __init__(self, store: Store, disk: Disk) -> None:
        self._store = store
        self._disk = disk
        self._gathered: deque[HistoryLine] = deque(maxlen=FAILURES)
        self._is_something_new = asyncio.Event()

    def note(self, asked: Asked, why: str) -> None:
        """Remember one; it is on disk within about a second."""
        self._gathered.append(HistoryLine(time.time(), asked.command_line, asked.by, why))
        self._is_something_new.set()

    async def all(self) -> list[HistoryLine]:
        """All that are kept, the first first."""
        await self.write()
        return await self._disk.run(self._store.failures)

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._is_something_new.wait()
            await asyncio.sleep(GATHERED_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what was recorded until now; if the disk refuses, this is logged, and the entries are dropped."""
        self._is_something_new.clear()
        lines = list(self._gathered)
        self._gathered.clear()
        if not lines:
            return
        try:
            await self._disk.run(lambda: self._store.keep_failures(lines))
        except OsctlError as error:
            log.error("%s", error.message)
