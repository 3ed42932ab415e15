"""Starts that nobody waits for, after a boot of the host or of the guest: what failed is tried again.

Whoever gives `ct start` sees that it failed, and why. After a power cut at night nobody does; and what makes one start
of 200 fail, such as a host on which everything starts at once, is over some seconds later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from osctld.core.errors import ApplyFailed, OsctlError
from osctld.daemon.records import Records
from osctld.daemon.tasks import log_failure
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import Lives

log = logging.getLogger("osctld")

#: Seconds before each further attempt.
PAUSES = (5.0, 20.0, 60.0, 180.0)


class PendingStarts(Protocol):
    """The port to notes of starts that have not succeeded yet, for a daemon that comes after this one."""

    def __contains__(self, name: str, /) -> bool: ...
    def note(self, name: str, /) -> None: ...
    def forget(self, name: str, /) -> None: ...


class Retries:
    def __init__(
        self,
        start: Callable[[str], Awaitable[None]],
        *,
        pending: PendingStarts,
        records: Records,
        lives: Lives,
        phase: HostPhase,
    ) -> None:
        self.pending = pending
        self._start = start
        self._records = records
        self._lives = lives
        self._phase = phase
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def note(self, name: str, error: OsctlError) -> None:
        """A start that nobody waited for has failed: log it and, unless it was refused, try again later."""
        if not isinstance(error, ApplyFailed):
            log.error("%s: not started: %s", name, error.message)
            return
        log.error("%s: not started, to be tried again in %g s: %s", name, PAUSES[0], error.message)
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.create_task(self._try_again(name), name=f"start {name} again")
            task.add_done_callback(lambda _: self._tasks.pop(name, None))
            task.add_done_callback(log_failure)

    def cancel(self) -> None:
        """Try nothing again from now on."""
        for task in list(self._tasks.values()):
            task.cancel()

    async def _try_again(self, name: str) -> None:
        for number, pause in enumerate(PAUSES, start=1):
            await self._phase.pause(pause)
            if not self._is_to_start(name):
                return
            try:
                await self._start(name)
            except OsctlError as error:
                more = f", to be tried again in {PAUSES[number]:g} s" if number < len(PAUSES) else ""
                log.error("%s: not started%s: %s", name, more, error.message)
            else:
                log.info("%s: started, attempt %d", name, number + 1)
                return

    def is_pending(self, name: str) -> bool:
        """Whether it is wanted and stopped because its start failed, or because the daemon died before that ended."""
        container = self._records.host.containers.get(name)
        is_wanted = container is not None and container.is_wanted
        return is_wanted and name in self.pending and self._lives.state(name) == "stopped"

    def _is_to_start(self, name: str) -> bool:
        """Whether it is still wanted and stopped, and starts are possible."""
        return self.is_pending(name) and self._phase.refusal_to_start(name) is None
