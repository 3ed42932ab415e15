"""Run a command in a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, ContainerName, Example, Execute
from osctld.core.host import Host


class CtExec(ActCommand, frozen=True, kw_only=True):
    """Run a command in a running container, on the caller's own standard input, output and error.

    The exit status is that of the command; 128 + N when signal N ended it, 127 when there is no such command, 126 when
    it cannot be executed. With input and output on a terminal the command has a terminal of the same type and size;
    what is typed goes to it, Ctrl-C and Ctrl-Z included. Otherwise osctl passes on the signals that it gets: HUP, INT,
    QUIT, USR1, USR2, ALRM, TERM, TSTP, CONT. When osctl is killed, the command ends, too; when osctld is, osctl fails
    and the command ends as soon as osctld is started again.

    Of the caller's environment the command gets TERM alone, and that at a terminal; PATH and HOME are those of the
    container's root. Its directory is /.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "exec")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct exec myct01 ip addr", "See the addresses as the container does"),
        Example("osctl ct exec myct01 sh -c 'ip route; ip -6 route'", "What a shell inside understands is one word"),
    )

    container: ContainerName
    command: Annotated[tuple[str, ...], Argument("Command and its arguments", metavar="cmd", rest=True)]

    def act(self, host: Host) -> Action:
        return Execute(host.container(self.container).name, self.command)
