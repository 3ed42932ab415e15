"""Start a container with the host."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from osctld.core.command import ContainerName, EditCommand, Edited, Example, Option
from osctld.core.config.autostart import HIGHEST_PRIORITY, LONGEST_DELAY, USUAL_DELAY, USUAL_PRIORITY, Autostart
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import UsageError


class CtSetAutostart(EditCommand, frozen=True, kw_only=True):
    """Start a container at each boot of the host, whether or not it was running before.

    A few containers are started at a time, lower priorities first; those that were merely running before come last. At
    shutdown they are stopped in reverse order, those of the same priority together.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "set", "autostart")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct set autostart myct01", "Start a container with the host"),
        Example("osctl ct set autostart -p 1 -d 30 myct01", "Start it before the others, and wait half a minute"),
    )

    container: ContainerName
    priority: Annotated[
        int, Option(("-p", "--priority"), "NUMBER", f"Lower priorities ({USUAL_PRIORITY}) start first and stop last")
    ] = USUAL_PRIORITY
    delay: Annotated[
        int,
        Option(
            ("-d", "--delay"),
            "SECONDS",
            f"Seconds to wait ({USUAL_DELAY}) after its start before the next container is started",
        ),
    ] = USUAL_DELAY

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        autostart = checked_autostart(self.priority, self.delay)
        return Edited(host.with_container(msgspec.structs.replace(container, autostart=autostart)), container.name)


def checked_autostart(priority: int, delay: int) -> Autostart:
    """Raises UsageError for numbers out of range."""
    if not 0 <= priority <= HIGHEST_PRIORITY:
        raise UsageError(f"{priority}: invalid value for --priority (0 to {HIGHEST_PRIORITY})")
    if not 0 <= delay <= LONGEST_DELAY:
        raise UsageError(f"{delay}: invalid value for --delay (0 to {LONGEST_DELAY})")
    return Autostart(priority, delay)
