"""Look for what on the host stands in the way of containers."""

from __future__ import annotations

from typing import ClassVar

from osctld.core import health
from osctld.core.command import ActCommand, Action, CheckHealth, Column, Example, ListOptions
from osctld.core.host import Host


class SelfCheck(ActCommand, ListOptions, frozen=True, kw_only=True):
    """Look for what on the host stands in the way of containers, and say how to mend it.

    Forwarding, firewalls of others, settings that come back at boot, limits, programs that would manage our links.
    Nothing is changed. The exit status is 1 when there are errors among the findings.
    """

    words: ClassVar[tuple[str, ...]] = ("self", "check")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self check", "What is not as it should be, and why"),
        Example("osctl -j self check", "The same for a program"),
    )
    columns: ClassVar[tuple[Column, ...]] = health.COLUMNS

    def act(self, host: Host) -> Action:
        return CheckHealth()
