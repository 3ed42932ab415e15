"""What holds a guest beside its user namespace: capabilities, system calls, mounts; and what does not hold it."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lxc.lxc_host import Busybox, end, make_engine, make_spec, output_of, run_and_ignore, start
from lxc.private_mounts import in_private_mount_namespace, mount
from osctld.core.config.life import End, IdMap
from osctld.shell.lxc.engine import Life, LxcEngine
from osctld.shell.process.namespace_holder import make_namespaces
from osctld.shell.rootfs import idmapped_mount
from osctld.shell.rootfs.busybox import build_busybox

#: linux/capability.h
SYS_MODULE, SYS_RAWIO, SYS_ADMIN, SYS_TIME, MAC_OVERRIDE, MAC_ADMIN = 16, 17, 21, 25, 32, 33

#: Numbers on x86-64 (asm/unistd_64.h) and elsewhere (asm-generic/unistd.h); what the second have not is None. Arguments
#: with which most kernels say something else than EPERM to root of a user namespace, where there are such.
CALLS: dict[str, tuple[int, int | None, str]] = {
    "kexec_load": (246, 104, "0, 0, 0, 0"),
    "kexec_file_load": (320, 294, "-1, -1, 0, 0, 0"),
    "init_module": (175, 105, "0, 0, 0"),
    "finit_module": (313, 273, "-1, 0, 0"),
    "delete_module": (176, 106, "0, 0"),
    "open_by_handle_at": (304, 265, "-1, 0, 0"),
    "iopl": (172, None, "99"),
    "ioperm": (173, None, "0, 0, 0"),
    "swapon": (167, 224, "0, 0x7f000000"),
    "swapoff": (168, 225, "0"),
    "acct": (163, 89, "0"),
    "syslog": (103, 116, "99, 0, 0"),
}


def errnos(perl: tuple[str, ...]) -> tuple[str, ...]:
    """A command that makes all the calls, and prints the name and the error of each."""
    column = 0 if platform.machine() == "x86_64" else 1
    script = "".join(
        f'$! = 0; syscall({number}, {arguments}); print "{name} ", $! + 0, "\\n";'
        for name, (*numbers, arguments) in CALLS.items()
        if (number := numbers[column]) is not None
    )
    return (*perl, "-e", script)


def read_errnos(printed: str) -> dict[str, int]:
    return {name: int(number) for name, number in map(str.split, printed.splitlines())}


def outside(perl: str) -> dict[str, int]:
    """What root of a user namespace is told who has no policy of ours."""
    command = ["unshare", "--user", "--map-root-user", *errnos((perl,))]
    return read_errnos(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def copy_with_libraries(program: str, root: Path) -> None:
    """Copy a program of the host with all that it is linked to into a guest."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in (program, *re.findall(r"(/\S+) \(0x", listed)):
        target = root / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o755)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(pid: int) -> set[int]:
    bounding = int(status_of(pid)["CapBnd"], 16)
    return {bit for bit in range(64) if bounding >> bit & 1}


async def test_system_calls_that_belong_to_the_host_are_denied_to_init_and_to_commands(
    engine: LxcEngine, busybox: Busybox
) -> None:
    spec = await busybox()
    perl = os.path.realpath(shutil.which("perl") or "")
    copy_with_libraries(perl, Path(spec.root_directory))
    life = await start(engine, spec)

    inside = read_errnos(await output_of(engine, life, *errnos((perl,))))

    assert len(inside) >= 10
    assert set(inside.values()) == {errno.EPERM}
    assert set(outside(perl).values()) != {errno.EPERM}  # else it is no wall of ours that was seen
    assert status_of(life.init_pid)["Seccomp"] == "2"
    assert status_of(life.init_pid)["NoNewPrivs"] == "0"
    assert "Seccomp:\t2" in await output_of(engine, life, "cat", "/proc/self/status")
    await end(engine, life)


@pytest.mark.parametrize("has_nesting", [False, True])
async def test_capabilities_for_the_host_alone_are_dropped_and_those_for_policies_only_without_nesting(
    base: Path, has_nesting: bool
) -> None:
    engine = make_engine(base)
    spec = make_spec(base, has_nesting=has_nesting)
    await build_busybox(spec.root_directory)
    life = await start(engine, spec)

    has = capabilities(life.init_pid)
    printed = await output_of(engine, life, "grep", "CapBnd", "/proc/self/status")

    assert not has & {SYS_MODULE, SYS_RAWIO, SYS_TIME}
    assert SYS_ADMIN in has
    assert has & {MAC_OVERRIDE, MAC_ADMIN} == ({MAC_OVERRIDE, MAC_ADMIN} if has_nesting else set())
    assert printed.split()[1] == status_of(life.init_pid)["CapBnd"]
    await end(engine, life)


