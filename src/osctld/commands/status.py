"""Say whether all is as it should be."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, ListOptions, Look, LookCommand, ShowCondition
from osctld.core.config.host import Host
from osctld.core.health import troubles


class Status(LookCommand, ListOptions, frozen=True, kw_only=True):
    """Say whether all is as it should be, and list only what is not, with the commands that repair it.

    The first line is the verdict. The following lines list, for containers: addresses at which they cannot be reached
    (unreachable, blocked, null-routed, parked, unrouted), containers that are not running although they should be, and
    changes made inside (drifted); for the host: forwarding that is off, an advertised default route that was lost,
    firewalls that drop packets to containers. Of several problems with one cause, the first is named. osctl self check
    examines the whole host.

    The exit status is 0 if all is well, 1 if something is not as it should be, and 2 if containers are unreachable or
    down.
    """

    words: ClassVar[tuple[str, ...]] = ("status",)
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl status", "Show the verdict, and what to do"),
        Example("osctl status -H -o commands", "List only the commands that repair what is wrong, one per line"),
        Example("osctl -j status", "The same as JSON, empty if all is well"),
    )
    columns: ClassVar[tuple[Column, ...]] = troubles.COLUMNS

    def act(self, host: Host) -> Look:
        return ShowCondition()
