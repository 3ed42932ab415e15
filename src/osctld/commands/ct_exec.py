"""Run a command in a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Example, Execute
from osctld.core.host import Host


class CtExec(ActCommand, frozen=True, kw_only=True):
    """Run a command in a running container, on the caller's own standard input, output and error.

    The exit status is that of the command; 128 + N when signal N ended it.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "exec")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct exec myct01 ip addr", "See the addresses as the container does"),
        Example("osctl ct exec myct01 sh -c 'ip route; ip -6 route'", "What a shell inside understands is one word"),
    )

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    command: Annotated[tuple[str, ...], Argument("Command and its arguments", metavar="cmd", rest=True)]

    def act(self, host: Host) -> Action:
        return Execute(host.container(self.container).name, self.command)
