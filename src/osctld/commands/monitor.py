"""Report everything that happens."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Example, Look, LookCommand, Watch
from osctld.core.config.host import Host
from osctld.core.events import EventFilter


class Monitor(LookCommand, frozen=True, kw_only=True):
    """Print each event as it happens, one per line, until interrupted.

    With -j, each event is a JSON object with sequence, time, type and opts. Sequence numbers keep increasing across
    restarts of the daemon, and have no gaps while it runs. A reader that is too slow gets an event `lost`.
    """

    words: ClassVar[tuple[str, ...]] = ("monitor",)
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl monitor", "Watch all events"),
        Example("osctl -j monitor", "The same as JSON"),
    )

    def act(self, host: Host) -> Look:
        return Watch(EventFilter())
