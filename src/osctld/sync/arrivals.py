"""Telling the neighbours on bridges of containers that came, moved, or got addresses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from osctld.core.errors import OsctlError
from osctld.core.plan.arrivals import Arrival
from osctld.core.plan.kernel_state import container_of
from osctld.daemon.tasks import log_failure
from osctld.sync.ports import Kernel, Presence

log = logging.getLogger("osctld")

#: It is said twice (RFC 5227, 1.1: ANNOUNCE_NUM, ANNOUNCE_INTERVAL, in seconds): a port that has just been
#: made passes nothing on at first.
AGAIN_AFTER = 2.0


class Arrivals:
    def __init__(self, kernel: Kernel, lives: Presence) -> None:
        self._kernel = kernel
        self._lives = lives
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, arrived: Iterable[Arrival]) -> None:
        """Tell neighbours now and once more. Failures are not reported: neighbours ask after a while."""
        these = tuple(arrived)
        if not these:
            return
        self._send(these)
        task = asyncio.create_task(self._again(these), name="tell neighbours again")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def _again(self, arrived: tuple[Arrival, ...]) -> None:
        await asyncio.sleep(AGAIN_AFTER)
        self._send(arrived)

    def _send(self, arrived: Iterable[Arrival]) -> None:
        for each in arrived:
            name = container_of(each.namespace)
            namespace = self._lives.namespaces([name]).get(each.namespace) if name is not None else None
            if namespace is None:
                continue
            try:
                self._kernel.tell_neighbours(namespace, each)
            except OsctlError as error:
                log.debug("%s: neighbours not told: %s", name, error.message)
