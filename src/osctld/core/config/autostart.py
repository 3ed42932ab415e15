"""What starts with the host, in which order, and in which order it is stopped when the host goes down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from osctld.core.config.host import Container

#: Where `ct set autostart` does not say otherwise: the numbers of the original osctl.
USUAL_PRIORITY, USUAL_DELAY = 10, 5
#: Bounds of both; a delay is in seconds.
HIGHEST_PRIORITY, LONGEST_DELAY = 1_000_000_000, 86_400

#: The word of the kernel's command line, and the values with which nothing is started at boot.
_SWITCH = "osctl.autostart"
_OFF = ("off", "no", "0", "false")


class Autostart(msgspec.Struct, frozen=True):
    """A container that starts with the host whether or not it ran before.

    Those of a lower `priority` start first. `delay` is in seconds: so long after its start the next one waits for the
    place that it has left.
    """

    priority: int = USUAL_PRIORITY
    delay: int = USUAL_DELAY


class ShutdownMark(msgspec.Struct, frozen=True):
    """That all containers were stopped for good on this boot of the host, or are about to be.

    While it stands nothing is started, and what ends stays wanted. `boot` is the boot that it belongs to, `since` is in
    seconds since 1970. One that the `host` caused is lifted when the host does not go down after all, one by a
    `command` by another command. A lifted mark says that what it stopped is still to be started again.
    """

    boot: str
    since: float
    cause: Literal["host", "command"]
    is_lifted: bool = False


def start_order(containers: Iterable[Container]) -> list[Container]:
    """Containers to start, in order: by priority, then those that were merely running before, each by name."""
    return sorted((each for each in containers if each.is_wanted), key=lambda each: (_rank(each), each.name))


def stop_groups(containers: Iterable[Container]) -> list[tuple[str, ...]]:
    """Names by priority, in the reverse order of starts: those of one group may be stopped at the same time."""
    groups: dict[tuple[bool, int], list[str]] = {}
    for each in containers:
        groups.setdefault(_rank(each), []).append(each.name)
    return [tuple(sorted(groups[rank])) for rank in sorted(groups, reverse=True)]


def share_of_time(left: float, *, groups: int) -> float:
    """Seconds for the next of this number of groups: time that one does not need is left to those after it."""
    return max(left, 0.0) / max(groups, 1)


def is_autostart_off(command_line: str) -> bool:
    """Whether the kernel command line says to start no container, `osctl.autostart=off`; the last such parameter
    counts."""
    values = [word.partition("=")[2] for word in command_line.split() if word.partition("=")[0] == _SWITCH]
    return bool(values) and values[-1].lower() in _OFF


def _rank(container: Container) -> tuple[bool, int]:
    autostart = container.autostart
    return (autostart is None, autostart.priority if autostart is not None else 0)
