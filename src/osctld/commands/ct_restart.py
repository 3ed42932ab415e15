"""Restart a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.commands.ct_stop import stop_method
from osctld.core.command import ActCommand, Action, ContainerName, Example, Flag, Option, RestartContainer
from osctld.core.config.host import Host
from osctld.core.config.life import check_seconds
from osctld.core.errors import UsageError


class CtRestart(ActCommand, frozen=True, kw_only=True):
    """Stop a container if it is running, and start it."""

    words: ClassVar[tuple[str, ...]] = ("ct", "restart")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct restart --kill myct01", "Stop a container at once, and start it again"),
    )

    container: ContainerName
    wait: Annotated[
        int, Option(("-w", "--wait"), "SECONDS", "Wait at most this long (60) for it to run again; 0 does not wait")
    ] = 60
    timeout: Annotated[int, Option(("-t", "--timeout"), "SECONDS", "Time to power off (60)")] = 60
    kill: Annotated[bool, Flag(("-k", "--kill"), "Kill the container at once")] = False
    dont_kill: Annotated[bool, Flag(("--dont-kill",), "Fail if the container does not power off in time")] = False
    reboot: Annotated[bool, Flag(("-r", "--reboot"), "Accepted for compatibility: never kill the container")] = False

    def act(self, host: Host) -> Action:
        check_seconds(self.wait, option="--wait")
        if self.reboot and (self.kill or self.dont_kill):
            raise UsageError("--kill and --dont-kill cannot be used with --reboot")
        method = stop_method(kill=self.kill, dont_kill=self.dont_kill or self.reboot, timeout=self.timeout)
        return RestartContainer(host.container(self.container).name, self.wait, self.timeout, method)
