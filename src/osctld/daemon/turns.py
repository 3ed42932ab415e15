"""Taking turns: one piece of work after another, in the order in which it was asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

log = logging.getLogger("osctld")

T = TypeVar("T")


class Turns:
    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = asyncio.Queue()

    async def take(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run work when all that was asked for before it is done. A caller that goes away while waiting drops it."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((work, done))
        return await done

    async def run(self) -> None:
        """Do the work; runs until cancelled."""
        while True:
            work, done = await self._waiting.get()
            if done.cancelled():
                continue
            try:
                result = await work()
            except Exception as error:
                if not done.cancelled():
                    done.set_exception(error)
                else:
                    log.exception("a failure that nobody waits for")
            else:
                if not done.cancelled():
                    done.set_result(result)
