"""Whether the daemon answers."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Example, Observed, Reply, Text, ViewCommand
from osctld.core.host import Host


class Ping(ViewCommand, frozen=True, kw_only=True):
    """Ask the daemon whether it is there; it says pong."""

    words: ClassVar[tuple[str, ...]] = ("ping",)
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ping", "Ask the daemon whether it is there"),
    )

    def view(self, host: Host, observed: Observed) -> Reply:
        return Text(("pong",))
