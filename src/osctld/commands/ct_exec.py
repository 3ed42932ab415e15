"""Run a command in a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import SECRET, ActCommand, Action, Argument, ContainerName, Example, Execute, Flag
from osctld.core.config.host import Host
from osctld.core.errors import UsageError


class CtExec(ActCommand, frozen=True, kw_only=True):
    """Run a command in a running container, with the caller's standard input, output and error.

    The exit status is that of the command; 128 + N if signal N ended it, 127 if the command was not found, 126 if it
    could not be executed. If input and output are a terminal, the command gets a terminal of the same type and size,
    and all keys, Ctrl-C and Ctrl-Z included, go to it. Otherwise osctl forwards the signals that it receives: HUP, INT,
    QUIT, USR1, USR2, ALRM, TERM, TSTP, CONT. If osctl is killed, the command is ended too; if osctld is killed, osctl
    fails, and the command is ended when osctld starts again.

    With --run-container, the command also runs in a stopped container: its init is not started, and the container is
    stopped again when the command has ended, together with everything that the command left running. It has interfaces
    only with --network. Only the command itself changes the root directory, so that a guest that does not boot can be
    repaired.

    The command inherits no environment variable from the caller except TERM, and that only on a terminal; PATH and HOME
    are those of the container's root user. Its working directory is /.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "exec")
    keeps_failures: ClassVar[bool] = False
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct exec myct01 ip addr", "Show the addresses inside the container"),
        Example("osctl ct exec myct01 sh -c 'ip route; ip -6 route'", "Run a shell command line, as one word"),
        Example("osctl ct exec -r myct02 rm -f /etc/nologin", "Run a command in a stopped container"),
    )

    run: Annotated[
        bool, Flag(("-r", "--run-container"), "If the container is stopped, run the command in it without its init")
    ] = False
    network: Annotated[bool, Flag(("-n", "--network"), "With --run-container: configure its interfaces")] = False
    container: ContainerName
    command: Annotated[tuple[str, ...], Argument("Command and its arguments", metavar="cmd", rest=True), SECRET]

    def act(self, host: Host) -> Action:
        if self.network and not self.run:
            raise UsageError("--network requires --run-container")
        name = host.container(self.container).name
        return Execute(name, self.command, starts=self.run, has_network=self.network)
