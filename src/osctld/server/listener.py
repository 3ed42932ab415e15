"""The listening socket, and all connections that it brought."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat

from osctld.core.errors import Refused
from osctld.server.connection import Connection
from osctld.server.ports import Performer

log = logging.getLogger("osctld")

_SOCKET_MODE = 0o600
_BACKLOG = 512
#: Seconds until connections are accepted again after descriptors ran out.
_ACCEPT_PAUSE = 0.5


class Server:
    """Listens on a Unix socket and answers until closed."""

    def __init__(self, performer: Performer, path: str) -> None:
        self.performer = performer
        self.path = path
        self._listener: socket.socket | None = None
        self._inode = 0
        self._connections: dict[Connection, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Listen. Whoever calls this holds the daemon's lock: a socket file that is there is a dead daemon's.

        Raises Refused when the path is too long or something else is there, OSError when it cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            # The mode of an unbound socket is that of the file made by bind: no moment in which others may connect,
            # and no umask changed under other threads (unix_bind in linux/net/unix/af_unix.c).
            os.fchmod(listener.fileno(), _SOCKET_MODE)
            _remove_stale_socket(self.path)
            _bind(listener, self.path)
            self._inode = os.stat(self.path).st_ino
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    async def close(self, *, grace_seconds: float = 10.0) -> None:
        """Accept nothing more, let running requests finish for a while, cancel what is left, remove the socket."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
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
        connection = Connection(accepted, self.performer)
        task = asyncio.get_running_loop().create_task(connection.serve())
        connection.task = task
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection, None))

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)


def _remove_stale_socket(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused(f"{path!r} is in the way: not a socket", code="socket-path", subject=path)
    os.unlink(path)


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno is not None:
            raise
        # Python's own check against sun_path, 108 bytes with the final NUL (unix(7)); it has no errno.
        raise Refused(
            f"{path!r} is too long for a socket: 107 bytes at most", code="socket-path", subject=path
        ) from None
