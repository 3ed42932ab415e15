"""A router that answers solicitations with advertisements (RFC 4861), on one link of another network namespace.

It speaks only when it is asked: what a host has of it, the host has asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_SOLICITATION, _ADVERTISEMENT = 133, 134
#: linux/include/uapi/linux/icmpv6.h
_ICMPV6_FILTER = 1

_libc = ctypes.CDLL(None, use_errno=True)


class AdvertisingRouter:
    """Answers on `link` of the namespace `/run/netns/NAMESPACE` until it is closed. It needs a link-local address."""

    def __init__(self, namespace: str, link: str, *, prefix: str, lifetime_seconds: int = 1800) -> None:
        """`prefix` is a /64 from which who hears of it makes an address."""
        self._advertisement = struct.pack("!BBHBBHII", _ADVERTISEMENT, 0, 0, 64, 0, lifetime_seconds, 0, 0)
        self._advertisement += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 7200, 3600, 0)
        self._advertisement += socket.inet_pton(socket.AF_INET6, prefix)
        self._socket = _open(namespace, link)
        self._target = ("ff02::1", 0, 0, _in(namespace, lambda: socket.if_nametoindex(link)))
        #: When solicitations came, by time.monotonic().
        self.solicited: list[float] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def advertise(self) -> None:
        """Speak without having been asked."""
        self._socket.sendto(self._advertisement, self._target)

    def _answer(self) -> None:
        while not self._ends.is_set():
            ready, _, _ = select.select([self._socket], [], [], 0.05)
            if ready and self._socket.recv(2048)[0] == _SOLICITATION:
                self.solicited.append(time.monotonic())
                with contextlib.suppress(OSError):  # its link went, or has no address yet: it is asked again
                    self.advertise()


def _open(namespace: str, link: str) -> socket.socket:
    def work() -> socket.socket:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex(link)
        only = bytearray(b"\xff" * 32)
        only[_SOLICITATION >> 3] &= ~(1 << (_SOLICITATION & 7)) & 0xFF
        opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, bytes(only))
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        group = socket.inet_pton(socket.AF_INET6, "ff02::2") + struct.pack("=I", index)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        return opened

    return _in(namespace, work)


def _in(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a thread that is in a named network namespace, and ends with it."""

    def enter() -> T:
        descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()
