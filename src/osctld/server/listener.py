"""The listening socket, and all connections that it brought."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Mapping

from osctld.core.access import Access, Role
from osctld.core.errors import OsctlError, Refused
from osctld.server.connection import Connection
from osctld.server.documents import encode, refusal
from osctld.server.door import Door, ForReaders, Limits, peer_of
from osctld.server.ports import Performer

log = logging.getLogger("osctld")

_BACKLOG = 512
#: Seconds until connections are accepted again after descriptors ran out.
_ACCEPT_PAUSE = 0.5


class Server:
    """Listens on a Unix socket and answers until closed."""

    def __init__(
        self, performer: Performer, path: str, *, access: Access | None = None, limits: Limits | None = None
    ) -> None:
        """Without `access`, root alone may connect."""
        self.performer = performer
        self.path = path
        self._door = Door(access or Access(), limits or Limits())
        self._for_readers = ForReaders(performer)
        self._listener: socket.socket | None = None
        self._inode = 0
        #: Whether the service manager keeps the socket while there is no daemon: its file then has to stay.
        self.is_kept = False
        self._connections: dict[Connection, asyncio.Task[None]] = {}

    def start(self, kept: Mapping[str, socket.socket] | None = None) -> None:
        """Listen: on the one of the `kept` sockets that a daemon before us made at this path, or on a new one.

        Whoever calls this holds the daemon's lock: a socket file that is there is a dead daemon's. Kept sockets of no
        use are closed. Raises Refused when the path is too long or something else is there, OSError when the socket
        cannot be made.
        """
        self._listener = self._adopt(kept or {}) or self._make()
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    @property
    def listener(self) -> socket.socket:
        assert self._listener is not None
        return self._listener

    @property
    def name(self) -> str:
        """By which the socket is kept: it says which file it belongs to, should that be another one some day."""
        return f"osctld-{self._inode}"

    def _adopt(self, kept: Mapping[str, socket.socket]) -> socket.socket | None:
        with contextlib.suppress(FileNotFoundError):
            self._inode = os.lstat(self.path).st_ino
        adopted = None
        for name, each in kept.items():
            if name == self.name and each.getsockname() == self.path:
                adopted = each
            else:
                each.close()
        if adopted is not None:
            adopted.setblocking(False)
            self._open_to(self._door.access)
            adopted.listen(_BACKLOG)  # whoever does is the one that clients see (SO_PEERCRED)
        return adopted

    def _make(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            # The mode of an unbound socket is that of the file made by bind: no moment in which others may connect,
            # and no umask changed under other threads (unix_bind in linux/net/unix/af_unix.c).
            os.fchmod(listener.fileno(), 0o600)
            _remove_stale_socket(self.path)
            _bind(listener, self.path)
            self._inode = os.stat(self.path).st_ino
            self._open_to(self._door.access)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _open_to(self, access: Access) -> None:
        if access.group is not None:
            os.chown(self.path, -1, access.group)
        os.chmod(self.path, access.mode)

    async def close(self, *, grace_seconds: float = 10.0) -> None:
        """Accept nothing more, let running requests finish for a while, cancel what is left, remove the socket
        unless it is kept for the next daemon."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            if not self.is_kept:
                self._remove_socket()
        for connection in list(self._connections):
            connection.finish()
        tasks = set(self._connections.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=grace_seconds)

    def _remove_socket(self) -> None:
        try:
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            log.error("cannot accept a connection: %s", error)
            # Out of descriptors or memory: the waiting client keeps the listener readable, and the loop would spin.
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(_ACCEPT_PAUSE, self._accept_again)
            return
        try:
            peer = peer_of(accepted)
            role = self._door.admit(peer)
        except OsctlError as error:
            _turn_away(accepted, error)
            return
        except OSError as error:
            log.error("cannot identify a client: %s", error)
            accepted.close()
            return
        connection = Connection(
            accepted,
            self.performer if role is Role.OPERATOR else self._for_readers,
            peer=peer, role=role, limits=self._door.limits, may_keep=self._may_keep,
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(connection.serve())
        connection.task = task
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._leave(connection))

    def _leave(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._door.leave(connection.peer)

    def _may_keep(self, connection: Connection) -> bool:
        """Whether what a client has not taken yet may be kept: one answer of any length, several up to a limit."""
        user = connection.peer.user
        of_user = (each for each in self._connections if each.peer.user == user)
        others = sum(each.unsent_bytes for each in of_user if each is not connection)
        most = self._door.limits.answer_bytes_per_user
        return self._door.is_root(user) or not others or others + connection.unsent_bytes <= most

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)


def _turn_away(connection: socket.socket, error: OsctlError) -> None:
    """Say why, as far as that goes at once, and close."""
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(encode(refusal(error)) + b"\n")


def _remove_stale_socket(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused(f"{path!r}: exists and is not a socket", code="socket-path", subject=path)
    os.unlink(path)


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno is not None:
            raise
        # Python's own check against sun_path, 108 bytes with the final NUL (unix(7)); it has no errno.
        raise Refused(
            f"{path!r}: too long for a socket (at most 107 bytes)", code="socket-path", subject=path
        ) from None
