"""The numbered events of this daemon: the last ones are kept, and whoever follows reads them at their own pace.

Nobody is waited for. A follower that falls behind what is kept is told how many events it missed, and goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from osctld.core.events import Event, EventFilter

#: So many events are kept for followers that are slow.
KEPT = 10_000
#: A run's events are numbered from its number times this: no number comes twice, and nothing is written for each.
#: Programs read numbers up to 2**53 exactly, which is enough for two million runs.
EVENTS_OF_A_RUN = 1 << 32


class EventLog:
    def __init__(self, *, run: int, kept: int = KEPT) -> None:
        """`run` counts the runs of the daemon and is greater than in each earlier one."""
        self._next = run * EVENTS_OF_A_RUN + 1
        self._events: deque[Event] = deque(maxlen=kept)
        self._arrival = asyncio.Event()
        self._followers = 0

    @property
    def is_followed(self) -> bool:
        """Whether anybody listens: what is costly to find out need not be told to nobody."""
        return self._followers > 0

    def emit(self, kind: str, opts: Mapping[str, Any]) -> None:
        self._events.append(Event(self._next, time.time(), kind, opts))
        self._next += 1
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def follow(self, accepted: EventFilter) -> AsyncGenerator[Event, None]:
        """Each event from now on that is accepted; ends never. An event `lost` says how many others were missed."""
        position = self._next
        self._followers += 1
        try:
            async for event in self._events_from(position):
                if event.type == "lost" or accepted.accepts(event):
                    yield event
        finally:
            self._followers -= 1

    async def _events_from(self, position: int) -> AsyncGenerator[Event, None]:
        while True:
            if position == self._next:
                await self._arrival.wait()
            oldest = self._events[0].sequence
            if position < oldest:
                yield Event(oldest - 1, time.time(), "lost", {"count": oldest - position})
                position = oldest
            event = self._events[position - oldest]
            position += 1
            yield event
