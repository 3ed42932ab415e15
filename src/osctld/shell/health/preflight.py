"""What has to be there before the daemon can do anything: found out at its start, and told in one line."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from osctld.core.errors import Denied, Unavailable
from osctld.shell.kernel import nftables

#: What the daemon and LXC's programs cannot do without, by number (linux/include/uapi/linux/capability.h), and what
#: for. The unit gives these, and some more for what is rare or may be missing.
NEEDED_CAPABILITIES = {
    "CAP_CHOWN": (0, "the owners of guests' files"),
    "CAP_DAC_OVERRIDE": (1, "the files of guests"),
    "CAP_FOWNER": (3, "the modes of guests' files"),
    "CAP_KILL": (5, "ending guests"),
    "CAP_SETGID": (6, "id maps"),
    "CAP_SETUID": (7, "id maps"),
    "CAP_NET_ADMIN": (12, "links, routes and the packet filter"),
    "CAP_SYS_CHROOT": (18, "entering guests"),
    "CAP_SYS_PTRACE": (19, "the namespaces of guests"),
    "CAP_SYS_ADMIN": (21, "namespaces and mounts"),
}


def check() -> None:
    """Raise Denied or Unavailable, naming what is missing."""
    if os.geteuid() != 0:
        raise Denied(f"osctld must be started by root, not by user {os.geteuid()}", subject=str(os.geteuid()))
    effective = _effective_capabilities()
    for name, (number, purpose) in NEEDED_CAPABILITIES.items():
        if not effective >> number & 1:
            raise Denied(f"osctld lacks {name}, required for {purpose}", code="no-capability", subject=name)
    try:
        ctypes.CDLL(nftables.LIBRARY)
    except OSError:
        raise Unavailable(
            f"{nftables.LIBRARY} is missing; install nftables", code="no-nftables", subject=nftables.LIBRARY
        ) from None


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
