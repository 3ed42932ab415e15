"""A client of the command socket of an LXC monitor.

An abstract Unix stream socket in the network namespace in which `lxc-start` ran. One request a connection:
`struct {int command; int data_length; void *data}` and the data, answered by `struct {int result; int data_length;
uint64 data}` and the data (lxc: src/lxc/commands.c; the same bytes from 5.0.2 to 7.0.0).

While a container is being started its monitor accepts but does not answer, so every question takes a time limit.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
from enum import IntEnum

from osctld.shell.process.pidfds import wait_readable

_HEADER = struct.Struct("=iiQ")
_CREDENTIALS = struct.Struct("=iii")
_LONGEST_ANSWER = 1 << 16

# sun_path holds 108 bytes (unix(7)); LXC takes the hashed name when this does not fit with its leading and final NUL.
_LONGEST_NAME = 106


class Command(IntEnum):
    GET_CGROUP = 6
    GET_INIT_PIDFD = 18


class NotRunning(Exception):
    """No monitor listens: the container does not run, or its monitor is at its end."""


class Answer:
    """Result of a command, its data, and the descriptors that came along (owned by whoever asked)."""

    def __init__(self, *, result: int, value: int, data: bytes, descriptors: tuple[int, ...]) -> None:
        self.result = result
        self.value = value
        self.data = data
        self.descriptors = descriptors


def fnv64a(data: bytes) -> int:
    """Return the 64 bit FNV-1a hash (draft-eastlake-fnv)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def socket_name(lxc_path: str, container: str) -> bytes:
    """Return the abstract address of a container's command socket, leading NUL included."""
    name = os.fsencode(f"{lxc_path}/{container}/command")
    if len(name) > _LONGEST_NAME:
        name = b"lxc/%016x/command" % fnv64a(os.fsencode(f"{lxc_path}/{container}"))
    return b"\0" + name


def has_monitor(lxc_path: str, container: str) -> bool:
    """Tell at once whether a monitor listens (it may be starting, running or stopping a container)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        try:
            connection.connect(socket_name(lxc_path, container))
        except BlockingIOError:
            return True  # its queue is full, so it exists
        except ConnectionRefusedError:
            return False
    return True


async def ask(lxc_path: str, container: str, *, command: Command, data: bytes = b"", timeout_seconds: float) -> Answer:
    """Put one question to a container's monitor.

    Raises NotRunning when none listens or it hangs up without an answer, TimeoutError when it stays silent.
    """
    async with asyncio.timeout(timeout_seconds):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            while True:
                try:
                    connection.connect(socket_name(lxc_path, container))
                    break
                except ConnectionRefusedError as error:
                    raise NotRunning(container) from error
                except BlockingIOError:
                    # A full queue of an AF_UNIX listener: no descriptor tells when there is room again.
                    await asyncio.sleep(0.005)
            # Explicit credentials: without them they are missing when the monitor sets SO_PASSCRED after it has
            # accepted, and the request is denied now and then.
            credentials = _CREDENTIALS.pack(os.getpid(), os.getuid(), os.getgid())
            try:
                connection.sendmsg(
                    [_HEADER.pack(command, len(data), 0) + data],
                    [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)],
                )
                return await _answer(connection, container)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise NotRunning(container) from error


async def _answer(connection: socket.socket, container: str) -> Answer:
    received = b""
    descriptors: list[int] = []
    try:
        while True:
            if len(received) >= _HEADER.size:
                result, length, value = _HEADER.unpack_from(received)
                wanted = _HEADER.size + (length if result == 0 and 0 < length < _LONGEST_ANSWER else 0)
                if len(received) >= wanted:
                    answer = Answer(
                        result=result,
                        value=value,
                        data=received[_HEADER.size : wanted],
                        descriptors=tuple(descriptors),
                    )
                    descriptors = []
                    return answer
            await wait_readable(connection.fileno(), timeout_seconds=None)
            with contextlib.suppress(BlockingIOError):
                chunk, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
                for level, kind, content in ancillary:
                    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                        passed = array.array("i")
                        passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
                        descriptors.extend(passed)
                if not chunk:
                    raise NotRunning(container)
                received += chunk
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def init_pidfd(lxc_path: str, container: str, *, timeout_seconds: float) -> int:
    """Return a pidfd of the container's first process, owned by the caller.

    Raises NotRunning if there is none (any longer), and TimeoutError.
    """
    answer = await ask(lxc_path, container, command=Command.GET_INIT_PIDFD, timeout_seconds=timeout_seconds)
    if answer.result != 0 or not answer.descriptors:
        raise NotRunning(container)
    for surplus in answer.descriptors[1:]:
        os.close(surplus)
    return answer.descriptors[0]


async def payload_cgroup(lxc_path: str, container: str, *, controller: str, timeout_seconds: float) -> str | None:
    """Return the path of the container's cgroup below the mount of a controller's hierarchy, None when unknown.

    For cgroup version 2 the controller is the empty name. Raises NotRunning and TimeoutError.
    """
    try:
        answer = await ask(
            lxc_path,
            container,
            command=Command.GET_CGROUP,
            data=controller.encode() + b"\0",
            timeout_seconds=timeout_seconds,
        )
    except NotRunning:
        # The monitor hangs up on a controller that it does not know, too.
        if not has_monitor(lxc_path, container):
            raise
        return None
    for descriptor in answer.descriptors:
        os.close(descriptor)
    path = os.fsdecode(answer.data.rstrip(b"\0"))
    return path if answer.result == 0 and path else None
