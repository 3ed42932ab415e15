"""Which boot of the host this is, and in which network namespace: what does not outlive either is gone with it."""

from __future__ import annotations

import socket
from pathlib import Path

#: linux/include/uapi/asm-generic/socket.h; Python 3.11 does not know it. A number that no other namespace of the same
#: boot ever has, unlike the inode, which the next namespace may get again. From kernel 5.14.
_SO_NETNS_COOKIE = 71


def boot_identity() -> str:
    """Equal for two runs exactly when the host was not rebooted between them and they share a network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sample:
        cookie = int.from_bytes(sample.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
    return f"{boot} {cookie}"
