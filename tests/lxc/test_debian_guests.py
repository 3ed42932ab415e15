"""Debian guests with systemd, sysvinit and OpenRC: boot, reboot from inside, power off.

The images are built once with mmdebstrap, which needs a mirror, and kept below OSCTL_TEST_CACHE (.cache/images).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from lxc.lxc_host import OFFSET, end, ip, make_engine, make_spec, output_of, run_and_ignore, start
from osctld.core.config.life import End, StopMethod
from osctld.shell.lxc.engine import Life, LxcEngine
from osctld.shell.rootfs.archive import extract_archive

BUILD_SECONDS = 600


@pytest.fixture(scope="session")
def image() -> Path:
    return image_with("systemd", "systemd-sysv,dbus")


class OtherInit(NamedTuple):
    """A Debian guest whose first process is not systemd, and what is said of one that has booted."""

    name: str
    packages: str
    asked: str
    says: str


OTHERS = (
    OtherInit("sysvinit", "sysvinit-core", "runlevel", "N 2"),
    OtherInit("openrc", "sysvinit-core,openrc", "rc-status --runlevel", "default"),
)


@pytest.fixture(scope="session", params=OTHERS, ids=[each.name for each in OTHERS])
def other_init(request: pytest.FixtureRequest) -> tuple[OtherInit, Path]:
    kind: OtherInit = request.param
    return kind, image_with(kind.name, kind.packages)


def image_with(init: str, packages: str) -> Path:
    name = f"debian-bookworm-{init}.tar.zst"
    if shutil.which("mmdebstrap") is None or shutil.which("zstd") is None:
        pytest.skip("mmdebstrap and zstd are needed to build a Debian image")
    cache = Path(os.environ.get("OSCTL_TEST_CACHE") or Path(__file__).parents[2] / ".cache/images")
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / name
    if not path.exists():
        unfinished = cache / f"unfinished-{os.getpid()}-{name}"
        try:
            built = subprocess.run(
                ["mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", unfinished],
                timeout=BUILD_SECONDS, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert built.returncode == 0, built.stderr[-2000:]
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


async def booted(engine: LxcEngine, life: Life) -> str:
    """Wait until systemd has started all that it wants, and return in what state it is."""
    async with asyncio.timeout(60):
        while True:
            state = await output_of(
                engine, life, "sh", "-c", "systemctl is-system-running --wait 2>&1; systemctl is-system-running; true"
            )
            last = state.split()[-1] if state.split() else ""
            if last in ("running", "degraded"):
                return last
            await asyncio.sleep(0.05)  # systemd does not listen yet


@pytest.mark.time_limit(BUILD_SECONDS + 120)
async def test_debian_with_systemd_boots_reboots_and_powers_off(image: Path, base: Path) -> None:
    engine = make_engine(base)
    spec = make_spec(base, "deb")
    with image.open("rb") as archive:
        await extract_archive(archive.fileno(), spec.root_directory)

    life = await start(engine, spec)
    state = await booted(engine, life)
    failed = await output_of(engine, life, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert (state, failed) == ("running", "")
    assert await output_of(engine, life, "hostname") == "deb\n"
    assert await output_of(engine, life, "sh", "-c", "touch /made; stat -c %u /made /etc/passwd") == "0\n0\n"
    assert os.stat(f"/proc/{life.init_pid}").st_uid == OFFSET
    assert await output_of(engine, life, "systemd-detect-virt") == "lxc\n"
    usage = engine.usage(life)
    assert usage.memory_bytes

    await run_and_ignore(engine, life, "systemctl reboot")
    assert await asyncio.wait_for(engine.wait_ended(life), 30) is End.REBOOT
    life.close()

    namespaces = await engine.make_namespaces(spec)
    ip("link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", str(namespaces.pid))
    ip("addr", "add", "10.0.0.2/30", "dev", "eth0", pid=namespaces.pid)
    ip("link", "set", "eth0", "up", pid=namespaces.pid)
    life = await engine.launch(spec, namespaces)
    assert await booted(engine, life) == "running"
    assert await output_of(engine, life, "sh", "-c", "echo $(cat /made) >/again; stat -c %u /again") == "0\n"
    assert "10.0.0.2" in ip("addr", pid=life.init_pid)
    assert "eth0" in await output_of(engine, life, "ls", "/sys/class/net")

    adopted = await make_engine(base).find("deb")
    assert adopted is not None
    adopted.close()

    await run_and_ignore(engine, life, "systemctl poweroff")
    assert await asyncio.wait_for(engine.wait_ended(life), 30) is End.STOPPED
    life.close()

    life = await start(engine, spec)  # and at once asked to stop, long before it has booted
    await engine.shut_down(life, timeout_seconds=30, method=StopMethod.SHUTDOWN_OR_FAIL)
    assert await engine.wait_ended(life) is End.STOPPED
    life.close()

    life = await start(engine, spec)
    await booted(engine, life)
    await engine.shut_down(life, timeout_seconds=30, method=StopMethod.SHUTDOWN_OR_FAIL)
    life.close()
    await end(engine, await start(engine, spec))


#: A line of inittab, and what it runs: a program that is asked to end when the guest goes down, and notes that it was.
WITNESS_LINE = "w1:2:once:/bin/sh /witness\n"
WITNESS = "trap 'echo clean >>/ended; exit' TERM\nwhile :; do sleep 0.1; done\n"


@pytest.mark.time_limit(BUILD_SECONDS + 240)
async def test_debian_with_another_init_boots_reboots_and_powers_off(
    base: Path, other_init: tuple[OtherInit, Path]
) -> None:
    kind, archive = other_init
    engine = make_engine(base)
    spec = make_spec(base, "deb")
    with archive.open("rb") as file:
        await extract_archive(file.fileno(), spec.root_directory)
    root = Path(spec.root_directory)
    root.joinpath("witness").write_text(WITNESS)
    with root.joinpath("etc/inittab").open("a") as inittab:
        inittab.write(WITNESS_LINE)

    life = await start(engine, spec)
    await booted_with(kind, engine, life)
    await run_and_ignore(engine, life, "reboot")
    assert await asyncio.wait_for(engine.wait_ended(life), 60) is End.REBOOT
    life.close()
    assert root.joinpath("ended").read_text() == "clean\n"

    life = await start(engine, spec)
    await booted_with(kind, engine, life)
    await engine.shut_down(life, timeout_seconds=60, method=StopMethod.SHUTDOWN_OR_FAIL)
    assert await engine.wait_ended(life) is End.STOPPED
    life.close()
    assert root.joinpath("ended").read_text() == "clean\nclean\n"


async def booted_with(kind: OtherInit, engine: LxcEngine, life: Life) -> None:
    async with asyncio.timeout(60):
        for command, says in ((f"{kind.asked} 2>&1", kind.says), ("cat /proc/[0-9]*/cmdline", "/witness")):
            while says not in await output_of(engine, life, "sh", "-c", f"{command}; true"):  # noqa: ASYNC110 - untold
                await asyncio.sleep(0.1)
