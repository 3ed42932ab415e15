"""Tell of everything that happens."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ActCommand, Action, Example, Watch
from osctld.core.events import EventFilter
from osctld.core.host import Host


class Monitor(ActCommand, frozen=True, kw_only=True):
    """Print each event as it happens, one a line, until interrupted.

    With -j, each is a JSON object with sequence, time, type and opts. Sequences grow, also when the daemon is
    restarted; within one run of the daemon none is left out. A reader that is too slow is told by an event `lost`.
    """

    words: ClassVar[tuple[str, ...]] = ("monitor",)
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl monitor", "Everything that happens"),
        Example("osctl -j monitor", "The same for a program"),
    )

    def act(self, host: Host) -> Action:
        return Watch(EventFilter())
