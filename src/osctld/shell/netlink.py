"""rtnetlink: messages packed, sent in batches, and every answer read.

Formats and numbers are those of linux/include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,neighbour,veth}.h. A batch
is no transaction: after a message that fails the later ones still run, so each is acknowledged and read on its own.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK = 0x1, 0x2, 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1

SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12

#: Bytes of the socket buffers. An answer takes about 832 bytes of the receive buffer; the default one holds 256.
BUFFER = 8 << 20
#: Messages in one send, so that all their answers fit.
BATCH = 2000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NLA_TYPE_MASK = 0x3FFF


class Message(NamedTuple):
    """A request: type, flags beside NLM_F_REQUEST, and what follows the header."""

    kind: int
    flags: int
    body: bytes


class Answer(NamedTuple):
    """What the kernel said of one message: errno 0 for yes; `text` is its own explanation, often empty."""

    errno: int
    text: str = ""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Parse attributes; flags in the type (nested, byte order) are dropped."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class ResultUnknown(Exception):
    """Answers were lost (ENOBUFS), although the kernel did the work: look again."""


class NetlinkSocket:
    """One rtnetlink socket; it belongs to the namespace it was opened in, whoever uses it."""

    def __init__(self, opened: socket.socket | None = None) -> None:
        self._socket = opened or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        for forced, usual in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, usual, BUFFER)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, messages: Sequence[Message]) -> list[Answer | None]:
        """Send messages in order; one answer for each, None where the answer was lost."""
        answers: list[Answer | None] = []
        for start in range(0, len(messages), BATCH):
            answers.extend(self._send_batch(messages[start : start + BATCH]))
        return answers

    def _send_batch(self, messages: Sequence[Message]) -> list[Answer | None]:
        first = self._sequence + 1
        packed = bytearray()
        for message in messages:
            self._sequence += 1
            packed += _HEADER.pack(
                16 + len(message.body),
                message.kind,
                message.flags | NLM_F_REQUEST | NLM_F_ACK,
                self._sequence,
                0,
            )
            packed += message.body
            packed += b"\0" * (-len(message.body) % 4)
        self._socket.send(packed)
        answers: list[Answer | None] = [None] * len(messages)
        missing = len(messages)
        while missing:
            try:
                data = self._socket.recv(1 << 18)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # Some answers are gone; those that are queued can still be read, the rest stays unknown.
                self._drain(answers, first)
                break
            missing -= _read_answers(data, answers, first)
        return answers

    def _drain(self, answers: list[Answer | None], first: int) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            _read_answers(data, answers, first)

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """All objects of a kind that the kernel's filter in `body` lets through: what follows each header.

        Raises OSError, in the kernel's words; an empty dump where what is asked about does not exist.
        """
        while True:
            try:
                return iter(self._dump_once(kind, body))
            except InterruptedError:
                continue

    def _dump_once(self, kind: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        flags = NLM_F_REQUEST | NLM_F_DUMP
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags, self._sequence, 0) + body)
        found: list[bytes] = []
        was_interrupted = False
        while True:
            data = self._socket.recv(1 << 20)
            for length, message_kind, message_flags, sequence, offset in _messages(data):
                if sequence != self._sequence:
                    continue
                was_interrupted |= bool(message_flags & 0x10)  # NLM_F_DUMP_INTR: changed meanwhile
                if message_kind in (NLMSG_ERROR, NLMSG_DONE):
                    (negative,) = struct.unpack_from("=i", data, offset + 16)
                    if negative:
                        if -negative in (errno.ENODEV, errno.ENOENT):
                            return []
                        text = _explanation(data, offset, length, message_flags, body_length=4)
                        raise OSError(-negative, text or os.strerror(-negative))
                    if was_interrupted:
                        raise InterruptedError
                    return found
                found.append(data[offset + 16 : offset + length])

    def get(self, kind: int, body: bytes) -> bytes | None:
        """One object; None where there is none. Raises OSError otherwise."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(16 + len(body), kind, NLM_F_REQUEST, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 18)
            for length, message_kind, _, sequence, offset in _messages(data):
                if sequence != self._sequence:
                    continue
                if message_kind == NLMSG_ERROR:
                    (negative,) = struct.unpack_from("=i", data, offset + 16)
                    if -negative in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENETUNREACH):
                        return None
                    raise OSError(-negative, os.strerror(-negative))
                return data[offset + 16 : offset + length]


def _messages(data: bytes) -> Iterable[tuple[int, int, int, int, int]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield length, kind, flags, sequence, offset
        offset += (length + 3) & ~3


def _read_answers(data: bytes, answers: list[Answer | None], first: int) -> int:
    read = 0
    for length, kind, flags, sequence, offset in _messages(data):
        index = sequence - first
        if kind != NLMSG_ERROR or not 0 <= index < len(answers) or answers[index] is not None:
            continue
        (negative,) = struct.unpack_from("=i", data, offset + 16)
        answers[index] = Answer(-negative, _explanation(data, offset, length, flags, body_length=4 + 16))
        read += 1
    return read


def _explanation(data: bytes, offset: int, length: int, flags: int, *, body_length: int) -> str:
    """The text of an extended acknowledgement, behind the error number and the (capped) request header."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    found = attributes(data[offset + 16 + body_length : offset + length])
    return found.get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
