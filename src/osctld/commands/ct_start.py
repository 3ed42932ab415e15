"""Start a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, ContainerName, Example, Option, StartContainer
from osctld.core.host import Host
from osctld.core.life import check_seconds


class CtStart(ActCommand, frozen=True, kw_only=True):
    """Start a container, its interfaces configured before its first process runs.

    One that runs already is left as it is.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "start")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct start myct02", "Start a container, and wait until it runs"),
    )

    container: ContainerName
    wait: Annotated[
        int, Option(("-w", "--wait"), "SECONDS", "Wait at most so long (60) for it to run; 0 does not wait")
    ] = 60

    def act(self, host: Host) -> Action:
        check_seconds(self.wait, option="--wait")
        return StartContainer(host.container(self.container).name, self.wait)
