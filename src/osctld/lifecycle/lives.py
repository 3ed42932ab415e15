"""The lives of containers: which there are, in what state, and how to get inside. `supervisor` begins and ends them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from osctld.core.command import LifeFacts
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import Namespace, guest
from osctld.lifecycle.engine import RunningLife
from osctld.shell.kernel import netns

log = logging.getLogger("osctld")

T = TypeVar("T")

#: Linux: HOST_NAME_MAX.
LONGEST_HOSTNAME = 64


class Roots(Protocol):
    """The port to the containers' root directories."""

    def path(self, container: str) -> str: ...
    async def build(self, container: str, *, archive: int | None) -> None: ...
    async def keep(self, container: str) -> None: ...
    async def remove(self, container: str) -> None: ...
    async def discard(self, container: str) -> None: ...
    async def collect(self, recorded: Collection[str], /) -> None: ...
    async def set_aside(self, container: str) -> None: ...
    async def put_back(self, container: str) -> None: ...


class LifeOf:
    """One life of a container, from the wish to start it until nothing of it is left."""

    def __init__(self, name: str, changed: Callable[[str, str], None]) -> None:
        self.name = name
        self.state = "stopped"
        self.life: RunningLife | None = None
        self.is_configured = False
        #: Without the guest's init, for a command: it says nothing about what is wanted.
        self.is_held = False
        #: What it had on the host was taken down already.
        self.is_taken_down = False
        #: How many ask it to stop and have not given up.
        self.stops = 0
        self.ended: asyncio.Task[None] | None = None
        self._fresh: int | None = None
        self._changed = changed

    @property
    def has_ended(self) -> bool:
        return self.life is not None and netns.is_gone(self.life.pidfd)

    @property
    def namespace(self) -> int | None:
        """A descriptor to enter the network namespace by: the first process, before there is one the namespace."""
        return self.life.pidfd if self.life is not None else self._fresh

    def open_namespace(self, pid: int) -> None:
        """Keep the namespace of a process open. It lasts as long as that: close soon."""
        self._fresh = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close_namespace(self) -> None:
        if self._fresh is not None:
            os.close(self._fresh)
            self._fresh = None

    def enter(self, state: str) -> None:
        if self.state != state:
            self.state = state
            self._changed(self.name, state)


class Lives:
    """The table of running containers. Only the supervisor changes it."""

    def __init__(self, *, changed: Callable[[str, str], None]) -> None:
        """`changed` is told the name and new state of a container."""
        self._changed = changed
        self._current: dict[str, LifeOf] = {}

    # --- questions ------------------------------------------------------------------------------------------------

    def state(self, name: str) -> str:
        """stopped, starting, running or stopping."""
        current = self._current.get(name)
        return current.state if current else "stopped"

    def is_configured(self, name: str) -> bool:
        """Whether the container has namespaces that hold what is wanted, so that changes go to them too."""
        current = self._current.get(name)
        return current is not None and current.is_configured

    def is_ending(self, name: str) -> bool:
        """Whether the container is on its way down, so that the kernel takes away what it had."""
        current = self._current.get(name)
        return current is None or current.state == "stopping" or current.has_ended

    def namespaces(self, names: Iterable[str]) -> dict[Namespace, int]:
        """Descriptors through which to enter the network namespaces of these containers, of those that live.

        Good until the end of the turn.
        """
        return {
            guest(name): current.namespace
            for name in names
            if (current := self._current.get(name)) is not None and current.namespace is not None
        }

    def running(self, name: str) -> RunningLife:
        """Raise Refused when the container does not run."""
        current = self._current.get(name)
        if current is None or current.life is None or current.state != "running":
            raise Refused(f"{name!r}: container not running", code="not-running", subject=name)
        return current.life

    def facts(self) -> Mapping[str, LifeFacts]:
        return _Facts(self)

    def facts_of(self, name: str) -> LifeFacts:
        """Read the present state and usage of one container."""
        current = self._current[name]
        if current.life is None:
            return LifeFacts(current.state)
        usage = current.life.usage()
        return LifeFacts(current.state, current.life.init_pid, usage.memory_bytes, usage.cpu_nanoseconds)

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def get(self, name: str) -> LifeOf | None:
        """The present life of a container, if there is any."""
        return self._current.get(name)

    # --- changes --------------------------------------------------------------------------------------------------

    def begin(self, name: str) -> LifeOf:
        """A life begins; the one before, if there was any, has ended."""
        current = self._current[name] = LifeOf(name, self._changed)
        return current

    def end(self, current: LifeOf) -> None:
        """Nothing of it is left."""
        current.close_namespace()
        if self._current.get(current.name) is current:
            del self._current[current.name]
            self._changed(current.name, "stopped")


class _Facts(Mapping[str, LifeFacts]):
    """Facts of running containers, read on request."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives

    def __getitem__(self, name: str) -> LifeFacts:
        if self._lives.state(name) == "stopped":
            raise KeyError(name)
        return self._lives.facts_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lives)

    def __len__(self) -> int:
        return sum(1 for _ in self._lives)
