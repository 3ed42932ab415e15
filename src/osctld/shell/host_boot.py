"""The host's own life: which boot this is, whether it is about to end, and what was noted of that on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import msgspec

from osctld.core.config.autostart import ShutdownMark
from osctld.core.errors import ApplyFailed, Unavailable
from osctld.shell.process.subprocesses import execute, kill, to_the_end
from osctld.shell.store.durable import sync_directory, write_file

#: linux/include/uapi/asm-generic/socket.h; Python 3.11 does not know it. A number that no other namespace of the same
#: boot ever has, unlike the inode, which the next namespace may get again. From kernel 5.14.
_SO_NETNS_COOKIE = 71

#: The unit that is queued to be started whenever the host goes down, however it does: reboot, poweroff, halt, kexec,
#: soft-reboot (systemd.special(7)).
_TARGET = "shutdown.target"
#: What process 1 is called once all units are stopped, or were skipped (`systemctl --force`): 15 characters at most.
_FINAL_PROGRAM = "systemd-shutdow"
_ANSWER_SECONDS = 5.0


def boot_identity() -> str:
    """Equal for two runs exactly when the host was not rebooted between them and they share a network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sample:
        cookie = int.from_bytes(sample.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
    return f"{boot} {cookie}"


def kernel_command_line() -> str:
    return Path("/proc/cmdline").read_text(encoding="utf-8", errors="replace")


async def is_going_down() -> bool | None:
    """Whether systemd is about to end the host, or its user space; None when it does not tell.

    A restart of units, `systemctl isolate rescue.target`, or a shutdown scheduled for later does not count.
    """
    with contextlib.suppress(OSError):
        if Path("/proc/1/comm").read_text(encoding="utf-8", errors="replace").strip() == _FINAL_PROGRAM:
            return True
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return False
    try:
        # The state `stopping` of the manager would say the same, but older ones say `starting` as long as they boot.
        process = await execute(
            *("systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain", "--full"),
            stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip
    except (OSError, Unavailable):
        return None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            told, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        await to_the_end(kill(process))
    if process.returncode != 0:
        return None
    return any(words[1:3] == [_TARGET, "start"] for words in map(str.split, told.decode(errors="replace").splitlines()))


class NotedShutdown:
    """The file in the state directory that holds the mark of a shutdown. Who writes it need not be the daemon."""

    def __init__(self, state_dir: Path) -> None:
        self.file = state_dir / "shutdown"

    def read(self) -> ShutdownMark | None:
        """The mark, of whatever boot; None when there is none. One that cannot be read is none."""
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=ShutdownMark)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, mark: ShutdownMark) -> None:
        """Keep a mark; durable when this returns. Raises ApplyFailed."""
        try:
            write_file(self.file, msgspec.json.encode(mark) + b"\n")
        except OSError as error:
            raise ApplyFailed(f"'{self.file}': cannot be written: {error.strerror}", code="save-failed") from error

    def remove(self) -> None:
        """Forget the mark. Raises ApplyFailed."""
        try:
            self.file.unlink(missing_ok=True)
            sync_directory(self.file.parent)
        except OSError as error:
            raise ApplyFailed(f"'{self.file}': cannot be removed: {error.strerror}", code="save-failed") from error


class BootedHost(msgspec.Struct, frozen=True):
    """This boot of the host, the one on which all that was wanted was last started, and where a shutdown is noted."""

    identity: str
    started: str
    noted: NotedShutdown
