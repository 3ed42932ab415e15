"""The service manager: notifications (sd_notify(3)), and sockets that it keeps for us while we are restarted.

A listening socket that is kept continues to queue clients while there is no daemon, and the next daemon answers them
(FileDescriptorStoreMax= in systemd.service(5)). When the service is stopped rather than restarted it is dropped.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

#: The first descriptor that is passed on (SD_LISTEN_FDS_START, sd-daemon.h).
_FIRST = 3
#: Beats in the time after which the service manager loses its patience: one may come late.
_BEATS = 4


def notify(state: str, *descriptors: int) -> bool:
    """Notify the service manager, if there is one, and pass descriptors to it. Returns whether there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendmsg([state.encode()], passed)
        return True
    return False


def take_kept_sockets() -> Mapping[str, socket.socket]:
    """The kept sockets, by the names that `keep` gave them. The caller owns them from now on."""
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    is_for_us = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    if not is_for_us:
        return {}
    kept = {}
    for name, descriptor in zip(names, range(_FIRST, _FIRST + count), strict=False):
        os.set_inheritable(descriptor, False)
        kept[name] = socket.socket(fileno=descriptor)
    return kept


def keep(listener: socket.socket, name: str) -> bool:
    """Have a socket kept, unless it is already. Says whether it may be, by what we can know."""
    # Not polled: what it would look for, that the other side hung up, a socket that listens does not have.
    return notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", listener.fileno())


def drop(name: str) -> None:
    """Have a socket of that name kept no more."""
    notify(f"FDSTOREREMOVE=1\nFDNAME={name}")


def watchdog_seconds() -> float | None:
    """How long this process may be silent before it is killed as hung; None: for ever (sd_watchdog_enabled(3))."""
    try:
        seconds = int(os.environ["WATCHDOG_USEC"]) / 1e6
        is_for_us = int(os.environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except (KeyError, ValueError):
        return None
    return seconds if is_for_us and seconds > 0 else None


async def feed_watchdog() -> None:
    """Notify periodically that the event loop is running: from inside it, so that the notifications stop if it
    hangs."""
    seconds = watchdog_seconds()
    while seconds is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / _BEATS)
