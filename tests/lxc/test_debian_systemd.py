"""A Debian guest with systemd: boots, reboots from inside, powers off.

The image is built once with mmdebstrap, which needs a mirror, and kept below OSCTL_TEST_CACHE (.cache/images).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lxc.lxc_host import OFFSET, end, ip, make_engine, make_spec, output_of, run_and_ignore, start
from osctld.core.life import End, StopMethod
from osctld.shell.lxc import Life, LxcEngine
from osctld.shell.rootfs_archive import extract_archive

IMAGE = "debian-bookworm-systemd.tar.zst"
BUILD_SECONDS = 600


@pytest.fixture(scope="session")
def image() -> Path:
    if shutil.which("mmdebstrap") is None or shutil.which("zstd") is None:
        pytest.skip("mmdebstrap and zstd are needed to build a Debian image")
    cache = Path(os.environ.get("OSCTL_TEST_CACHE") or Path(__file__).parents[2] / ".cache/images")
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / IMAGE
    if not path.exists():
        unfinished = cache / f"unfinished-{os.getpid()}-{IMAGE}"
        try:
            built = subprocess.run(
                ["mmdebstrap", "--variant=minbase", "--include=systemd-sysv,dbus", "bookworm", unfinished],
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
    assert await booted(engine, life) in ("running", "degraded")
    failed = await output_of(engine, life, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert {line.split()[0] for line in failed.splitlines()} <= {"sys-kernel-debug.mount"}
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
    assert await booted(engine, life) in ("running", "degraded")
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
