"""Stop all containers, as the host's own shutdown does."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import AbortShutdown, ActCommand, Action, Example, Flag, Option, ShutDown
from osctld.core.config.host import Host
from osctld.core.config.settings import LONGEST_SHUTDOWN
from osctld.core.errors import UsageError


class SelfShutdown(ActCommand, frozen=True, kw_only=True):
    """Stop all containers, as a shutdown of the host does, and start none until the host has rebooted.

    Containers are asked to power off in the reverse order of their start at boot, and killed if they do not in time.
    They stay wanted: the next boot starts them. Until then, starts are refused. --abort cancels the shutdown and starts
    the stopped containers again. The daemon keeps running.
    """

    words: ClassVar[tuple[str, ...]] = ("self", "shutdown")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self shutdown --force", "Stop all containers before work on the host's disks"),
        Example("osctl self shutdown --abort", "Allow starts again, and start the stopped containers"),
    )

    force: Annotated[bool, Flag(("-f", "--force"), "Stop running containers")] = False
    abort: Annotated[bool, Flag(("--abort",), "Cancel the shutdown, and start the containers that it stopped")] = False
    timeout: Annotated[
        int | None,
        Option(
            ("-t", "--timeout"), "SECONDS", "Time for all containers together (default: the setting shutdown.timeout)"
        ),
    ] = None

    def act(self, host: Host) -> Action:
        if self.abort:
            if self.force or self.timeout is not None:
                raise UsageError("--abort cannot be used with --force or --timeout")
            return AbortShutdown()
        timeout = host.settings.shutdown.timeout if self.timeout is None else self.timeout
        if not 0 <= timeout <= LONGEST_SHUTDOWN:
            raise UsageError(f"{timeout}: invalid value for --timeout (0 to {LONGEST_SHUTDOWN})")
        return ShutDown(timeout_seconds=timeout, is_forced=self.force)
