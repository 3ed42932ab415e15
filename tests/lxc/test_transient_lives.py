"""Lives without the guest's own init: they are held for commands alone, and leave nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from lxc.lxc_host import Busybox, Traces, end, make_engine, output_of, start
from osctld.core.config.life import ContainerSpec
from osctld.shell.lxc.engine import LxcEngine


def without_init(spec: ContainerSpec) -> ContainerSpec:
    return msgspec.structs.replace(spec, runs_init=False)


def contents(root: str) -> dict[str, tuple[int, int, str]]:
    """All files below a directory: mode, owner, and what they hold or where they lead."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            about = path.lstat()
            if path.is_symlink():
                held = str(path.readlink())
            else:
                held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (about.st_mode, about.st_uid, held)
    return found


async def test_a_command_runs_although_the_guest_s_init_does_not(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox(boot="touch /booted\n")
    life = await start(engine, without_init(spec))

    shown = await output_of(engine, life, "sh", "-c", "hostname; id -u; xargs -0 </proc/1/cmdline; ls /sys/class/net")

    assert shown.split() == ["web", "0", "/dev/busybox.osctl", "sleep", "2147483647", "lo"]
    assert not Path(spec.root_directory, "booted").exists()
    await end(engine, life)


async def test_such_a_life_leaves_nothing_in_the_root_directory(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    before = contents(spec.root_directory)

    life = await start(engine, without_init(msgspec.structs.replace(spec, hostname="other")))
    assert await output_of(engine, life, "true") == ""
    await end(engine, life)

    assert contents(spec.root_directory) == before


async def test_a_guest_that_cannot_boot_is_entered_and_repaired(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    init = Path(spec.root_directory, "sbin/init")
    init.unlink()
    life = await start(engine, without_init(spec))

    await output_of(engine, life, "ln", "-s", "/bin/busybox", "/sbin/init")

    await end(engine, life)
    life = await start(engine, spec)
    assert "init" in await output_of(engine, life, "cat", "/proc/1/comm")
    await end(engine, life)


async def test_the_next_daemon_ends_such_a_life_and_finds_the_container_stopped(
    engine: LxcEngine, busybox: Busybox, base: Path, traces: Traces
) -> None:
    spec = without_init(await busybox())
    before = traces.all()
    life = await start(engine, spec)
    life.close()

    assert await make_engine(base).find("web") is None

    await engine.collect("web")
    assert traces.all() == before
    life = await start(engine, msgspec.structs.replace(spec, runs_init=True))
    again = await make_engine(base).find("web")
    assert again is not None
    again.close()
    await end(engine, life)
