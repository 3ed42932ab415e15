"""The one thread that reads and writes what is kept: one piece of work after another, the first asked for first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class RunsOnDisk(Protocol):
    async def __call__(self, work: Callable[[], T], /) -> T: ...


class Disk:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._free = asyncio.Lock()

    def close(self) -> None:
        """Return when all that was asked for is done."""
        self._thread.shutdown(wait=True)

    async def run(self, work: Callable[[], T]) -> T:
        """Do work that writes or reads. It is done also when whoever asked for it goes away."""
        async with self._free:
            return await self._run(work)

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[RunsOnDisk]:
        """Have the disk for several pieces of work, with nobody else's between them."""
        async with self._free:
            yield self._run

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
