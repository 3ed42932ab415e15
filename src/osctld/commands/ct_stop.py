"""Stop a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, ContainerName, Example, Flag, Option, StopContainer
from osctld.core.config.host import Host
from osctld.core.config.life import StopMethod, check_seconds
from osctld.core.errors import UsageError


class CtStop(ActCommand, frozen=True, kw_only=True):
    """Stop a container: ask it to power off, and kill it if it does not in time.

    A container that is already stopped is left alone.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "stop")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct stop -t 10 myct01", "Give a container ten seconds to power off, then kill it"),
    )

    container: ContainerName
    timeout: Annotated[int, Option(("-t", "--timeout"), "SECONDS", "Time to power off (60)")] = 60
    kill: Annotated[bool, Flag(("-k", "--kill"), "Kill the container at once")] = False
    dont_kill: Annotated[bool, Flag(("--dont-kill",), "Fail if the container does not power off in time")] = False

    def act(self, host: Host) -> Action:
        method = stop_method(kill=self.kill, dont_kill=self.dont_kill, timeout=self.timeout)
        return StopContainer(host.container(self.container).name, self.timeout, method)


def stop_method(*, kill: bool, dont_kill: bool, timeout: int) -> StopMethod:
    """How to stop, from the options that say so. Raises UsageError when they contradict each other."""
    if kill and dont_kill:
        raise UsageError("--kill and --dont-kill cannot be used together")
    check_seconds(timeout, option="--timeout")
    if kill:
        return StopMethod.KILL
    return StopMethod.SHUTDOWN_OR_FAIL if dont_kill else StopMethod.SHUTDOWN_OR_KILL
