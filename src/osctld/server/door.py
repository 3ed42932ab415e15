"""Access control: the kernel's credentials of a client, its role, and limits.

The credentials are those of the process that connected, kept by the kernel from that moment on: whoever is handed the
descriptor later has the rights of who opened it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import struct
from collections import Counter

import msgspec

from osctld.core.access import Access, Role, check_may
from osctld.core.command import Command, GlobalOptions, Reply, ViewCommand
from osctld.core.config.settings import SocketSettings
from osctld.core.errors import Denied, Unavailable
from osctld.core.person import Person
from osctld.server.ports import Caller, Performer

_SO_PEERGROUPS = 59  # asm-generic/socket.h, since Linux 4.13
#: struct ucred: process, user, group (unix(7)).
_CREDENTIALS = struct.Struct("iII")
_GROUP_BYTES = 4
#: Python's own getsockopt takes no larger buffer.
_LARGEST_BUFFER = 1024
#: (uid_t) -1: no login (AUDIT_UID_UNSET, linux/include/uapi/linux/audit.h).
_NO_LOGIN = 0xFFFFFFFF
_LONGEST_ID = 20
_MOST_GROUPS = 65536  # NGROUPS_MAX, linux/limits.h


class Peer(msgspec.Struct, frozen=True):
    """The process at the other end, as it was when it connected."""

    user: int
    groups: frozenset[int]
    process: int | None = None
    login: int | None = None

    @property
    def person(self) -> Person:
        return Person(self.user, self.login, self.process)


def peer_of(connection: socket.socket) -> Peer:
    """Ask the kernel who connected. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(credentials)
    groups = frozenset({group, *_supplementary_groups(connection)})
    # 0 where the process is in another process namespace, as of a client inside a container.
    return Peer(user, groups, process or None, _login_of(process) if process else None)


def _login_of(process: int) -> int | None:
    """The user who logged in; None without a login, as for services, or if the kernel has no audit system."""
    try:
        with open(f"/proc/{process}/loginuid", "rb", buffering=0) as file:
            login = int(file.read(_LONGEST_ID) or b"-1")
    except (OSError, ValueError):
        return None
    return login if 0 <= login < _NO_LOGIN else None


def _supplementary_groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LARGEST_BUFFER)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        packed = _very_many_groups(connection)
    return struct.unpack(f"{len(packed) // _GROUP_BYTES}I", packed)


def _very_many_groups(connection: socket.socket) -> bytes:
    buffer = ctypes.create_string_buffer(_MOST_GROUPS * _GROUP_BYTES)
    length = ctypes.c_uint(len(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, buffer, ctypes.byref(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return buffer.raw[: length.value]


class Limits(msgspec.Struct, frozen=True):
    """How much of the daemon clients may take. Times are in seconds, sizes in bytes."""

    connections: int = 1024
    connections_per_user: int = 64
    #: From the first byte of a request to its last.
    request_seconds: float = 60.0
    #: How long none of an answer may be taken.
    answer_seconds: float = 60.0
    longest_line: int = 1 << 24
    longest_line_of_reader: int = 1 << 20
    #: Answers that one user, not root, has not taken yet; a single one may be larger.
    answer_bytes_per_user: int = 1 << 26

    @classmethod
    def of(cls, settings: SocketSettings) -> Limits:
        return cls(
            connections=settings.connections,
            connections_per_user=settings.connections_per_user,
            request_seconds=settings.request_seconds,
            answer_seconds=settings.answer_seconds,
        )


class Door:
    """Lets clients in, one by one, and counts them."""

    def __init__(self, access: Access, limits: Limits) -> None:
        self.access = access
        self.limits = limits
        self._inside: Counter[int] = Counter()

    def admit(self, peer: Peer) -> Role:
        """The role of a client that may come in. Raises Denied or Unavailable for one that may not.

        Whoever was admitted has to `leave`.
        """
        role = self.access.role(user=peer.user, groups=peer.groups)
        if role is Role.NOBODY:
            raise Denied(f"permission denied: user {peer.user} may not use osctl", subject=str(peer.user))
        self._check_room(peer.user)
        self._inside[peer.user] += 1
        return role

    def leave(self, peer: Peer) -> None:
        self._inside[peer.user] -= 1
        if not self._inside[peer.user]:
            del self._inside[peer.user]

    def _check_room(self, user: int) -> None:
        there_are, most = self._inside.total(), self.limits.connections
        if not self.is_root(user):
            most -= most // 4  # who has to put things right gets in
            if self._inside[user] >= self.limits.connections_per_user:
                raise Unavailable(
                    f"user {user} already has the maximum of {self._inside[user]} connections to osctld "
                    "(socket.connections_per_user)",
                    code="too-many-connections", subject=str(user),
                )  # fmt: skip
        if there_are >= most:
            raise Unavailable(
                f"osctld already has the maximum of {there_are} connections (socket.connections)",
                code="too-many-connections",
            )

    def is_root(self, user: int) -> bool:
        return user in (0, self.access.daemon_user)


class ForReaders:
    """Performs what the read-only group may ask for, and refuses all else.

    Views are reckoned where everybody waits: one at a time, so that others have their turn between two of them.
    """

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._one = asyncio.Lock()

    async def perform(self, command: Command, options: GlobalOptions, caller: Caller) -> Reply:
        check_may(Role.READER, command)
        if not isinstance(command, ViewCommand):
            return await self._performer.perform(command, options, caller)
        async with self._one:
            await asyncio.sleep(0)
            return await self._performer.perform(command, options, caller)
