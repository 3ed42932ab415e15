"""Work on values that may be very large: in a thread then, so that others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Work about more objects than this takes a few milliseconds, by which a thread pays for itself.
LARGE = 2000

_working = 0


async def considered(size: int, work: Callable[[], T]) -> T:
    """Do read-only work on this number of objects."""
    if size <= LARGE:
        return work()
    with _without_collections():
        return await asyncio.shield(asyncio.to_thread(work))


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Look for no cyclic garbage meanwhile.

    What so much work makes is many objects and few cycles. To look through all of them, again and again as they become
    more, holds everybody up: measured for 100,000 routes, 280 ms at once.
    """
    global _working  # noqa: PLW0603 - as many as there are; the collector is one for all, too
    _working += 1
    gc.disable()
    try:
        yield
    finally:
        _working -= 1
        if not _working:
            gc.enable()
