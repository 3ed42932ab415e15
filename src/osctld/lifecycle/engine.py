"""The port to what runs containers, and the same as those see it who care for no engine's own types.

An engine knows a container as a root directory and a life. Only the engine knows the types of its lives and new
namespaces: it is given back what it gave. `bind` joins each with the engine that knows what to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from osctld.core.config.life import ContainerSpec, End, SignalSource, StopMethod


class Usage(Protocol):
    @property
    def memory_bytes(self) -> int | None: ...
    @property
    def cpu_nanoseconds(self) -> int | None: ...


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


N = TypeVar("N", bound=FreshNamespaces)
L = TypeVar("L", bound=Life)


class Engine(Protocol[N, L]):
    """What an engine does. Errors are OsctlErrors."""

    async def make_namespaces(self, spec: ContainerSpec, /) -> N: ...
    async def launch(self, spec: ContainerSpec, namespaces: N, /) -> L: ...
    async def abandon(self, namespaces: N, /) -> None: ...
    async def find(self, container: str, /) -> L | None: ...
    async def shut_down(self, life: L, /, *, timeout_seconds: float, method: StopMethod) -> None: ...
    async def wait_ended(self, life: L, /) -> End: ...
    async def execute(
        self,
        life: L,
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
    def usage(self, life: L, /) -> Usage: ...


# --- without the engine's own types --------------------------------------------------------------------------------


class RunningLife(Life, Protocol):
    """A running container, and what can be done with it."""

    async def shut_down(self, *, timeout_seconds: float, method: StopMethod) -> None: ...
    async def wait_ended(self) -> End: ...
    async def execute(
        self,
        command: Sequence[str],
        /,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal_type: str,
        signals: SignalSource,
    ) -> int: ...
    def usage(self) -> Usage: ...


class Prepared(FreshNamespaces, Protocol):
    """Namespaces in which a container is to be launched, or that are released."""

    async def launch(self) -> RunningLife: ...
    async def abandon(self) -> None: ...


class Runtime(Protocol):
    """The engine, as the daemon uses it."""

    async def prepare(self, spec: ContainerSpec, /) -> Prepared: ...
    async def find(self, container: str, /) -> RunningLife | None: ...
    async def end_orphans(self) -> None: ...
    async def collect(self, container: str, /) -> None: ...
    async def forget(self, container: str, /) -> None: ...
    def reboot_was_asked(self, container: str, /) -> bool: ...


def bind(engine: Engine[N, L]) -> Runtime:
    """The engine, with each of its lives and namespaces."""
    return _Runtime(engine)


class _Runtime(Generic[N, L]):
    def __init__(self, engine: Engine[N, L]) -> None:
        self._engine = engine
        self.end_orphans = engine.end_orphans
        self.collect = engine.collect
        self.forget = engine.forget
        self.reboot_was_asked = engine.reboot_was_asked

    async def prepare(self, spec: ContainerSpec, /) -> Prepared:
        return _Prepared(self._engine, spec, await self._engine.make_namespaces(spec))

    async def find(self, container: str, /) -> RunningLife | None:
        life = await self._engine.find(container)
        return _RunningLife(self._engine, life) if life is not None else None


class _Prepared(Generic[N, L]):
    def __init__(self, engine: Engine[N, L], spec: ContainerSpec, namespaces: N) -> None:
        self._engine = engine
        self._spec = spec
        self._namespaces = namespaces

    @property
    def pid(self) -> int:
        return self._namespaces.pid

    async def launch(self) -> RunningLife:
        return _RunningLife(self._engine, await self._engine.launch(self._spec, self._namespaces))

    async def abandon(self) -> None:
        await self._engine.abandon(self._namespaces)


class _RunningLife(Generic[N, L]):
    def __init__(self, engine: Engine[N, L], life: L) -> None:
        self._engine = engine
        self._life = life

    @property
    def init_pid(self) -> int:
        return self._life.init_pid

    @property
    def pidfd(self) -> int:
        return self._life.pidfd

    def close(self) -> None:
        self._life.close()

    async def shut_down(self, *, timeout_seconds: float, method: StopMethod) -> None:
        await self._engine.shut_down(self._life, timeout_seconds=timeout_seconds, method=method)

    async def wait_ended(self) -> End:
        return await self._engine.wait_ended(self._life)

    async def execute(
        self,
        command: Sequence[str],
        /,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal_type: str,
        signals: SignalSource,
    ) -> int:
        return await self._engine.execute(
            self._life, command, stdin=stdin, stdout=stdout, stderr=stderr, terminal_type=terminal_type, signals=signals
        )

    def usage(self) -> Usage:
        return self._engine.usage(self._life)
