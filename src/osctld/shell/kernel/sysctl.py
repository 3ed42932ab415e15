"""Settings of the kernel's network stack, read and written below /proc/sys/net.

What is there depends on the network namespace of the thread that looks.
"""

from __future__ import annotations

import os

from osctld.shell.kernel.netlink import YES, Answer

ROOT = "/proc/sys/net/"


def read(path: str) -> str | None:
    """The value of a setting in the caller's namespace; None when there is none of the name."""
    try:
        opened = os.open(ROOT + path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(opened, 4096).decode("ascii", "replace").strip()
        finally:
            os.close(opened)
    except FileNotFoundError:
        # Also of one that is open: settings of a link go with it.
        return None


def write(path: str, value: str) -> Answer:
    """Set a value in the caller's namespace."""
    try:
        opened = os.open(ROOT + path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(opened, value.encode())
        finally:
            os.close(opened)
    except OSError as error:
        return Answer(error.errno or 1, ROOT + path)
    return YES
