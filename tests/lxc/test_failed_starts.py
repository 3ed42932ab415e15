"""Starts that fail do so in words, and leave nothing; so do starts that are cancelled or lose their daemon."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from lxc.lxc_host import OFFSET, Busybox, Traces, end, make_engine, make_spec, output_of, start, until
from osctld.core.config.life import ContainerSpec, End, IdMap, StopMethod
from osctld.core.errors import ApplyFailed, OsctlError, Refused, Unavailable
from osctld.shell.lxc.engine import LxcEngine
from osctld.shell.process import subprocesses


async def refusal_of(engine: LxcEngine, spec: ContainerSpec, traces: Traces) -> str:
    with pytest.raises(OsctlError) as caught:
        await start(engine, spec)
    assert not any(traces.all().values())
    assert await engine.find(spec.container) is None
    assert "\n" not in caught.value.message
    return caught.value.message


async def test_a_missing_root_directory_is_named(engine: LxcEngine, base: Path, traces: Traces) -> None:
    message = await refusal_of(engine, make_spec(base), traces)

    assert message == f"'web': root directory '{base}/web' cannot be opened: No such file or directory"


async def test_a_missing_init_is_named(engine: LxcEngine, busybox: Busybox, traces: Traces) -> None:
    spec = await busybox()
    Path(spec.root_directory, "sbin/init").unlink()

    message = await refusal_of(engine, spec, traces)

    assert message == f"'web': no /sbin/init in '{spec.root_directory}': No such file or directory"


async def test_a_guest_that_is_not_confined_as_was_noted_is_killed(
    engine: LxcEngine, busybox: Busybox, traces: Traces
) -> None:
    spec = await busybox()
    namespaces = await engine.make_namespaces(spec)
    (config,) = (each for each in traces.files() if each.endswith("/web/config"))
    Path(config).with_name("label").write_text("lxc-of-nobody\n")

    with pytest.raises(ApplyFailed, match=r"killed, it was confined by '.*' and not by 'lxc-of-nobody'"):
        await engine.launch(spec, namespaces)

    assert not any(traces.all().values())
    assert await engine.find(spec.container) is None


@pytest.mark.parametrize(("program", "package"), [("unshare", "util-linux"), ("lxc-start", "lxc")])
async def test_a_missing_program_fails_the_start_with_the_package_to_install(
    engine: LxcEngine, busybox: Busybox, traces: Traces, monkeypatch: pytest.MonkeyPatch, program: str, package: str
) -> None:
    spec = await busybox()
    before = traces.all()
    without(monkeypatch, Path(spec.root_directory).parent, program)

    with pytest.raises(Unavailable, match=f"program '{program}' is missing; install {package}"):
        await start(engine, spec)

    assert traces.all() == before


async def test_a_missing_lxc_attach_is_told_of_a_command_with_the_package_to_install(
    engine: LxcEngine, busybox: Busybox, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = await busybox()
    life = await start(engine, spec)
    with monkeypatch.context() as patched:
        without(patched, Path(spec.root_directory).parent, "lxc-attach")

        with pytest.raises(Unavailable, match="program 'lxc-attach' is missing; install lxc"):
            await output_of(engine, life, "true")

    await end(engine, life)


def without(monkeypatch: pytest.MonkeyPatch, base: Path, program: str) -> None:
    """Let one program not be installed."""
    directory = base / "programs"
    directory.mkdir()
    for name in ("unshare", "sh", "lxc-start", "lxc-attach", "setsid", "cat"):
        if name != program:
            (directory / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setitem(subprocesses.CLEAN_ENVIRONMENT, "PATH", str(directory))


async def test_an_init_is_not_looked_for_outside_the_root(engine: LxcEngine, busybox: Busybox, traces: Traces) -> None:
    spec = await busybox()
    init = Path(spec.root_directory, "sbin/init")
    for target in ("/usr/bin/env", "../../../../../../../../usr/bin/mmdebstrap", "/proc/1/exe"):
        init.unlink()
        init.symlink_to(target)
        Path(spec.root_directory, "usr/bin/env").unlink(missing_ok=True)

        assert "no /sbin/init in" in await refusal_of(engine, spec, traces)


async def test_an_init_that_cannot_be_executed_fails_the_start_in_the_words_of_lxc(
    engine: LxcEngine, busybox: Busybox, traces: Traces
) -> None:
    spec = await busybox()
    init = Path(spec.root_directory, "sbin/init")
    init.unlink()
    init.write_text("#!/no/such/interpreter\n")
    init.chmod(0o755)

    message = await refusal_of(engine, spec, traces)

    assert message == "'web': did not start: No such file or directory - Failed to exec \"/sbin/init\""


@pytest.mark.parametrize("kind", ["directory", "fifo", "not executable"])
async def test_an_init_that_is_no_program_is_refused(
    engine: LxcEngine, busybox: Busybox, traces: Traces, kind: str
) -> None:
    spec = await busybox()
    init = Path(spec.root_directory, "sbin/init")
    init.unlink()
    match kind:
        case "directory":
            init.mkdir()
        case "fifo":
            os.mkfifo(init, 0o755)
        case _:
            init.write_text("#!/bin/sh\n")
            init.chmod(0o644)

    assert "is not an executable program" in await refusal_of(engine, spec, traces)


@pytest.mark.parametrize("id_map", [IdMap(offset=666000, size=0), IdMap(offset=4294967295, size=65536)])
async def test_a_map_that_the_kernel_refuses_is_quoted(
    engine: LxcEngine, busybox: Busybox, traces: Traces, id_map: IdMap
) -> None:
    built = await busybox()
    spec = ContainerSpec(container="web", root_directory=built.root_directory, id_map=id_map, hostname="web")

    message = await refusal_of(engine, spec, traces)

    assert message.startswith(f"'web': the kernel refuses ids {id_map.offset} to ")


async def test_a_root_that_cannot_be_id_mapped_is_refused(engine: LxcEngine, traces: Traces) -> None:
    spec = ContainerSpec(container="web", root_directory="/proc", id_map=IdMap(offset=OFFSET), hostname="web")

    with pytest.raises(ApplyFailed):
        await start(engine, spec)

    assert not any(traces.all().values())


async def test_values_that_would_break_the_configuration_are_refused(
    engine: LxcEngine, busybox: Busybox, traces: Traces
) -> None:
    built = await busybox()
    spec = ContainerSpec(
        container="web",
        root_directory=built.root_directory,
        id_map=built.id_map,
        hostname="web\nlxc.hook.pre-start = /bin/touch /tmp/x",
    )

    assert "not allowed in an LXC configuration" in await refusal_of(engine, spec, traces)


async def test_a_name_that_leads_elsewhere_is_refused(engine: LxcEngine, base: Path) -> None:
    for name in ("../web", "..", "a/b", ""):
        with pytest.raises(Refused, match="not a container name"):
            await engine.make_namespaces(make_spec(base, name))


async def test_an_init_that_blocks_does_not_hang_the_start(engine: LxcEngine, busybox: Busybox) -> None:
    spec = await busybox()
    os.mkfifo(Path(spec.root_directory, "never"))
    init = Path(spec.root_directory, "sbin/init")
    init.unlink()
    init.write_text("#!/bin/sh\nread line < /never\n")
    init.chmod(0o755)

    life = await asyncio.wait_for(start(engine, spec), 10)

    await end(engine, life)


async def test_a_guest_that_powers_off_at_once_is_an_end_or_a_failed_start(
    engine: LxcEngine, busybox: Busybox, traces: Traces
) -> None:
    spec = await busybox(boot="poweroff -f\n")

    for _ in range(5):
        try:
            life = await start(engine, spec)
        except ApplyFailed as error:
            assert "exited at once" in error.message  # noqa: PT017 - either is right
        else:
            assert await asyncio.wait_for(engine.wait_ended(life), 10) is End.STOPPED
            life.close()
        assert not any(traces.all().values())


async def test_namespaces_that_are_abandoned_leave_nothing(engine: LxcEngine, busybox: Busybox, traces: Traces) -> None:
    namespaces = await engine.make_namespaces(await busybox())
    assert traces.processes()

    await engine.abandon(namespaces)

    assert not any(traces.all().values())


async def test_a_holder_that_was_killed_fails_the_start(engine: LxcEngine, busybox: Busybox, traces: Traces) -> None:
    spec = await busybox()
    namespaces = await engine.make_namespaces(spec)
    os.kill(namespaces.pid, signal.SIGKILL)

    with pytest.raises(ApplyFailed):
        await engine.launch(spec, namespaces)

    assert not any(traces.all().values())


async def test_a_start_cancelled_at_any_moment_leaves_nothing(
    engine: LxcEngine, busybox: Busybox, traces: Traces
) -> None:
    spec = await busybox()

    for milliseconds in (*range(16), 18, 20, 25, 30):
        task = asyncio.ensure_future(start(engine, spec))
        await asyncio.wait([task], timeout=milliseconds / 1000)
        task.cancel()
        try:
            life = await task
        except asyncio.CancelledError:
            assert not any(traces.all().values()), milliseconds
        else:
            await end(engine, life)

    await end(engine, await start(engine, spec))


async def test_a_daemon_killed_at_any_moment_of_a_start_leaves_a_running_guest_or_nothing(
    base: Path, busybox: Busybox, traces: Traces
) -> None:
    await busybox()
    program = Path(__file__).with_name("start_and_wait.py")
    found = {True: 0, False: 0}

    # Without a limit: on a busy machine all the others may come before there is a guest.
    for milliseconds in (*range(18), 20, 22, 24, 28, 32, 40, None):
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, str(program), str(base), str(OFFSET),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        assert await daemon.stdout.readline() == b"ready\n"
        daemon.stdin.write(b"\n")
        timeout = None if milliseconds is None else milliseconds / 1000
        await asyncio.wait([asyncio.ensure_future(daemon.stdout.readline())], timeout=timeout)
        daemon.kill()
        await daemon.wait()

        engine = make_engine(base)
        life = await engine.find("web")
        found[life is not None] += 1
        if life is not None:
            assert await output_of(engine, life, "sh", "-c", "echo $(hostname) >/x; stat -c %u /x") == "0\n"
            assert not traces.mounts()
            await end(engine, life)
        else:
            await engine.collect("web")
        # A holder ends when it finds its daemon gone; one that is just being made has to become `unshare` first.
        await until(lambda: not traces.processes())
        assert not any(traces.all().values()), milliseconds

    assert found[True]
    assert found[False]


async def test_what_stands_in_the_log_is_what_is_said(engine: LxcEngine, busybox: Busybox, base: Path) -> None:
    spec = await busybox()
    init = Path(spec.root_directory, "sbin/init")
    init.unlink()
    init.write_text("#!/no/such/interpreter\n")
    init.chmod(0o755)

    with pytest.raises(ApplyFailed) as caught:
        await start(engine, spec)

    log = (base / "state/log/ct/web.log").read_text()
    assert re.sub(r"^.*did not start: ", "", caught.value.message) in log


async def test_shutting_down_a_life_that_is_over_is_no_error(engine: LxcEngine, busybox: Busybox) -> None:
    life = await start(engine, await busybox())
    os.kill(life.init_pid, signal.SIGKILL)

    for method in StopMethod:
        await engine.shut_down(life, timeout_seconds=5, method=method)
    life.close()
