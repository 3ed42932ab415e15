"""The LXC engine: gives a container its life, ends it, and finds it again.

`lxc-start` and `lxc-attach` are executed; all else is asked of the monitor's command socket, awaited on pidfds, and
read from /proc and the cgroups. A life goes

    make_namespaces -> (the caller prepares the network) -> launch -> execute, usage ... -> shut_down -> wait_ended

and whatever fails or is cancelled on the way leaves neither process nor mount nor cgroup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osctld.core.config.life import ContainerSpec, End, SignalSource, StopMethod
from osctld.shell.lxc import adoption, attach, cgroups, leftovers, start
from osctld.shell.lxc import end as lxc_end
from osctld.shell.lxc.cgroups import Usage
from osctld.shell.lxc.life import Life
from osctld.shell.lxc.places import Places
from osctld.shell.process import subprocesses
from osctld.shell.process.namespace_holder import Namespaces

#: What is reported of cgroups: the controllers that count the resources of a container.
_CONTROLLERS = ("cpu", "cpuacct", "memory", "blkio", "pids")

_PROGRAMS = ("lxc-start", "lxc-attach")

__all__ = ["Life", "LxcEngine", "Namespaces", "Usage"]


class LxcEngine:
    """Containers of one daemon; `Places` says where it keeps its files."""

    def __init__(self, *, state_dir: Path, run_dir: Path, requires_apparmor: bool = True) -> None:
        """Raises Unavailable when LXC is not installed, OSError when a directory cannot be made."""
        for program in _PROGRAMS:
            subprocesses.require(program)
        self._places = Places(state_dir=state_dir, run_dir=run_dir, requires_apparmor=requires_apparmor)
        self._current: dict[str, Life] = {}
        self._quickening: asyncio.Future[None] | None = None

    def about(self) -> dict[str, Any]:
        """Where things of containers are, for those who look at them beside us.

        `cgroup_prefix` and a container's name make its cgroup, relative to each of `cgroup_directories`.
        """
        places = self._places
        base = max(places.bases, key=len).strip("/")
        return {
            "lxc_path": places.lxc_path,
            "cgroup_prefix": f"{base}/{places.cgroups_of('').payload}".lstrip("/"),
            "cgroup_directories": cgroups.directories_of(_CONTROLLERS, trees=places.trees),
        }

    def names(self) -> tuple[str, ...]:
        """All containers that have a life, or are being given one, whoever began it."""
        return self._places.containers()

    async def make_namespaces(self, spec: ContainerSpec) -> Namespaces:
        """Make the container's user and network namespaces, loopback up, after collecting what an old life left.

        All that can be prepared without the network is prepared meanwhile. Raises Refused when the container runs,
        ApplyFailed or Unavailable with the reason otherwise; nothing is left then.
        """
        self._quicken()
        await self.collect(spec.container)
        self._current.pop(spec.container, None)
        self.reboot_was_asked(spec.container)  # an old marker says nothing of the life to come
        return await start.make_namespaces(self._places, spec)

    def _quicken(self) -> None:
        if self._quickening is None or self._quickening.done():
            loop = asyncio.get_running_loop()
            self._quickening = loop.run_in_executor(None, cgroups.make_moves_quick)

    async def abandon(self, namespaces: Namespaces) -> None:
        """Give up between make_namespaces and launch: nothing is left."""
        await start.abandon(self._places, namespaces)

    async def launch(self, spec: ContainerSpec, namespaces: Namespaces) -> Life:
        """Start the container in namespaces that the caller has prepared, and let their holder go.

        Raises ApplyFailed or Unavailable with the reason, quoting LXC's log; nothing is left then.
        """
        life = await start.launch(self._places, spec, namespaces)
        self._current[life.container] = life
        return life

    async def find(self, container: str) -> Life | None:
        """Take hold of a container that was started before, by this daemon or the one before it; None: not running.

        A start that was under way when its daemon died is waited for, and ended when it takes too long; so is a
        container in a state that no start of ours leaves behind.
        """
        life = await adoption.find(self._places, container)
        if life is not None:
            self._current[container] = life
        return life

    async def execute(
        self,
        life: Life,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        environment: Mapping[str, str] | None = None,
        terminal_type: str = "",
        signals: SignalSource | None = None,
    ) -> int:
        """Run a command in the container on the given descriptors; return its exit status, 128+N for signal N.

        The descriptors stay the caller's and keep their flags. 127: no such command; 126: it cannot be executed.
        `terminal_type` is TERM of the caller, `signals` are signals for the command. A cancellation ends the command,
        too. Raises Refused or Unavailable.
        """
        return await attach.execute(
            self._places, life, command, descriptors=(stdin, stdout, stderr), environment=environment or {},
            terminal_type=terminal_type, signals=signals,
        )  # fmt: skip

    async def end_orphans(self) -> None:
        """End the commands inside containers whose daemon has died. To be called before the first `execute`."""
        await attach.end_orphans(self._places)

    def usage(self, life: Life) -> Usage:
        """Return the memory and processor time that the container's processes use."""
        return cgroups.usage(life.cgroup, trees=self._places.trees)

    async def shut_down(self, life: Life, *, timeout_seconds: float, method: StopMethod) -> None:
        """End a life and return when it has completely ended.

        Raises Unavailable when the guest has not powered off in time and must not be killed, ApplyFailed when not
        even killing helps.
        """
        await lxc_end.end_init(self._places, life, timeout_seconds=timeout_seconds, method=method)
        await self.wait_ended(life)

    async def wait_ended(self, life: Life) -> End:
        """Wait until a life has completely ended: a new start may follow at once.

        REBOOT if the guest requested a restart. Any number of tasks may wait.
        """
        if life.ending is None:
            life.ending = asyncio.ensure_future(self._end_of(life))
        return await asyncio.shield(life.ending)

    async def _end_of(self, life: Life) -> End:
        await lxc_end.wait_completely(life)
        end = End.REBOOT if self.reboot_was_asked(life.container) else End.STOPPED
        if self._current.get(life.container) is life:
            del self._current[life.container]
            await leftovers.sweep(self._places, life.container, patience_seconds=1)
        return end

    def reboot_was_asked(self, container: str) -> bool:
        """Tell whether the guest asked for a reboot when it ended, once: the marker is consumed."""
        return self._places.take_reboot_marker(container)

    async def collect(self, container: str) -> None:
        """Remove all that a dead life has left: processes, cgroups, mounts, files. The reboot marker stays.

        Raises Refused when the container runs.
        """
        await leftovers.collect(self._places, container)

    async def forget(self, container: str) -> None:
        """Remove what is kept of a container while it is stopped; it has been deleted. Raises Refused if it is
        running."""
        await self.collect(container)
        await asyncio.to_thread(self._places.forget, container)


def is_installed() -> bool:
    """Tell whether LXC's programs are on this host."""
    return all(map(subprocesses.is_installed, _PROGRAMS))
