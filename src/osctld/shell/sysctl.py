"""Settings of the kernel's network stack, read and written below /proc/sys/net."""

from __future__ import annotations

from pathlib import Path

from osctld.shell.netlink import Answer

ROOT = Path("/proc/sys/net")


def read(path: str) -> str | None:
    """The value of a setting of the caller's namespace; None when there is none of the name."""
    try:
        return (ROOT / path).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def write(path: str, value: str) -> Answer:
    """Set a value, in the namespace of the caller."""
    try:
        (ROOT / path).write_text(value, encoding="ascii")
    except OSError as error:
        return Answer(error.errno or 1, f"{error.strerror}: /proc/sys/net/{path}")
    return Answer(0)
