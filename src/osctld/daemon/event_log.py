"""The numbered events of this daemon, and those who follow them, each at their own pace.

Readers are not waited for. Unread events are kept for a reader up to a limit: one that falls further behind is told how
many it missed, and continues. Events without readers are not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from osctld.core.events import Event, EventFilter

#: So many events are kept for a follower that is slow.
KEPT = 10_000
#: A run's events are numbered from its number times this: no number comes twice, and nothing is written for each.
#: Programs read numbers up to 2**53 exactly, which is enough for two million runs.
EVENTS_OF_A_RUN = 1 << 32


class _Follower:
    """Somebody who wants some events. `missed` counts those that had to make room for later ones."""

    def __init__(self, accepted: EventFilter, *, kept: int) -> None:
        self.unread: deque[Event] = deque(maxlen=kept)
        self.missed = 0
        self.arrival = asyncio.Event()
        self._accepted = accepted

    def hear(self, event: Event) -> None:
        if self._accepted.accepts(event):
            self.missed += len(self.unread) == self.unread.maxlen
            self.unread.append(event)
            self.arrival.set()


class EventLog:
    def __init__(self, *, run: int, kept: int = KEPT) -> None:
        """`run` counts the runs of the daemon and is greater than in each earlier one."""
        self._next = run * EVENTS_OF_A_RUN + 1
        self._kept = kept
        self._followers: set[_Follower] = set()

    @property
    def is_followed(self) -> bool:
        """Whether there are readers: events that are costly to compute are skipped without them."""
        return bool(self._followers)

    def emit(self, kind: str, opts: Mapping[str, Any]) -> None:
        event = Event(self._next, time.time(), kind, opts)
        self._next += 1
        for follower in self._followers:
            follower.hear(event)

    async def follow(self, accepted: EventFilter) -> AsyncGenerator[Event, None]:
        """Each event from now on that is accepted; ends never. An event `lost` says how many of them were missed."""
        follower = _Follower(accepted, kept=self._kept)
        self._followers.add(follower)
        try:
            while True:
                while follower.unread:
                    if follower.missed:
                        before = follower.unread[0].sequence - 1
                        missed, follower.missed = follower.missed, 0
                        yield Event(before, time.time(), "lost", {"count": missed})
                        continue  # more may have been missed meanwhile
                    yield follower.unread.popleft()
                follower.arrival.clear()
                await follower.arrival.wait()
        finally:
            self._followers.discard(follower)
