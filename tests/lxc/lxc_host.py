"""A host for tests with real containers: namespaces, traces, and what to do with guests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from osctld.core.config.life import ContainerSpec, IdMap, StopMethod
from osctld.shell.lxc import cgroups, monitor_socket
from osctld.shell.lxc.engine import Life, LxcEngine
from patience import Patience

Busybox = Callable[..., Awaitable[ContainerSpec]]

CLONE_NEWNET = 0x40000000
OFFSET = 666000

libc = ctypes.CDLL(None, use_errno=True)


def in_own_network_namespace(action: Callable[[], Any]) -> None:
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            if libc.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            action()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome:
        raise outcome[0]


class Traces:
    """What containers below a directory have left on this host: processes, mounts, cgroups, descriptors, files."""

    def __init__(self, base: Path) -> None:
        self._hash = f"{monitor_socket.fnv64a(os.fsencode(base / 'run')):016x}"
        self._marks = (os.fsencode(base), self._hash.encode())
        self._tags = {
            f"{monitor_socket.fnv64a(os.fsencode(path)):016x}"[:8]
            for path in (base / "run/lxc", Path("/run/osctl-lxc") / self._hash)
        }
        self._base = base

    def processes(self) -> set[str]:
        found = set()
        for entry in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                about = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                ours = any(mark in words for mark in self._marks) or int(about[1]) == os.getpid()
                if ours and about[0] not in "ZX" and int(entry) != os.getpid():
                    found.add(f"{entry} {words!r}")
        return found

    def mounts(self) -> list[bytes]:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        return [line for line in lines if any(mark in line for mark in self._marks)]

    def cgroups(self) -> set[str]:
        found = set()
        for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            if top.is_dir():
                found |= {str(path) for path in top.glob("lxc*") if any(tag in path.name for tag in self._tags)}
        return found

    def files(self) -> set[str]:
        return {
            str(path)
            for top in (self._base / "run/lxc", Path("/run/osctl-lxc") / self._hash)
            for path in top.rglob("*")
        }

    def sweep(self) -> None:
        """End and remove all of it: what a failed test has left."""
        patience = Patience(10)
        while left := {int(line.split()[0]) for line in self.processes()} | cgroups.members(self.cgroups()):
            assert not patience.is_over, f"processes that cannot be ended: {left}"
            cgroups.thaw(self.cgroups())
            for pid in left - {os.getpid()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for line in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", line.split()[4]], check=False, capture_output=True)
        while cgroups.remove(self.cgroups()):  # of a zombie that nobody has reaped yet
            assert not patience.is_over, f"cgroups that cannot be removed: {self.cgroups()}"
            time.sleep(0.01)
        shutil.rmtree(Path("/run/osctl-lxc") / self._hash, ignore_errors=True)

    def all(self) -> dict[str, Any]:
        return {
            "processes": self.processes(),
            "mounts": self.mounts(),
            "cgroups": self.cgroups(),
            "files": self.files(),
        }


def open_descriptors() -> dict[str, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[entry] = os.readlink(f"/proc/self/fd/{entry}")
    return found


def make_engine(base: Path) -> LxcEngine:
    return LxcEngine(state_dir=base / "state", run_dir=base / "run")


def make_spec(
    base: Path, name: str = "web", *, root: Path | None = None, offset: int = OFFSET, has_nesting: bool = False
) -> ContainerSpec:
    return ContainerSpec(
        container=name,
        root_directory=str(root or base / name),
        id_map=IdMap(offset=offset),
        hostname=name,
        has_nesting=has_nesting,
    )


async def start(engine: LxcEngine, spec: ContainerSpec) -> Life:
    return await engine.launch(spec, await engine.make_namespaces(spec))


async def output_of(engine: LxcEngine, life: Life, *command: str, stdin: bytes | None = None) -> str:
    """Run a command in a guest and return what it prints; it has to succeed."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(stdin or b"")
        source.seek(0)
        status = await engine.execute(life, command, stdin=source.fileno(), stdout=sink.fileno(), stderr=sink.fileno())
        sink.seek(0)
        output = sink.read().decode()
    assert status == 0, output
    return output


async def until(condition: Callable[[], Any], *, seconds: float = 20) -> Any:
    """Wait until a condition holds that no descriptor tells of."""
    patience = Patience(seconds)
    while not (value := condition()):
        assert not patience.is_over, f"still not after {seconds} s"
        await asyncio.sleep(0.01)
    return value


def ip(*words: str, pid: int | None = None) -> str:
    """iproute2, in the network namespace of the test, or of a process."""
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    return subprocess.run([*enter, "ip", *words], check=True, capture_output=True, text=True).stdout


async def end(engine: LxcEngine, life: Life) -> None:
    await engine.shut_down(life, timeout_seconds=0, method=StopMethod.KILL)
    life.close()


async def run_and_ignore(engine: LxcEngine, life: Life, command: str) -> None:
    """Run a shell command that may end the guest before it has an exit status."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        await engine.execute(life, ["sh", "-c", command], stdin=null, stdout=null, stderr=null)
    finally:
        os.close(null)
