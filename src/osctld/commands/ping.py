"""Whether the daemon answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, Example, Observed, Reply, Text, ViewCommand
from osctld.core.config.host import Host
from osctld.core.errors import UsageError


class Ping(ViewCommand, frozen=True, kw_only=True):
    """Check that the daemon answers; it prints pong."""

    words: ClassVar[tuple[str, ...]] = ("ping",)
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl ping", "Check that the daemon answers"),)

    wait: Annotated[
        int | None, Argument("Not supported: the daemon answers at once, or not at all", metavar="seconds")
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        if self.wait is not None:
            raise UsageError(
                f"{self.wait}: ping does not wait; to wait for the daemon, use: until osctl ping; do sleep 1; done"
            )
        return Text(("pong",))
