"""Announce nothing any more."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import ActCommand, Action, DisableRouter, Example
from osctld.core.config.host import Host


class RouterDisable(ActCommand, frozen=True, kw_only=True):
    """Withdraw everything that is announced, and announce nothing from now on.

    The file that the routing daemon includes stays, without content: the routing daemon does not start without it.
    """

    words: ClassVar[tuple[str, ...]] = ("router", "disable")
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl router disable", "Announce nothing from now on"),)

    def act(self, host: Host) -> Action:
        return DisableRouter()
