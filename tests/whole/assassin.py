"""Kills a process at one of its system calls: `assassin.py PID NUMBER before|after`.

It stops each thread of the process at each system call (ptrace(2)), and counts those that have an effect outside of
it. Before the one of that number begins, or after it is done, the whole process is killed by SIGKILL. Children go on,
as they do after a `kill -9`. Says `ready` when it watches, and then one line: the call at which it killed, or, when it
is told by the end of its standard input that the time is over, `over` and how many calls there were.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable

#: linux/ptrace.h
SEIZE, INTERRUPT, SYSCALL, DETACH, GET_SYSCALL_INFO = 0x4206, 0x4207, 24, 17, 0x420E
OPTION_SYSGOOD, OPTION_CLONE = 0x1, 0x8
EVENT_STOP = 128
ENTRY, EXIT = 1, 2
#: linux/wait.h: threads too, and only what this thread traces.
ALL, OWN_THREAD = 0x40000000, 0x20000000

_CREATES = os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
_SHORT = 1  # bytes: what wakes an event loop up

Arguments = tuple[int, ...]


def _always(_: Arguments) -> bool:
    return True


def _has_length(at: int) -> Callable[[Arguments], bool]:
    return lambda arguments: arguments[at] > _SHORT


#: Calls of x86-64 that have an effect outside of the process: name, and with which arguments they have.
CALLS: dict[int, tuple[str, Callable[[Arguments], bool]]] = {
    1: ("write", lambda arguments: arguments[0] != 2 and arguments[2] > _SHORT),  # not the log
    2: ("open", lambda arguments: bool(arguments[1] & _CREATES)),
    18: ("pwrite64", _always),
    20: ("writev", _always),
    44: ("sendto", _has_length(2)),
    46: ("sendmsg", _always),
    54: ("setsockopt", _always),
    56: ("clone", lambda arguments: not arguments[0] & _CLONE_THREAD),
    57: ("fork", _always),
    58: ("vfork", _always),
    62: ("kill", _always),
    74: ("fsync", _always),
    75: ("fdatasync", _always),
    76: ("truncate", _always),
    77: ("ftruncate", _always),
    82: ("rename", _always),
    83: ("mkdir", _always),
    84: ("rmdir", _always),
    86: ("link", _always),
    87: ("unlink", _always),
    88: ("symlink", _always),
    90: ("chmod", _always),
    91: ("fchmod", _always),
    133: ("mknod", _always),
    165: ("mount", _always),
    166: ("umount2", _always),
    257: ("openat", lambda arguments: bool(arguments[2] & _CREATES)),
    258: ("mkdirat", _always),
    259: ("mknodat", _always),
    263: ("unlinkat", _always),
    264: ("renameat", _always),
    265: ("linkat", _always),
    266: ("symlinkat", _always),
    268: ("fchmodat", _always),
    272: ("unshare", _always),
    285: ("fallocate", _always),
    306: ("syncfs", _always),
    307: ("sendmmsg", _always),
    316: ("renameat2", _always),
    424: ("pidfd_send_signal", _always),
    429: ("move_mount", _always),
    442: ("mount_setattr", _always),
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request: int, thread: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> int:
    """Raises OSError; ProcessLookupError for a thread that is gone."""
    value = ctypes.addressof(data) if isinstance(data, ctypes.Array) else data
    result = int(_libc.ptrace(request, thread, address, value))
    if result == -1 and (code := ctypes.get_errno()):
        raise OSError(code, os.strerror(code))
    return result


class Assassin:
    def __init__(self, pid: int, *, number: int, is_after: bool) -> None:
        self._pid = pid
        self._number = number
        self._is_after = is_after
        self._count = 0
        #: The thread that is in the call after which to kill, and what that is.
        self._waited_for: tuple[int, str] | None = None
        self._threads: set[int] = set()
        self._info = ctypes.create_string_buffer(88)
        self.is_over = threading.Event()

    def attach(self) -> None:
        while new := {int(each) for each in os.listdir(f"/proc/{self._pid}/task")} - self._threads:
            for thread in new:
                with contextlib.suppress(ProcessLookupError):
                    ptrace(SEIZE, thread, 0, OPTION_SYSGOOD | OPTION_CLONE)
                    ptrace(INTERRUPT, thread)
                self._threads.add(thread)

    def run(self) -> str:
        """Watch until the deed is done, or the time is over."""
        while True:
            try:
                thread, status = os.waitpid(-1, ALL | OWN_THREAD | os.WNOHANG)
            except ChildProcessError:
                return "the process has ended"
            if thread == 0:
                if self.is_over.is_set():
                    self._leave()
                    return f"over {self._count}"
                # Nothing is to be done now; a system call that waits is no stop.
                select.select([], [], [], 0.0005)
                continue
            self._threads.add(thread)
            if not os.WIFSTOPPED(status):
                self._threads.discard(thread)
                continue
            if (killed := self._look_at(thread, status)) is not None:
                return killed

    def _look_at(self, thread: int, status: int) -> str | None:
        number, event = os.WSTOPSIG(status), status >> 16
        deliver = 0
        try:
            if number == signal.SIGTRAP | 0x80:
                if (name := self._victim_is_at(thread)) is not None:
                    os.kill(self._pid, signal.SIGKILL)
                    return name
            elif not event:
                deliver = number
            ptrace(SYSCALL, thread, 0, deliver)
        except ProcessLookupError:
            self._threads.discard(thread)
        return None

    def _victim_is_at(self, thread: int) -> str | None:
        """Where it is to be killed now, if it is."""
        size = len(self._info)
        ptrace(GET_SYSCALL_INFO, thread, size, self._info)
        # struct ptrace_syscall_info: op, 3 bytes, arch, instruction pointer, stack pointer, then nr and six arguments.
        (kind,) = struct.unpack_from("B", self._info, 0)
        if kind == EXIT:
            if self._waited_for is not None and self._waited_for[0] == thread:
                return f"after {self._waited_for[1]}"
            return None
        if kind != ENTRY:
            return None
        call, *arguments = struct.unpack_from("7Q", self._info, 24)
        known = CALLS.get(call)
        if known is None or not known[1](tuple(arguments)):
            return None
        self._count += 1
        if self._count != self._number:
            return None
        if self._is_after:
            self._waited_for = (thread, known[0])
            return None
        return f"before {known[0]}"

    def _leave(self) -> None:
        for thread in self._threads:
            with contextlib.suppress(OSError):
                ptrace(INTERRUPT, thread)
        # Each has to stop before it can be let go; the end of this process lets go of what has not.
        for _ in range(len(self._threads)):
            with contextlib.suppress(OSError):
                thread, _ = os.waitpid(-1, ALL | OWN_THREAD)
                ptrace(DETACH, thread)


def main() -> int:
    if platform.machine() != "x86_64":
        sys.exit("error: the numbers of system calls are known of x86-64 alone")
    pid, number, when = sys.argv[1:]
    assassin = Assassin(int(pid), number=int(number), is_after=when == "after")
    assassin.attach()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        assassin.is_over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    print("ready", flush=True)
    print(assassin.run(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
