"""How long a container takes to start: the engine's way against `lxc-start` by itself.

    python3 bench/container_start.py [ROUNDS]

Both start the same busybox guest, in turns: the engine with user and network namespaces made beforehand and its own
id-mapped mount, until it holds a pidfd of a running init; and `lxc-start --daemon` of the same configuration with LXC's
own id-mapped mount and without network, until it returns. Prints medians in ms and the ratio as one JSON object.
Needs root, LXC and a static busybox; works in a network namespace of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from osctld.core.config.life import ContainerSpec, IdMap, StopMethod
from osctld.shell.lxc import cgroups
from osctld.shell.lxc.engine import LxcEngine
from osctld.shell.rootfs.busybox import build_busybox

CLONE_NEWNET = 0x40000000
OFFSET = 666000
PAUSE_SECONDS = 0.2

PLAIN = """\
lxc.uts.name = plain
lxc.rootfs.path = dir:{root}
lxc.rootfs.options = idmap=container
lxc.idmap = u 0 666000 65536
lxc.idmap = g 0 666000 65536
lxc.autodev = 1
lxc.tty.max = 0
lxc.pty.max = 1024
lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed
lxc.net.0.type = empty
lxc.cgroup.dir.monitor = lxc.monitor.bench.plain
lxc.cgroup.dir.monitor.pivot = lxc.pivot.bench.plain
lxc.cgroup.dir.container = lxc.payload.bench.plain
"""


class Plain:
    """`lxc-start` as one would type it. The programs of uidmap are kept from it: they want /etc/subuid."""

    def __init__(self, base: Path) -> None:
        self._options = ["-P", str(base / "plain"), "-n", "plain"]
        directory = base / "plain/plain"
        directory.mkdir(parents=True)
        (directory / "config").write_text(PLAIN.format(root=base / "root"))
        self._environment = {"PATH": str(base / "programs"), "LANG": "C.UTF-8"}
        (base / "programs").mkdir()
        for program in ("lxc-start", "lxc-stop", "lxc-wait"):
            found = shutil.which(program)
            if found is None:
                sys.exit(f"error: {program} is missing; install lxc")
            (base / "programs" / program).symlink_to(found)

    def start(self) -> float:
        before = time.perf_counter()
        subprocess.run(
            [str(Path(self._environment["PATH"], "lxc-start")), *self._options, "--daemon"],
            env=self._environment, stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        return time.perf_counter() - before

    def stop(self) -> None:
        subprocess.run(
            [str(Path(self._environment["PATH"], "lxc-stop")), *self._options, "-k"],
            env=self._environment, stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while cgroups.remove(_cgroups()) and time.monotonic() < deadline:
            time.sleep(0.005)


def _cgroups() -> list[str]:
    return [str(path) for top in Path("/sys/fs/cgroup").glob("*/") for path in top.glob("lxc.*.bench.plain")]


async def measure(rounds: int) -> dict[str, float]:
    base = Path(tempfile.mkdtemp(prefix="osctl-bench-"))
    base.chmod(0o711)
    try:
        await build_busybox(base / "root")
        engine = LxcEngine(state_dir=base / "state", run_dir=base / "run")
        spec = ContainerSpec(
            container="ours", root_directory=str(base / "root"), id_map=IdMap(offset=OFFSET), hostname="ours"
        )
        plain = Plain(base)
        ours: list[float] = []
        made: list[float] = []
        theirs: list[float] = []

        async def start_ours() -> None:
            before = time.perf_counter()
            namespaces = await engine.make_namespaces(spec)
            made.append(time.perf_counter() - before)
            life = await engine.launch(spec, namespaces)
            ours.append(time.perf_counter() - before)
            await engine.shut_down(life, timeout_seconds=0, method=StopMethod.KILL)
            life.close()

        async def start_theirs() -> None:
            theirs.append(await asyncio.to_thread(plain.start))
            await asyncio.to_thread(plain.stop)

        # Moving a process between cgroups is quick soon after another move and slow after a pause (the kernel waits
        # for a grace period): the same pause before each, and turns in going first.
        for turn in range(rounds + 2):
            for start in (start_ours, start_theirs) if turn % 2 else (start_theirs, start_ours):
                await asyncio.sleep(PAUSE_SECONDS)
                await start()
        # The first two rounds fill caches.
        engine_ms, made_ms, plain_ms = (statistics.median(times[2:]) * 1000 for times in (ours, made, theirs))
        return {
            "rounds": rounds,
            "engine_ms": round(engine_ms, 2),
            "of_which_namespaces_ms": round(made_ms, 2),
            "plain_lxc_start_ms": round(plain_ms, 2),
            "ratio": round(engine_ms / plain_ms, 3),
        }
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 31
    if os.geteuid() != 0:
        sys.exit("error: containers are started by root")
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        sys.exit("error: no network namespace can be made")
    print(json.dumps(asyncio.run(measure(rounds))))


if __name__ == "__main__":
    main()
