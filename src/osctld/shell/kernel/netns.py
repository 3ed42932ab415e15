"""Entering network namespaces without a fork.

A thread of its own enters, does one thing and ends. It never comes back, so nothing can be left in the wrong
namespace. A socket that it opened stays bound to the namespace and works from any thread. About 50 us.

An open socket keeps its namespace alive, and with it the links of a container that is long dead: close it soon.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import select
import socket
from collections.abc import Callable
from typing import TypeVar

#: linux/include/uapi/linux/sched.h
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def inside(namespace: int, work: Callable[[], T]) -> T:
    """Do something quick in a network namespace, given as a descriptor of it or as a pidfd of a process in it.

    Raises what `work` raises; ProcessLookupError when the process has ended, OSError when it may not be entered.
    """
    results: list[T] = []
    failures: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def enter_and_work() -> None:
        try:
            if _libc.setns(namespace, CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            failures.append(error)
        finally:
            done.release()

    # The bare module: threading.Thread costs twice as much, and nobody needs to find this one in a list.
    _thread.start_new_thread(enter_and_work, ())
    done.acquire()
    if failures:
        raise failures[0]
    return results[0]


def open_netlink(namespace: int) -> socket.socket:
    """Open an rtnetlink socket in a namespace; see `inside`."""
    return inside(namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0))


def open_namespace(descriptor: int) -> int:
    """Return a new descriptor of the network namespace that a descriptor (of it, or a pidfd) stands for.

    rtnetlink takes the namespace of a new link as a namespace descriptor, not as a pidfd. Raises
    ProcessLookupError when the process has ended.
    """
    pid = _pid_behind(descriptor)
    if pid is None:
        return os.dup(descriptor)
    if pid <= 0:
        raise ProcessLookupError
    try:
        opened = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError from None
    # The number may have been given to another process between the two look-ups; then the pidfd tells.
    # poll, because select takes no descriptor beyond 1023.
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    if ended.poll(0):
        os.close(opened)
        raise ProcessLookupError
    return opened


def is_gone(descriptor: int) -> bool:
    """Whether a namespace can no longer be entered by its descriptor; see `open_namespace`.

    The kernel takes a process's namespaces from it first, waits for the rest of the container, and only then tells
    that the process has ended.
    """
    try:
        os.close(open_namespace(descriptor))
    except ProcessLookupError:
        return True
    return False


def _pid_behind(descriptor: int) -> int | None:
    """The process id of a pidfd, -1 when the process is gone; None for another kind of descriptor (proc(5))."""
    information = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(information, 4096)
    finally:
        os.close(information)
    for line in text.splitlines():
        if line.startswith(b"Pid:"):
            return int(line.split()[1])
    return None
