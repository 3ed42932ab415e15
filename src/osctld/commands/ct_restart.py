"""Restart a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.commands.ct_stop import stop_method
from osctld.core.command import ActCommand, Action, ContainerName, Example, Flag, Option, RestartContainer
from osctld.core.host import Host
from osctld.core.life import check_seconds


class CtRestart(ActCommand, frozen=True, kw_only=True):
    """Stop a container if it runs, and start it."""

    words: ClassVar[tuple[str, ...]] = ("ct", "restart")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct restart --kill myct01", "Stop a container at once, and start it again"),
    )

    container: ContainerName
    wait: Annotated[
        int, Option(("-w", "--wait"), "SECONDS", "Wait at most so long (60) for it to run again; 0 does not wait")
    ] = 60
    timeout: Annotated[int, Option(("-t", "--timeout"), "SECONDS", "How long (60) it may take to power off")] = 60
    kill: Annotated[bool, Flag(("-k", "--kill"), "Kill it at once")] = False
    dont_kill: Annotated[bool, Flag(("--dont-kill",), "Fail when it does not power off in time")] = False

    def act(self, host: Host) -> Action:
        check_seconds(self.wait, option="--wait")
        method = stop_method(kill=self.kill, dont_kill=self.dont_kill, timeout=self.timeout)
        return RestartContainer(host.container(self.container).name, self.wait, self.timeout, method)
