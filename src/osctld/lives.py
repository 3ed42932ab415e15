"""The lives of containers: starting, running, stopping, and what follows an end.

`Lives` knows no interface: it is given what to do when namespaces are there and when they are gone. A container has
at most one transition under way; who asks for another one waits for the first.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

from osctld.core.command import LifeFacts
from osctld.core.errors import OsctlError, Refused, Unavailable
from osctld.core.host import Container
from osctld.core.kernel_state import Namespace, guest
from osctld.core.life import ContainerSpec, End, SignalSource, StopMethod
from osctld.shell import netns

log = logging.getLogger("osctld")

T = TypeVar("T")

#: Linux: HOST_NAME_MAX.
LONGEST_HOSTNAME = 64


class Life(Protocol):
    """A running container: `pidfd` refers to its first process, and through it to its namespaces."""

    @property
    def init_pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    def close(self) -> None: ...


class FreshNamespaces(Protocol):
    """Namespaces that exist before the container does."""

    @property
    def pid(self) -> int:
        """A process that holds them, until the engine lets it go."""


class Usage(Protocol):
    @property
    def memory_bytes(self) -> int | None: ...
    @property
    def cpu_nanoseconds(self) -> int | None: ...


class Engine(Protocol):
    """The port to what runs containers. It knows them as a root directory, an id range and a life."""

    async def make_namespaces(self, spec: ContainerSpec, /) -> Any: ...
    async def launch(self, spec: ContainerSpec, namespaces: Any, /) -> Any: ...
    async def abandon(self, namespaces: Any, /) -> None: ...
    async def find(self, container: str, /) -> Any: ...
    async def shut_down(self, life: Any, /, *, timeout_seconds: float, method: StopMethod) -> None: ...
    async def wait_ended(self, life: Any, /) -> End: ...
    async def execute(
        self,
        life: Any,
        command: Sequence[str],
        /,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal_type: str,
        signals: SignalSource,
    ) -> int: ...
    async def end_orphans(self) -> None: ...
    async def collect(self, container: str, /) -> None: ...
    async def forget(self, container: str, /) -> None: ...
    def reboot_was_asked(self, container: str, /) -> bool: ...
    def usage(self, life: Any, /) -> Usage: ...


class Roots(Protocol):
    """The port to the containers' root directories."""

    def path(self, container: str) -> str: ...
    async def build(self, container: str, *, archive: int | None) -> None: ...
    async def remove(self, container: str) -> None: ...
    async def discard(self, container: str) -> None: ...
    async def collect(self) -> None: ...
    async def set_aside(self, container: str) -> None: ...
    async def put_back(self, container: str) -> None: ...


class Neighbourhood(Protocol):
    """What the daemon does for a life. `in_turn` keeps these apart from edits."""

    def wanted(self, name: str) -> Container: ...
    async def check_host(self) -> None: ...
    async def configure(self, name: str) -> None: ...
    async def take_down(self, name: str) -> None: ...
    def state_changed(self, name: str, state: str) -> None: ...
    async def ended(self, name: str) -> None: ...
    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T: ...


class _Current:
    """One life, from the wish to start it until nothing of it is left."""

    def __init__(self) -> None:
        self.state = "starting"
        self.life: Life | None = None
        self.is_configured = False
        #: What it had on the host was taken down already.
        self.is_taken_down = False
        #: How many ask it to stop and have not given up.
        self.stops = 0
        self.ended: asyncio.Task[None] | None = None
        self._fresh: int | None = None

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


