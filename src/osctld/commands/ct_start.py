"""Start a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, ContainerName, Example, Flag, Option, StartContainer
from osctld.core.config.host import Host
from osctld.core.config.life import check_seconds


class CtStart(ActCommand, frozen=True, kw_only=True):
    """Start a container; its interfaces are configured before its init process runs.

    A container that is already running is left alone. After `ct start`, -q and -p mean --queue and --priority; give
    --quiet and --parsable before it.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "start")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct start myct02", "Start a container, and wait until it is running"),
    )

    container: ContainerName
    wait: Annotated[
        int, Option(("-w", "--wait"), "SECONDS", "Wait at most this long (60) for it to run; 0 does not wait")
    ] = 60
    queue: Annotated[bool, Flag(("-q", "--queue"), "Accepted for compatibility: starts are not queued")] = False
    priority: Annotated[
        int | None, Option(("-p", "--priority"), "NUMBER", "Accepted for compatibility: starts are not queued")
    ] = None

    def act(self, host: Host) -> Action:
        check_seconds(self.wait, option="--wait")
        return StartContainer(host.container(self.container).name, self.wait)
