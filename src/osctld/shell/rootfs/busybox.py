"""A guest's root directory built from the host's busybox: its init, its shell, a link for each of its commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from osctld.core.errors import ApplyFailed, Unavailable
from osctld.shell.process.subprocesses import execute, kill, to_the_end
from osctld.shell.rootfs.directory import NewDirectory

_DIRECTORIES = (
    "bin", "dev", "etc/init.d", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin",
    "usr/share/udhcpc", "var/log", "var/run",
)  # fmt: skip

_INITTAB = """\
# busybox init: nothing is respawned, nobody logs in; `osctl ct exec` opens a shell.
::sysinit:/etc/init.d/rcS
::shutdown:/etc/init.d/rcK
::ctrlaltdel:/sbin/reboot
"""

_START = """\
#!/bin/sh
# Runs once, first of all. Put what the container is for into /etc/rc.local.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ -x /etc/rc.local ] && /etc/rc.local
exit 0
"""

# busybox init itself sleeps two seconds on its way down, whatever there is to end. The shutdown action comes before
# that, so it ends everybody politely and then stops at once, provided that it knows what was wished for. The wish is
# kept in /dev, which is new in each life. Without one (busybox' shell prefers its own `reboot`) init goes its own way.
_STOP = """\
#!/bin/sh
read wish 2>/dev/null </dev/.halt || exit 0
kill -TERM -1
for tick in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    alive=
    for process in /proc/[0-9]*; do
        case $process in /proc/1|/proc/$$) ;; *) [ -d $process ] && alive=1 ;; esac
    done
    [ "$alive" ] || break
    usleep 50000
done
sync
exec busybox $wish -f
"""

_HALT = """\
#!/bin/sh
# Leaves the wish for /etc/init.d/rcK, then asks init as busybox does.
[ $# = 0 ] && echo {wish} >/dev/.halt
exec busybox {wish} "$@"
"""

_FILES = {
    "etc/inittab": (_INITTAB, 0o644),
    "etc/init.d/rcS": (_START, 0o755),
    "etc/init.d/rcK": (_STOP, 0o755),
    "etc/passwd": ("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644),
    "etc/group": ("root:x:0:\nnogroup:x:65534:\n", 0o644),
    "etc/shadow": ("root:*:::::::\nnobody:*:::::::\n", 0o600),
    "etc/shells": ("/bin/sh\n", 0o644),
    "etc/hosts": ("127.0.0.1\tlocalhost\n::1\tlocalhost\n", 0o644),
    "etc/os-release": ('ID=busybox\nNAME="BusyBox"\n', 0o644),
    "sbin/poweroff": (_HALT.format(wish="poweroff"), 0o755),
    "sbin/halt": (_HALT.format(wish="halt"), 0o755),
    "sbin/reboot": (_HALT.format(wish="reboot"), 0o755),
}

_PT_INTERP = 3  # elf(5)


async def build_busybox(directory: str | os.PathLike[str], *, busybox: str = "/bin/busybox") -> None:
    """Build a guest from a static busybox: its init, its shell, a link for each of its commands.

    `directory` must not exist, or be empty. Takes some hundredths of a second and 2 MB. Raises Unavailable when
    busybox is missing or not static, Refused when the directory is in use, ApplyFailed when the disk says no; nothing
    is left then.
    """
    target = Path(directory)
    await asyncio.to_thread(require_static_busybox, busybox)
    applets = await _applets(busybox)
    with NewDirectory(target) as made:
        await to_the_end(asyncio.to_thread(_lay_out, target, busybox, applets))
        made.keep()


def require_static_busybox(busybox: str) -> None:
    """Raise Unavailable, naming the package, unless this is a busybox that runs in any root directory."""
    hint = "install the package busybox-static"
    try:
        with open(busybox, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF":
                raise Unavailable(f"'{busybox}': not a program; {hint}", subject=busybox)
            wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
            start, size, count = (
                (struct.unpack_from(order + "Q", head, 32)[0], *struct.unpack_from(order + "HH", head, 54))
                if wide
                else (struct.unpack_from(order + "I", head, 28)[0], *struct.unpack_from(order + "HH", head, 42))
            )
            file.seek(start)
            table = file.read(size * count)
    except OSError as error:
        raise Unavailable(f"'{busybox}': cannot be read: {error.strerror}; {hint}", subject=busybox) from error
    except struct.error as error:
        raise Unavailable(f"'{busybox}': not a program; {hint}", subject=busybox) from error
    kinds = (struct.unpack_from(order + "I", table, size * index)[0] for index in range(len(table) // max(size, 1)))
    if _PT_INTERP in kinds:
        raise Unavailable(f"'{busybox}': requires shared libraries that a guest does not have; {hint}", subject=busybox)


async def _applets(busybox: str) -> tuple[str, ...]:
    process = await execute(busybox, "--list-full", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd="/")
    try:
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise Unavailable(f"'{busybox}': does not list its commands", subject=busybox) from error
    finally:
        await kill(process)
    paths = tuple(
        line for line in output.decode(errors="replace").split() if ".." not in line and not line.startswith("/")
    )
    if "sbin/init" not in paths or not paths:
        raise Unavailable(f"'{busybox}': has no init; install the package busybox-static", subject=busybox)
    return paths


def _lay_out(target: Path, busybox: str, applets: tuple[str, ...]) -> None:
    try:
        for name in _DIRECTORIES:
            (target / name).mkdir(parents=True, exist_ok=True)
        for current, names, _ in os.walk(target):
            for name in names:
                os.chmod(os.path.join(current, name), 0o755)  # whatever the umask
        (target / "tmp").chmod(0o1777)
        (target / "root").chmod(0o700)
        shutil.copyfile(busybox, target / "bin/busybox")
        (target / "bin/busybox").chmod(0o755)
        for name, (text, mode) in _FILES.items():
            path = target / name
            path.write_text(text, encoding="ascii")
            path.chmod(mode)
        for name in ("etc/resolv.conf", "etc/hostname"):
            (target / name).touch(mode=0o644)
        for applet in applets:
            path = target / applet
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.symlink_to("/bin/busybox")
    except OSError as error:
        raise ApplyFailed(f"'{target}': root directory cannot be built: {error.strerror}") from error
