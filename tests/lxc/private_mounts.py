"""Mounts that nobody sees but the thread of one test, and what it executes."""

from __future__ import annotations

import ctypes
import subprocess

CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)


def in_private_mount_namespace() -> None:
    """Leave the mount namespace of the other threads for one of this thread's own. Its mounts end with the test."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def mount(source: str, target: str, *, options: str) -> None:
    kind = ["-t", source] if "/" not in source else []
    subprocess.run(["mount", *kind, "-o", options, source, target], check=True)