class Lives:
    def __init__(self, *, engine: Engine, roots: Roots, disk: Executor) -> None:
        self.engine = engine
        self.roots = roots
        #: The one thread that saves.
        self.disk = disk
        self._current: dict[str, _Current] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._neighbourhood: Neighbourhood | None = None

    def attach(self, neighbourhood: Neighbourhood) -> None:
        """Say who configures; once, before anything is started."""
        self._neighbourhood = neighbourhood

    @property
    def neighbourhood(self) -> Neighbourhood:
        assert self._neighbourhood is not None, "attach() comes first"
        return self._neighbourhood

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
        return current is None or current.state == "stopping" or _has_ended(current)

    async def take_down_if_ended(self, name: str) -> bool:
        """Take down what is left on the host of a container that is configured and has just ended; whether it has.

        In turn: whoever changes it from then on changes one that is stopped, while its end is still seen to.
        """
        current = self._current.get(name)
        if current is None or not current.is_configured or not _has_ended(current):
            return False
        await self._take_down(name, current)
        return True

    def namespaces(self, names: Iterable[str]) -> dict[Namespace, int]:
        """Descriptors through which to enter the network namespaces of these containers, of those that live.

        Good until the end of the turn.
        """
        return {
            guest(name): current.namespace
            for name in names
            if (current := self._current.get(name)) is not None and current.namespace is not None
        }

    def running(self, name: str) -> Life:
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
        usage = self.engine.usage(current.life)
        return LifeFacts(current.state, current.life.init_pid, usage.memory_bytes, usage.cpu_nanoseconds)

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    # --- start ----------------------------------------------------------------------------------------------------

    async def start(self, name: str, *, wait_seconds: float) -> None:
        """Start a container, or do nothing when it runs.

        Raises what went wrong, in words, and then nothing is left of it; Unavailable when it takes longer than
        `wait_seconds`, and then it goes on. With 0 seconds only what makes it impossible is told.
        """
        while (current := self._current.get(name)) is not None and current.state == "stopping":
            await self._ended(current)
        if current is not None and current.state == "running":
            return
        task = self._starting.get(name)
        if task is None:
            task = self._starting[name] = asyncio.create_task(self._start(name), name=f"start {name}")
            task.add_done_callback(lambda _: self._starting.pop(name, None))
        if wait_seconds == 0:
            task.add_done_callback(log_failure)
            return
        done, _ = await asyncio.wait({task}, timeout=wait_seconds)
        if not done:
            task.add_done_callback(log_failure)
            raise Unavailable(f"{name!r} does not run after {wait_seconds} s; the start goes on", code="slow-start")
        task.result()

    async def _start(self, name: str) -> None:
        wanted = self.neighbourhood.wanted(name)
        spec = ContainerSpec(
            container=name,
            root_directory=self.roots.path(name),
            id_map=wanted.id_map,
            hostname=name.replace("_", "-")[:LONGEST_HOSTNAME],
        )
        current = self._current[name] = _Current()
        self.neighbourhood.state_changed(name, current.state)
        # While the engine waits for its programs there is time to see to forwarding and the packet filter.
        checked = asyncio.create_task(self.neighbourhood.in_turn(self.neighbourhood.check_host))
        try:
            try:
                namespaces = await self.engine.make_namespaces(spec)
            finally:
                await asyncio.wait({checked})
            try:
                checked.result()
                await self.neighbourhood.in_turn(lambda: self._configure(name, current, namespaces))
                life = await self.engine.launch(spec, namespaces)
            except BaseException:
                # Before the namespaces are given up: an edit that comes now must not reach for them.
                current.is_configured = False
                await self.engine.abandon(namespaces)
                raise
        except BaseException:
            await self.neighbourhood.in_turn(lambda: self._forget_life(name, current))
            raise
        # In turn, because a change that is under way uses the descriptor that is closed here.
        await self.neighbourhood.in_turn(lambda: self._run(name, current, life))

    async def _configure(self, name: str, current: _Current, namespaces: FreshNamespaces) -> None:
        # The namespace itself and not the process that holds it: the engine lets that one go while it launches.
        current.open_namespace(namespaces.pid)
        await self.neighbourhood.configure(name)
        current.is_configured = True

    async def _run(self, name: str, current: _Current, life: Life) -> None:
        current.life = life
        current.close_namespace()
        current.is_configured = True
        self._enter(name, current, "running")
        current.ended = asyncio.create_task(self._watch(name, current, life), name=f"watch {name}")
        current.ended.add_done_callback(log_failure)

    # --- end ------------------------------------------------------------------------------------------------------

    async def stop(self, name: str, *, timeout_seconds: float, method: StopMethod) -> None:
        """Stop a container and wait until nothing is left of its life; do nothing when it is stopped.

        Raises Unavailable or ApplyFailed when it does not stop, and then it runs on.
        """
        starting = self._starting.get(name)
        if starting is not None:
            await asyncio.wait({starting})
        current = self._current.get(name)
        if current is None:
            return
        if current.life is None:
            await self._ended(current)
            return
        # Whoever else stops it: they may have more patience, or give up. One that is about to reboot stays down.
        current.stops += 1
        self._enter(name, current, "stopping")
        try:
            await self.engine.shut_down(current.life, timeout_seconds=timeout_seconds, method=method)
        except OsctlError:
            current.stops -= 1
            if not current.stops and not (current.ended and current.ended.done()):
                self._enter(name, current, "running")
            raise
        await self._ended(current)

    async def _ended(self, current: _Current) -> None:
        if current.ended is not None:
            await asyncio.shield(current.ended)

    async def _watch(self, name: str, current: _Current, life: Life) -> None:
        """Wait for the end of a life and clear away what is left; start anew when the guest rebooted."""
        end = await self.engine.wait_ended(life)
        self._enter(name, current, "stopping")
        is_rebooting = await self.neighbourhood.in_turn(lambda: self._leave(name, current, end))
        life.close()
        if not is_rebooting:
            await self.neighbourhood.ended(name)

    async def _leave(self, name: str, current: _Current, end: End) -> bool:
        """Clear away what is left of a life; begin another, and say so, when the guest rebooted and nobody stops it."""
        await self._forget_life(name, current)
        if end is not End.REBOOT or current.stops:
            return False
        log.info("%s: reboots", name)
        await self.start(name, wait_seconds=0)  # in the same turn: nobody finds it stopped who then says that it is
        return True

    async def _take_down(self, name: str, current: _Current) -> None:
        current.is_configured = False
        if not current.is_taken_down:
            current.is_taken_down = True
            await self.neighbourhood.take_down(name)

    async def _forget_life(self, name: str, current: _Current) -> None:
        try:
            await self._take_down(name, current)
        finally:
            current.close_namespace()
            if self._current.get(name) is current:
                del self._current[name]
                self.neighbourhood.state_changed(name, "stopped")

    def _enter(self, name: str, current: _Current, state: str) -> None:
        if current.state != state:
            current.state = state
            self.neighbourhood.state_changed(name, state)

    async def forget(self, name: str) -> None:
        """A container was deleted: remove what the engine keeps of it, and its root directory that was set aside."""
        await self.engine.forget(name)
        await self.roots.remove(name)

    # --- after a restart of the daemon ----------------------------------------------------------------------------

    async def adopt(self, name: str) -> bool:
        """Take a container up as it is found; whether it asked for a reboot while nobody listened."""
        life = await self.engine.find(name)
        if life is not None:
            current = self._current[name] = _Current()
            await self._run(name, current, life)
            return False
        await self.engine.collect(name)
        return self.engine.reboot_was_asked(name)


def _has_ended(current: _Current) -> bool:
    return current.life is not None and netns.is_gone(current.life.pidfd)


class _Facts(Mapping[str, LifeFacts]):
    """Facts of lives, read when somebody asks for them."""

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


def log_failure(task: asyncio.Task[None]) -> None:
    """When a task is done that nobody waits for, say why it failed if it did."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        # In words for what may happen; with its traceback for what may not.
        log.error("%s: %s", task.get_name(), error, exc_info=None if isinstance(error, OsctlError) else error)
