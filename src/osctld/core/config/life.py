"""What the core passes to a container engine, and gets from it.

The engine knows a container as a root directory, an id range and a life: from the moment its first process
exists until that process has ended. Interfaces, addresses and names of people are none of its business.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from osctld.core.errors import UsageError

#: Seconds that anybody may ask to wait: thirty years, which every clock can count.
LONGEST_WAIT = 1_000_000_000


class IdMap(msgspec.Struct, frozen=True):
    """Ids 0 to size-1 inside are offset to offset+size-1 on the host, users and groups alike."""

    offset: int
    size: int = 65536


class ContainerSpec(msgspec.Struct, frozen=True):
    """All that an engine needs to start a container.

    Without `runs_init` the guest's own init is not run: a process that does nothing holds the life for commands that
    are run in it, nothing is written into the root directory, and a container that outlives its daemon is stopped.
    """

    container: str
    root_directory: str
    id_map: IdMap
    hostname: str
    has_nesting: bool = False
    runs_init: bool = True


class StopMethod(StrEnum):
    SHUTDOWN_OR_KILL = "shutdown_or_kill"
    SHUTDOWN_OR_FAIL = "shutdown_or_fail"
    KILL = "kill"


def check_seconds(seconds: int, *, option: str) -> None:
    """Raise UsageError for a duration that is too long to wait. `option` is where it was given."""
    if not 0 <= seconds <= LONGEST_WAIT:
        raise UsageError(f"{seconds}: invalid value for {option} (0 to {LONGEST_WAIT})")


class End(StrEnum):
    """How a container ended: STOPPED for a poweroff, a stop or a crash; REBOOT if the guest requested a restart."""

    STOPPED = "stopped"
    REBOOT = "reboot"


class SignalSource(Protocol):
    """Whoever waits for a command inside, and gets signals that are meant for the command."""

    async def next_signal(self) -> int:
        """Wait for the next signal and return its number, 1 to 64."""

    def may_stop(self) -> None:
        """Report that the command has stopped and the terminal is restored: the client that got SIGTSTP may stop,
        too."""
