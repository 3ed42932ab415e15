"""The user and network namespaces of a container, made before the container and handed over to LXC.

A holder process keeps them alive until LXC has joined them. It waits on a pipe from the daemon, so that it ends when
the daemon does. The order matters: user namespace, its id maps, and only then the network namespace, whose /proc/net
would otherwise belong to nobody; docs/adr/0003-namespaces-first.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from osctld.core.config.life import IdMap
from osctld.core.errors import ApplyFailed
from osctld.shell.process import pidfds
from osctld.shell.process.subprocesses import execute, kill, to_the_end

Result = TypeVar("Result")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
#: A step takes some milliseconds; on a host that starts 200 containers after a boot, and does much else, some seconds.
#: This only ends what hangs.
_STEP_SECONDS = 120.0

# An empty line says that a step is done; a line of text is the complaint of a program. `--keep-caps`, because user 0
# of the host has no name in the new user namespace and would lose its capabilities on exec.
_HOLDER = "echo; read _ || exit; exec unshare --net /bin/sh -c 'echo; read _'"

_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """A user and a network namespace that no process but a waiting holder uses.

    `pidfd` (owned by this value) is good for setns(2) with CLONE_NEWNET for as long as the holder lives.
    `network` is the inode of the network namespace, by which it is known again.
    """

    def __init__(self, *, container: str, process: Process, pidfd: int) -> None:
        self.container = container
        self.pid = process.pid
        self.pidfd = pidfd
        self.network = 0
        self._process = process

    async def release(self) -> None:
        """Release the holder, which ends namespaces that no process has joined. Harmless when done twice."""
        if self.pidfd < 0:
            return
        pidfd, self.pidfd = self.pidfd, -1
        try:
            await _end(self._process)
        finally:
            os.close(pidfd)


async def make_namespaces(container: str, *, id_map: IdMap) -> Namespaces:
    """Make a user namespace with this id map and, inside it, a network namespace whose loopback is up.

    Raises ApplyFailed or Unavailable with the reason; nothing is left then, nor after a cancellation.
    """
    process = await execute(
        "unshare", "--user", "--keep-caps", "/bin/sh", "-c", _HOLDER,
        subject=container, stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd="/", start_new_session=True,
    )  # fmt: skip
    namespaces: Namespaces | None = None
    try:
        await _step(process, container)
        pidfd = pidfds.open_pidfd(process.pid)
        if pidfd is None:
            raise ApplyFailed(
                f"'{container}': its namespaces vanished while they were being created", subject=container
            )
        namespaces = Namespaces(container=container, process=process, pidfd=pidfd)
        _write_maps(process.pid, container, id_map=id_map)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        await _step(process, container)
        namespaces.network = os.stat(f"/proc/{process.pid}/ns/net").st_ino
        await in_network_namespace(pidfd, _bring_loopback_up)
        return namespaces
    except BaseException:
        await to_the_end(namespaces.release() if namespaces else _end(process))
        raise


async def in_network_namespace(pidfd: int, action: Callable[[], Result]) -> Result:
    """Run an action in the network namespace of a process, in a thread that is thrown away afterwards.

    No other thread changes its namespace. Raises what the action raises, and OSError from setns(2).
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only if that is the Result

    def run() -> None:
        try:
            if _libc.setns(pidfd, _CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            outcome: tuple[Result | None, BaseException | None] = (action(), None)
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: there are no waiters
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="namespace", daemon=True).start()
    return await future


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
        # struct ifreq: 16 bytes of name, then a union that starts with the flags (netdevice(7)).
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(handle, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def _write_maps(pid: int, container: str, *, id_map: IdMap) -> None:
    line = f"0 {id_map.offset} {id_map.size}\n"
    try:
        Path(f"/proc/{pid}/uid_map").write_text(line, encoding="ascii")
        Path(f"/proc/{pid}/gid_map").write_text(line, encoding="ascii")
    except OSError as error:
        raise ApplyFailed(
            f"'{container}': the kernel refuses ids {id_map.offset} to {id_map.offset + id_map.size - 1}: "
            f"{error.strerror}",
            subject=container,
        ) from error


async def _step(process: Process, container: str) -> None:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_STEP_SECONDS):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise ApplyFailed(
            f"'{container}': its namespaces were not created within {_STEP_SECONDS:g} s", subject=container
        ) from error
    if line != b"\n":
        reason = line.decode(errors="replace").strip() or "the process creating them exited"
        raise ApplyFailed(f"'{container}': its namespaces cannot be created: {reason}", subject=container)


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(1):
            await process.wait()
    except TimeoutError:
        await kill(process)
