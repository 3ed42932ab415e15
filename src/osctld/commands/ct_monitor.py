"""Tell of the states of containers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Example, Watch
from osctld.core.events import EventFilter
from osctld.core.host import Host


class CtMonitor(ActCommand, frozen=True, kw_only=True):
    """Print each change of a container's state as it happens, until interrupted: of those named, or of all."""

    words: ClassVar[tuple[str, ...]] = ("ct", "monitor")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct monitor myct01 myct02", "The states of two containers"),
    )

    containers: Annotated[
        tuple[str, ...], Argument("Containers", metavar="ct", many=True, completes="container")
    ] = ()

    def act(self, host: Host) -> Action:
        names = tuple(host.container(each).name for each in self.containers)
        return Watch(EventFilter(types=("state",), opts={"id": names} if names else {}))
