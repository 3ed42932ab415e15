"""osctld itself, with containers that are bare network namespaces: hundreds of them in seconds, no LXC, no cgroups.

All but the engine and the root directories is the real program: daemon, store, client, kernel. To use it:

    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"])
        host.in_guest_network("web", "ip", "addr")     # also guest_ip_json, guest_state: they need no guest program

A life is one process that holds a network namespace and waits for a line in a pipe, `run_dir/bare/NAME.power`. It
outlives the daemon, and the next daemon finds it again, as with LXC. A guest powers off by `power_off`, reboots by
`reboot`, and ignores what it is asked after `hold`, all below. `ct exec` runs the host's programs in the container's
network. Not there: users, cgroups, mounts.
"""

from __future__ import annotations

if __name__ == "__main__":
    # The program's own start, which sees to its memory before anything else is loaded.
    import osctld.__main__  # noqa: F401 - for what it does

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osctld import service
from osctld.core.config.life import ContainerSpec, End, StopMethod
from osctld.core.errors import ApplyFailed
from osctld.shell.lxc.cgroups import Usage
from osctld.shell.process import pidfds
from osctld.shell.rootfs.roots import RootDirectories

#: What to give to `Topology(program=...)`.
BARE = (sys.executable, __file__)

# The outer process ends when it has told the id of the inner one, so that nobody has children to wait for. The path
# among the inner one's words tells whose it is; it sleeps in opening the pipe, until somebody opens the other end.
_HOLDER = 'ip link set lo up || exit 1; sh -c \'read -r _ <"$1"\' bare "$1" </dev/null >/dev/null 2>&1 & echo $!'


def power_off(run_dir: Path, container: str) -> None:
    """What a guest does that powers itself off."""
    with (run_dir / "bare" / f"{container}.power").open("w") as pipe:
        pipe.write("off\n")


def reboot(run_dir: Path, container: str) -> None:
    """What a guest does that reboots itself."""
    (run_dir / "bare" / f"{container}.reboot").touch()
    power_off(run_dir, container)


def hold(run_dir: Path, container: str) -> None:
    """Make a guest ignore that it is asked to power off, in all its lives."""
    (run_dir / "bare" / f"{container}.hold").touch()


class BareLife:
    """A running container. It owns a pidfd of the process that is the guest."""

    def __init__(self, container: str, init_pid: int, pidfd: int) -> None:
        self.container = container
        self.init_pid = init_pid
        self.pidfd = pidfd

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class BareNamespaces:
    """A container's namespace before the container is started: the same process, not called a life yet."""

    def __init__(self, container: str, pid: int) -> None:
        self.container = container
        self.pid = pid


class BareEngine:
    """The port `osctld.lifecycle.engine.Engine` with one sleeping process for a container."""

    def __init__(self, *, state_dir: Path, run_dir: Path, **_as_of_the_real_one: object) -> None:  # noqa: ARG002
        self._directory = run_dir / "bare"
        self._directory.mkdir(exist_ok=True)

    def _file(self, container: str, suffix: str) -> Path:
        """power: the pipe; fresh and life: the id of the process, before and after launch; reboot: a mark."""
        return self._directory / f"{container}.{suffix}"

    def names(self) -> list[str]:
        return sorted(each.stem for each in self._directory.glob("*.life"))

    async def make_namespaces(self, spec: ContainerSpec) -> BareNamespaces:
        await self.collect(spec.container)
        pipe = self._file(spec.container, "power")
        os.mkfifo(pipe, 0o600)
        holder = await asyncio.create_subprocess_exec(
            *("unshare", "--net", "sh", "-c", _HOLDER, "sh", str(pipe)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        told, _ = await holder.communicate()
        if holder.returncode != 0:
            raise ApplyFailed(f"no namespace was made for {spec.container}")
        self._file(spec.container, "fresh").write_text(told.decode())
        return BareNamespaces(spec.container, int(told))

    async def launch(self, spec: ContainerSpec, namespaces: BareNamespaces) -> BareLife:
        pidfd = pidfds.open_pidfd(namespaces.pid)
        if pidfd is None:
            raise ApplyFailed(f"{spec.container} ended at once")
        self._file(spec.container, "fresh").rename(self._file(spec.container, "life"))
        return BareLife(spec.container, namespaces.pid, pidfd)

    async def abandon(self, namespaces: BareNamespaces) -> None:
        await self.collect(namespaces.container)

    async def find(self, container: str) -> BareLife | None:
        held = self._held(container, "life")
        return BareLife(container, *held) if held is not None else None

    def _held(self, container: str, suffix: str) -> tuple[int, int] | None:
        """Process id and pidfd of the container's process, if that is what has the id that was written down."""
        try:
            pid = int(self._file(container, suffix).read_text())
        except (FileNotFoundError, ValueError):
            return None
        pidfd = pidfds.open_pidfd(pid)
        if pidfd is None:
            return None
        with contextlib.suppress(OSError):
            is_ours = os.fsencode(self._file(container, "power")) in Path(f"/proc/{pid}/cmdline").read_bytes()
            if is_ours and not pidfds.has_ended(pidfd):
                return pid, pidfd
        os.close(pidfd)
        return None

    async def shut_down(self, life: BareLife, *, timeout_seconds: float, method: StopMethod) -> None:
        if method is not StopMethod.KILL and self._file(life.container, "hold").exists():
            await pidfds.wait_ended(life.pidfd, timeout_seconds=timeout_seconds)
        pidfds.send_signal(life.pidfd, signal.SIGKILL)
        await pidfds.wait_ended(life.pidfd, timeout_seconds=None)

    async def wait_ended(self, life: BareLife) -> End:
        await pidfds.wait_ended(life.pidfd, timeout_seconds=None)
        return End.REBOOT if self.reboot_was_asked(life.container) else End.STOPPED

    def reboot_was_asked(self, container: str) -> bool:
        try:
            self._file(container, "reboot").unlink()
        except FileNotFoundError:
            return False
        return True

    async def execute(
        self, life: BareLife, command: Sequence[str], *, stdin: int, stdout: int, stderr: int, **_: Any
    ) -> int:
        """Without a terminal of its own, and without signals."""
        program = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/proc/{life.init_pid}/ns/net", *command), stdin=stdin, stdout=stdout, stderr=stderr
        )
        return await program.wait()

    async def end_orphans(self) -> None:
        """A program that outlived its daemon goes on: none of ours lasts."""

    async def collect(self, container: str) -> None:
        for suffix in ("fresh", "life"):
            held = self._held(container, suffix)
            if held is not None:
                await pidfds.end_all([held[1]], patience_seconds=0)
        for suffix in ("fresh", "life", "power"):
            self._file(container, suffix).unlink(missing_ok=True)

    async def forget(self, container: str) -> None:
        await self.collect(container)
        self._file(container, "reboot").unlink(missing_ok=True)

    def about(self) -> dict[str, Any]:
        return {}

    def usage(self, life: BareLife) -> Usage:  # noqa: ARG002 - nothing is counted
        return Usage(memory_bytes=None, cpu_nanoseconds=None)


class BareRootDirectories(RootDirectories):
    """Root directories with nothing in them: no guest program is ever run."""

    async def fill(self, root: Path, *, archive: int | None) -> None:  # noqa: ARG002 - nothing to unpack
        root.mkdir()


if __name__ == "__main__":
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    sys.exit(service.main())
