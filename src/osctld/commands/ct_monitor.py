"""Report the states of containers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, Example, Look, LookCommand, Watch
from osctld.core.config.host import Host
from osctld.core.events import EventFilter


class CtMonitor(LookCommand, frozen=True, kw_only=True):
    """Print each change of state of all containers, or of those named, until interrupted."""

    words: ClassVar[tuple[str, ...]] = ("ct", "monitor")
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl ct monitor myct01 myct02", "Watch two containers"),)

    containers: Annotated[tuple[str, ...], Argument("Containers", metavar="ct", many=True, completes="container")] = ()

    def act(self, host: Host) -> Look:
        names = tuple(host.container(each).name for each in self.containers)
        return Watch(EventFilter(types=("state",), opts={"id": names} if names else {}))