async def test_a_container_inside_can_mount_its_own_proc_and_sys_with_nesting_and_not_without(base: Path) -> None:
    engine = make_engine(base)
    mounts = "mount -t proc proc /mnt && umount /mnt && mount -t sysfs sys /mnt && echo mounted; true"
    seen = {}
    for name, has_nesting in (("plain", False), ("nesting", True)):
        spec = make_spec(base, name, has_nesting=has_nesting)
        await build_busybox(spec.root_directory)
        life = await start(engine, spec)
        seen[name] = await output_of(
            engine, life, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "--",
            "sh", "-c", f"{mounts}",
        )  # fmt: skip
        await end(engine, life)

    assert "mounted" in seen["nesting"]
    assert "mounted" not in seen["plain"]


# ---- file systems of the host that forbid


FORBIDDING = "noexec,nosuid,nodev,mode=755"


def root_options(life: Life) -> set[str]:
    lines = [line.split() for line in Path(f"/proc/{life.init_pid}/mountinfo").read_text().splitlines()]
    return set(next(fields[5] for fields in lines if fields[4] == "/").split(","))


def mount_forbidding(base: Path) -> tuple[LxcEngine, Path]:
    """Mount everything that an administrator may forbid execution on, of this thread's mount namespace alone.

    /run and /var are writable, /tmp and /home are not.
    """
    for directory, options in (("/run", ""), ("/var", ""), ("/tmp", ",ro"), ("/home", ",ro")):
        mount("tmpfs", directory, options=FORBIDDING + options)
    state, run = Path("/var/lib", base.name), Path("/run", base.name)
    state.mkdir(parents=True, mode=0o700)
    run.mkdir(mode=0o711)
    return LxcEngine(state_dir=state, run_dir=run), state


async def test_a_guest_runs_and_reboots_where_run_var_tmp_and_home_forbid_all_that_a_mount_can_forbid(
    base: Path,
) -> None:
    in_private_mount_namespace()
    engine, state = mount_forbidding(base)
    spec = make_spec(state, base.name)
    await build_busybox(spec.root_directory)

    life = await start(engine, spec)
    try:
        options = root_options(life)
        await run_and_ignore(engine, life, "reboot")
        ended = await asyncio.wait_for(engine.wait_ended(life), 20)
        life.close()
        life = await start(engine, spec)
        await run_and_ignore(engine, life, "/bin/sh -c 'echo $0' >/greeting")
    finally:
        await end(engine, life)
        await engine.forget(base.name)

    assert Path(spec.root_directory, "greeting").read_text() == "/bin/sh\n"
    assert ended is End.REBOOT
    assert options & {"nodev", "noexec", "nosuid", "ro"} == {"nodev"}
    assert "noexec" in Path("/proc/thread-self/mountinfo").read_text()


async def test_set_uid_programs_links_and_programs_work_through_our_mount_of_a_forbidding_file_system(
    base: Path,
) -> None:
    in_private_mount_namespace()
    source, target = base / "source", base / "target"
    source.mkdir()
    target.mkdir()
    mount("tmpfs", str(source), options=f"{FORBIDDING},nosymfollow")
    shutil.copyfile("/usr/bin/id", source / "id")
    (source / "id").chmod(0o4755)
    (source / "link").symlink_to("id")
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    namespaces = await make_namespaces("web", id_map=IdMap(offset=666000))

    def effective_user(directory: Path) -> str:
        ran = subprocess.run(
            ["setpriv", "--reuid=1000", "--clear-groups", directory / "link", "-u"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ran.stdout.strip()

    descriptor = os.open(f"/proc/{namespaces.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    idmapped_mount.attach(str(source), str(target), user_namespace=descriptor)
    os.close(descriptor)
    await namespaces.release()

    assert effective_user(target) == "666000"
    assert effective_user(source) == ""  # the host's own mount forbids what it forbade
    with pytest.raises(PermissionError):
        (target / "null").read_bytes()


async def test_a_read_only_root_stays_read_only(base: Path) -> None:
    in_private_mount_namespace()
    engine = make_engine(base)
    spec = make_spec(base)
    await build_busybox(spec.root_directory)
    (Path(spec.root_directory) / "etc/hostname").write_text("web\n")
    Path(spec.root_directory, "etc/hosts").write_text("127.0.1.1\tweb\n")
    mount(spec.root_directory, spec.root_directory, options="bind")
    mount(spec.root_directory, spec.root_directory, options="remount,bind,ro,noexec")

    life = await start(engine, spec)

    assert root_options(life) & {"ro", "noexec"} == {"ro"}
    assert "Read-only" in await output_of(engine, life, "sh", "-c", "touch /made 2>&1; true")
    await end(engine, life)
