"""Asking routers for their advertisements, where the host came to hear of them again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from osctld.core.errors import OsctlError
from osctld.core.plan.kernel_state import HostFacts
from osctld.daemon.tasks import log_failure
from osctld.sync.ports import Kernel

log = logging.getLogger("osctld")

#: Seconds between the first two solicitations of routers on a link (RFC 4861, section 10), doubled from one to the next
#: (RFC 7559); this many are sent, over more than an hour.
SOLICITED_EVERY, SOLICITED = 4.0, 10


class Routers:
    def __init__(self, kernel: Kernel, look: Callable[[], HostFacts]) -> None:
        """`look` returns the present state of the host's links; it may block."""
        self._kernel = kernel
        self._look = look
        #: Who asks, by link; those that are done, too.
        self._asking: dict[str, asyncio.Task[None]] = {}

    def ask_on(self, links: Iterable[str]) -> None:
        """Ask on these links for advertisements until one gives a default route, more and more rarely."""
        for link in links:
            before = self._asking.pop(link, None)
            if before is not None:
                before.cancel()
            task = self._asking[link] = asyncio.create_task(self._ask_on(link), name=f"routers on {link}")
            task.add_done_callback(log_failure)

    async def _ask_on(self, link: str) -> None:
        pause = SOLICITED_EVERY
        for _ in range(SOLICITED):
            try:
                self._kernel.solicit_routers(link)
                log.info("%s: router solicitation sent", link)
            except OsctlError as error:
                log.info("router solicitation not sent: %s", error.message)
            await asyncio.sleep(pause)
            pause *= 2
            facts = await asyncio.to_thread(self._look)
            if link not in (each.name for each in facts.links if not each.has_advertised_default):
                return
