"""Wait for a state of a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, ContainerName, Example, Look, LookCommand, WaitForState
from osctld.core.config.host import Host
from osctld.core.errors import UsageError

#: All states that a container can be in.
STATES = ("stopped", "starting", "running", "stopping")


class CtWait(LookCommand, frozen=True, kw_only=True):
    """Wait until a container is in one of the states: stopped, starting, running or stopping.

    Return at once if it already is.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "wait")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct wait myct01 running", "Wait until a container is running"),
    )

    container: ContainerName
    states: Annotated[tuple[str, ...], Argument("States", metavar="state", many=True, completes="state")]

    def act(self, host: Host) -> Look:
        for each in self.states:
            if each not in STATES:
                raise UsageError(f"{each!r}: not a container state (expected {', '.join(STATES)})")
        return WaitForState(host.container(self.container).name, self.states)
