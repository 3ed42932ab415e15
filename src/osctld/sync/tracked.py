"""Tracked connections to addresses that a container no longer has are deleted: later packets concern another holder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

from osctld.core.address.addresses import PackedNetwork
from osctld.core.errors import OsctlError

log = logging.getLogger("osctld")


class Tracking(Protocol):
    """What of the kernel port is needed."""

    def forget_tracked(self, networks: Iterable[PackedNetwork], /) -> int:
        """Forget the connections of which one end is in these networks. Raises Unavailable."""


class Tracked:
    def __init__(self, kernel: Tracking) -> None:
        self._kernel = kernel
        self._due: list[PackedNetwork] = []
        self._wake = asyncio.Event()

    def forget(self, networks: Iterable[PackedNetwork]) -> None:
        """Whoever had these networks has them no more, or they go by another link. It is done after the answer."""
        self._due.extend(networks)
        if self._due:
            self._wake.set()

    async def run(self) -> None:
        """Forget what is due whenever there is something; runs until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            networks, self._due = self._due, []
            try:
                count = await asyncio.to_thread(self._kernel.forget_tracked, networks)
            except OsctlError as error:
                log.error("tracked connections: %s", error.message)
                continue
            if count:
                log.info("%d tracked connections of removed addresses were deleted", count)
