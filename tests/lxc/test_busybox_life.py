"""A busybox guest from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest

from lxc.lxc_host import (
    OFFSET,
    Busybox,
    Traces,
    end,
    ip,
    make_engine,
    make_spec,
    output_of,
    run_and_ignore,
    start,
    until,
)
from osctld.core.config.life import End, StopMethod
from osctld.core.errors import Refused, Unavailable
from osctld.shell.lxc import cgroups
from osctld.shell.lxc.engine import LxcEngine
from osctld.shell.process import pidfds
from osctld.shell.rootfs.busybox import build_busybox


async def test_the_first_process_of_the_guest_sees_the_network_that_was_prepared(
    engine: LxcEngine, busybox: Busybox
) -> None:
    spec = await busybox(boot="ip addr > /root/seen\nping -c1 -W1 10.0.0.1 > /root/pinged 2>&1\n")
    namespaces = await engine.make_namespaces(spec)
    ip("link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", str(namespaces.pid))
    ip("addr", "add", "10.0.0.1/30", "dev", "v0")
    ip("link", "set", "v0", "up")
    ip("addr", "add", "10.0.0.2/30", "dev", "eth0", pid=namespaces.pid)
    ip("link", "set", "eth0", "up", pid=namespaces.pid)

    life = await engine.launch(spec, namespaces)
    pinged = Path(spec.root_directory, "root/pinged")
    await until(lambda: pinged.exists() and "packet loss" in pinged.read_text())

    seen = Path(spec.root_directory, "root/seen").read_text()
    assert "10.0.0.2/30" in seen
    assert "LOOPBACK,UP" in seen
    assert " 0% packet loss" in pinged.read_text()
    await end(engine, life)


async def test_a_guest_is_unprivileged_and_its_files_stay_owned_by_0(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    life = await start(engine, spec)

    shown = await output_of(engine, life, "sh", "-c", "id -u; touch /made; stat -c %u /made; cat /proc/self/uid_map")

    assert shown.split() == ["0", "0", "0", str(OFFSET), "65536"]
    assert os.stat(f"/proc/{life.init_pid}").st_uid == OFFSET
    assert Path(spec.root_directory, "made").stat().st_uid == 0
    root_mount = (await output_of(engine, life, "cat", "/proc/self/mountinfo")).splitlines()[0].split()
    assert {"idmapped", "nodev"} <= set(root_mount[5].split(","))
    assert "nosuid" not in root_mount[5]
    assert "666000" not in (await output_of(engine, life, "ls", "-ln", "/proc/net/"))
    await end(engine, life)


async def test_a_guest_has_its_name(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    life = await start(engine, spec)

    assert await output_of(engine, life, "hostname") == "web\n"
    assert await output_of(engine, life, "cat", "/etc/hostname") == "web\n"
    assert "127.0.1.1\tweb\n" in await output_of(engine, life, "cat", "/etc/hosts")
    await end(engine, life)


@pytest.mark.parametrize("method", StopMethod)
async def test_a_stopped_guest_leaves_nothing_and_starts_again_at_once(
    engine: LxcEngine, busybox: Busybox, traces: Traces, method: StopMethod
) -> None:
    spec = await busybox()

    for _ in range(3):
        life = await start(engine, spec)
        assert traces.cgroups()
        await engine.shut_down(life, timeout_seconds=20, method=method)

        assert await engine.wait_ended(life) is End.STOPPED
        assert await engine.find("web") is None
        assert not any(traces.all().values())
        life.close()


async def test_a_guest_that_does_not_power_off_is_left_running_or_killed_as_asked(
    engine: LxcEngine, busybox: Busybox
) -> None:
    spec = await busybox()
    for name in ("poweroff", "init"):
        Path(spec.root_directory, "sbin", name).unlink()
    deaf = Path(spec.root_directory, "sbin/init")
    deaf.write_text("#!/bin/sh\ntrap '' TERM USR1 USR2 PWR INT\nwhile :; do sleep 1000; done\n")
    deaf.chmod(0o755)
    life = await start(engine, spec)

    with pytest.raises(Unavailable, match=r"'web': did not power off within 0\.3 s"):
        await engine.shut_down(life, timeout_seconds=0.3, method=StopMethod.SHUTDOWN_OR_FAIL)
    assert not life.is_over

    await engine.shut_down(life, timeout_seconds=0.1, method=StopMethod.SHUTDOWN_OR_KILL)
    assert life.is_over
    life.close()


@pytest.mark.parametrize("command", ["poweroff", "halt", "poweroff -f", "kill -USR2 1"])
async def test_a_poweroff_from_inside_is_an_end(engine: LxcEngine, busybox: Busybox, command: str) -> None:
    life = await start(engine, await busybox())

    await run_and_ignore(engine, life, command)

    assert await asyncio.wait_for(engine.wait_ended(life), 20) is End.STOPPED
    life.close()


@pytest.mark.parametrize("command", ["reboot", "reboot -f", "kill -TERM 1", "busybox reboot"])
async def test_a_reboot_from_inside_ends_the_life_and_a_new_one_may_start_at_once(
    engine: LxcEngine, busybox: Busybox, command: str
) -> None:
    spec = await busybox()
    life = await start(engine, spec)

    await run_and_ignore(engine, life, command)

    assert await asyncio.wait_for(engine.wait_ended(life), 20) is End.REBOOT
    assert not engine.reboot_was_asked("web")
    life.close()
    second = await start(engine, spec)
    assert await output_of(engine, second, "sh", "-c", "touch /x; stat -c %u /x") == "0\n"
    await end(engine, second)


async def test_a_guest_that_reboots_while_it_is_shut_down_ends_all_the_same(
    engine: LxcEngine, busybox: Busybox
) -> None:
    spec = await busybox()
    life = await start(engine, spec)

    await asyncio.gather(
        run_and_ignore(engine, life, "reboot"),
        engine.shut_down(life, timeout_seconds=20, method=StopMethod.SHUTDOWN_OR_FAIL),
    )

    assert life.is_over
    assert await engine.wait_ended(life) in (End.REBOOT, End.STOPPED)
    life.close()


async def test_a_killed_init_ends_the_life(engine: LxcEngine, busybox: Busybox, traces: Traces) -> None:
    life = await start(engine, await busybox())

    os.kill(life.init_pid, signal.SIGKILL)

    assert await asyncio.wait_for(engine.wait_ended(life), 20) is End.STOPPED
    assert not any(traces.all().values())
    life.close()


async def test_a_killed_monitor_takes_the_guest_along_and_what_it_leaves_is_collected(
    engine: LxcEngine, busybox: Busybox, traces: Traces
) -> None:
    spec = await busybox()
    life = await start(engine, spec)

    pidfds.send_signal(life.monitor_pidfd, signal.SIGKILL)

    assert await asyncio.wait_for(engine.wait_ended(life), 20) is End.STOPPED
    assert not any(traces.all().values())
    life.close()
    await end(engine, await start(engine, spec))


async def test_a_monitor_killed_while_no_daemon_runs_is_collected_by_the_next_start(
    base: Path, busybox: Busybox, traces: Traces
) -> None:
    spec = await busybox()
    life = await start(make_engine(base), spec)
    pidfds.send_signal(life.monitor_pidfd, signal.SIGKILL)
    await pidfds.wait_ended(life.pidfd, timeout_seconds=10)
    life.close()
    assert traces.cgroups()

    engine = make_engine(base)
    assert await engine.find("web") is None

    second = await start(engine, spec)
    assert await output_of(engine, second, "echo", "up") == "up\n"
    await end(engine, second)


async def test_another_engine_adopts_a_running_guest(base: Path, busybox: Busybox) -> None:
    first = await start(make_engine(base), await busybox())
    engine = make_engine(base)

    life = await engine.find("web")

    assert life is not None
    assert (life.init_pid, life.cgroup) == (first.init_pid, first.cgroup)
    first.close()
    assert await output_of(engine, life, "hostname") == "web\n"
    await run_and_ignore(engine, life, "reboot -f")
    assert await asyncio.wait_for(engine.wait_ended(life), 20) is End.REBOOT
    life.close()


async def test_a_reboot_while_no_daemon_ran_is_told_once_to_the_next(base: Path, busybox: Busybox) -> None:
    first = make_engine(base)
    life = await start(first, await busybox())
    await run_and_ignore(first, life, "reboot -f")
    await pidfds.wait_ended(life.monitor_pidfd, timeout_seconds=10)
    life.close()

    engine = make_engine(base)

    assert await engine.find("web") is None
    assert engine.reboot_was_asked("web")
    assert not engine.reboot_was_asked("web")
    await engine.collect("web")


async def test_a_running_guest_is_neither_started_nor_collected(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    life = await start(engine, spec)

    with pytest.raises(Refused, match="'web': container is running"):
        await engine.make_namespaces(spec)
    with pytest.raises(Refused, match="'web': container is running"):
        await engine.collect("web")
    with pytest.raises(Refused, match="'web': container is running"):
        await engine.forget("web")

    assert await output_of(engine, life, "echo", "still there") == "still there\n"
    await end(engine, life)


async def test_lxc_start_by_hand_fails(engine: LxcEngine, busybox: Busybox, base: Path) -> None:
    life = await start(engine, await busybox())
    config = base / "run/lxc/web/config"
    kept = config.read_text()
    await end(engine, life)

    config.parent.mkdir(parents=True)
    config.write_text(kept)  # as after a crash of the host's daemon and its container
    process = await asyncio.create_subprocess_exec(
        "lxc-start", "-P", str(base / "run/lxc"), "-n", "web", "--daemon", "--quiet",
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    assert await process.wait() != 0
    assert await engine.find("web") is None
    await engine.collect("web")


async def test_usage_is_told(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())

    before = engine.usage(life)
    await output_of(engine, life, "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    after = engine.usage(life)

    assert before.memory_bytes is not None
    assert 0 < before.memory_bytes < 50_000_000
    assert before.cpu_nanoseconds is not None
    assert after.cpu_nanoseconds is not None
    assert after.cpu_nanoseconds - before.cpu_nanoseconds > 10_000_000
    await end(engine, life)


async def test_a_frozen_guest_runs_no_commands_but_stops(engine: LxcEngine, busybox: Busybox, base: Path) -> None:
    life = await start(engine, await busybox())
    freeze = await asyncio.create_subprocess_exec("lxc-freeze", "-P", str(base / "run/lxc"), "-n", "web")
    assert await freeze.wait() == 0

    with pytest.raises(Unavailable, match="'web': container is frozen"):
        await output_of(engine, life, "true")

    await engine.shut_down(life, timeout_seconds=20, method=StopMethod.SHUTDOWN_OR_FAIL)
    life.close()


async def test_a_guest_is_known_to_be_frozen_whichever_version_s_hierarchy_is_mounted_first(
    engine: LxcEngine, busybox: Busybox, base: Path
) -> None:
    life = await start(engine, await busybox())
    freeze = await asyncio.create_subprocess_exec("lxc-freeze", "-P", str(base / "run/lxc"), "-n", "web")
    assert await freeze.wait() == 0
    trees = cgroups.hierarchies()
    orders = sorted(trees, key=lambda tree: tree.is_unified), sorted(trees, key=lambda tree: not tree.is_unified)

    assert [cgroups.is_frozen(life.cgroup, trees=each) for each in orders] == [True, True]
    cgroups.thaw(f"{tree.mount_point}{life.cgroup}" for tree in trees)
    assert [cgroups.is_frozen(life.cgroup, trees=each) for each in orders] == [False, False]

    await end(engine, life)


async def test_a_frozen_guest_can_be_killed(engine: LxcEngine, busybox: Busybox, base: Path) -> None:
    life = await start(engine, await busybox())
    freeze = await asyncio.create_subprocess_exec("lxc-freeze", "-P", str(base / "run/lxc"), "-n", "web")
    assert await freeze.wait() == 0

    await end(engine, life)


async def test_eight_guests_start_and_stop_in_parallel(engine: LxcEngine, busybox: Busybox, traces: Traces) -> None:
    specs = [await busybox(f"web{number}") for number in range(8)]

    lives = await asyncio.gather(*(start(engine, spec) for spec in specs))

    names = await asyncio.gather(*(output_of(engine, life, "hostname") for life in lives))
    assert names == [f"web{number}\n" for number in range(8)]
    assert len({os.stat(f"/proc/{life.init_pid}/ns/net").st_ino for life in lives}) == 8
    await asyncio.gather(
        *(engine.shut_down(life, timeout_seconds=30, method=StopMethod.SHUTDOWN_OR_FAIL) for life in lives)
    )
    for life in lives:
        life.close()
    assert not any(traces.all().values())


async def test_names_that_look_like_each_other_do_not_meet(engine: LxcEngine, busybox: Busybox) -> None:
    specs = {name: await busybox(name) for name in ("web", "web-1")}
    lives = {name: await start(engine, specs[name]) for name in specs}

    await end(engine, lives["web"])
    again = await start(engine, specs["web"])

    assert await output_of(engine, lives["web-1"], "hostname") == "web-1\n"
    await end(engine, lives["web-1"])
    assert await output_of(engine, again, "hostname") == "web\n"
    await end(engine, again)


async def test_a_run_directory_in_a_private_place_works(base: Path, traces: Traces) -> None:
    base.chmod(0o700)
    engine = make_engine(base)
    spec = make_spec(base)
    await build_busybox(spec.root_directory)

    life = await start(engine, spec)

    assert await output_of(engine, life, "hostname") == "web\n"
    adopted = await make_engine(base).find("web")
    assert adopted is not None
    adopted.close()
    await end(engine, life)
    assert not traces.files()


async def test_a_deep_run_directory_works(base: Path) -> None:
    deep = base / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    engine = LxcEngine(state_dir=deep / "state", run_dir=deep / "run")
    spec = make_spec(base)
    await build_busybox(spec.root_directory)

    life = await start(engine, spec)

    assert await output_of(engine, life, "hostname") == "web\n"
    await end(engine, life)


async def test_a_deleted_container_is_forgotten(engine: LxcEngine, busybox: Busybox, base: Path) -> None:
    await end(engine, await start(engine, await busybox()))
    await end(engine, await start(engine, make_spec(base)))
    assert list((base / "state/log/ct").iterdir())

    await engine.forget("web")

    left = [path for top in ("run", "state") for path in (base / top).rglob("*") if "web" in path.name]
    assert not left
    assert not Path(f"/run/lxc/lock{base}").exists()


async def test_forgetting_a_container_leaves_the_locks_of_others(
    engine: LxcEngine, busybox: Busybox, base: Path
) -> None:
    web, mail = await busybox("web"), await busybox("mail")
    await end(engine, await start(engine, web))
    running = await start(engine, mail)
    locks = Path(f"/run/lxc/lock{base}/run/lxc")

    await engine.forget("web")

    assert [path.name for path in locks.iterdir()] == [".mail"]
    await end(engine, running)
    await engine.forget("mail")
    assert not Path(f"/run/lxc/lock{base}").exists()
    assert Path("/run/lxc/lock").is_dir()


async def test_an_apparmor_profile_that_a_killed_monitor_left_is_collected(engine: LxcEngine, base: Path) -> None:
    profile = base / "run/lxc/web/apparmor/lxc-web_<run-lxc>"
    profile.parent.mkdir(parents=True)
    profile.touch()

    await engine.collect("web")

    assert not (base / "run/lxc").exists()


async def test_device_nodes_of_a_root_directory_are_dead(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    node = Path(spec.root_directory, "disk")
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    node.chmod(0o666)
    life = await start(engine, spec)

    shown = await output_of(engine, life, "sh", "-c", "head -c1 /disk 2>&1; head -c1 /dev/zero | wc -c")

    assert "Permission denied" in shown
    assert shown.splitlines()[-1] == "1"
    await end(engine, life)
