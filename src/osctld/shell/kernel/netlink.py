"""Netlink: messages framed, sent in batches, and every answer read.

Formats and numbers are those of linux/include/uapi/linux/netlink.h. A batch is not a transaction: after a message that
fails the later ones still run. Only the last one asks for an acknowledgement: the kernel works through a batch in
order, inside the send, and answers a message that fails whether or not it was asked to. So with the last answer in
hand, no answer to an earlier message means success; unless answers were lost, which the socket reports (ENOBUFS).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1

SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
#: linux/include/uapi/asm-generic/socket.h; beyond the limits in /proc/sys/net/core, for CAP_NET_ADMIN.
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33

#: Bytes of the socket buffers that are asked for.
BUFFER = 8 << 20
#: Bytes of the receive buffer that an answer is accounted with, measured: 832; with a long explanation 1344.
_ANSWER_COST = 1344
#: Messages per send: more are not faster, and hold the kernel's lock longer.
_LARGEST_BATCH = 4000
#: The kernel makes no datagram larger than 32 KiB (netlink_dump in linux/net/netlink/af_netlink.c).
_LARGEST_DATAGRAM = 1 << 16
#: How often a dump is tried again that was interrupted by changes, before it is given up.
_DUMP_ATTEMPTS = 100

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_I32 = struct.Struct("=i")
U32 = struct.Struct("=I")
_U16 = struct.Struct("=H")
_NLA_TYPE_MASK = 0x3FFF


class Answer(NamedTuple):
    """What the kernel said of one message: errno 0 for yes; `text` is its own explanation, often empty."""

    errno: int
    text: str = ""


YES = Answer(0)


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


def attribute_of(data: bytes, wanted: int, offset: int = 0) -> bytes | None:
    """One attribute of many, without parsing those behind it."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        if kind & _NLA_TYPE_MASK == wanted:
            return data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return None


def message(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
    """A request. `body` is a multiple of four bytes long, as structures and attributes are."""
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


class NetlinkSocket:
    """One rtnetlink socket; it belongs to the namespace it was opened in, whoever uses it."""

    def __init__(self, opened: socket.socket | None = None) -> None:
        self._socket = opened or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        for forced, usual in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, usual, BUFFER)
        # So that it has a port from the beginning.
        self._socket.bind((0, 0))
        room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        #: How many messages to send at once: if all of them fail, the answers still fit.
        self.batch = max(16, min(_LARGEST_BATCH, room // _ANSWER_COST))
        self._sequence = 0
        self._buffer = bytearray(_LARGEST_DATAGRAM)

    @property
    def port(self) -> int:
        """The port number that the kernel gave the socket, which appears in notifications of our requests."""
        return int(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reserve(self, count: int) -> int:
        """The first of this many unused sequence numbers."""
        if self._sequence + count > 0xFFFF_FFFF:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    # --- changes --------------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[bytes], *, first: int, count: int) -> dict[int, Answer | None]:
        """Send messages in order, with sequence numbers among the `count` ones from `first`, the last message the
        highest. Several of one size may stand together.

        Returns by position (sequence - first) the answers that are not plain acknowledgements: refusals, and None for
        messages whose answer was lost, so that what became of them is unknown.
        """
        packed = bytearray(b"".join(messages))
        (size_of_last,) = U32.unpack_from(messages[-1])
        last = len(packed) - size_of_last
        _, _, flags, highest, _ = HEADER.unpack_from(packed, last)
        _U16.pack_into(packed, last + 6, flags | NLM_F_ACK)
        try:
            self._socket.send(packed)
        except OSError as error:
            # The kernel took none of it.
            refusal = Answer(error.errno or errno.EIO, "the message could not be sent")
            return dict.fromkeys(range(count), refusal)
        answers: dict[int, Answer | None] = {}
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return self._drained(answers, first, count)
            if self._read_answers(size, answers, first, count, highest):
                return answers

    def _drained(self, answers: dict[int, Answer | None], first: int, count: int) -> dict[int, Answer | None]:
        """Some answers are gone. Those that are queued can still be read; of the rest nothing is known."""
        while True:
            try:
                size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            self._read_answers(size, answers, first, count, None)
        return {position: answers.get(position) for position in range(count)}

    def _read_answers(
        self, size: int, answers: dict[int, Answer | None], first: int, count: int, highest: int | None
    ) -> bool:
        """Note what one datagram says; True when the answer to the highest number was in it."""
        was_last = False
        for length, kind, flags, sequence, offset in messages(self._buffer, size):
            if kind != NLMSG_ERROR or not 0 <= sequence - first < count:
                continue
            (negative,) = _I32.unpack_from(self._buffer, offset + 16)
            if negative or highest is None:
                text = _explanation(self._buffer, offset, length, flags, body_length=4 + 16) if negative else ""
                answers[sequence - first] = Answer(-negative, text)
            was_last |= sequence == highest
        return was_last

    def transact(self, messages: Sequence[bytes], *, first: int, count: int) -> dict[int, Answer]:
        """Send messages that are one transaction, and read what is said of those that asked for an answer.

        The kernel answers inside the send. Returns answers by position; what is not there was lost.
        """
        try:
            self._socket.send(b"".join(messages))
        except OSError as error:
            refusal = Answer(error.errno or errno.EIO, "the message could not be sent")
            return dict.fromkeys(range(count), refusal)
        return {position: answer for position, answer in self._drained({}, first, count).items() if answer is not None}

    # --- questions ------------------------------------------------------------------------------------------------

    def dump(self, kind: int, body: bytes) -> Sequence[bytes]:
        """All objects of a kind that the kernel's filter in `body` lets through: what follows each header.

        Empty where what is asked about does not exist. Raises OSError in the kernel's words, InterruptedError
        when the objects change faster than they can be listed.
        """
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump_once(kind, body)
            if found is not None:
                return found
        raise InterruptedError(errno.EINTR, "the kernel's tables change faster than they can be read")

    def _dump_once(self, kind: int, body: bytes) -> list[bytes] | None:
        """None when there were changes meanwhile, so that objects may be missing or be there twice."""
        sequence = self.reserve(1)
        self._socket.send(message(kind, NLM_F_DUMP, body, sequence))
        found: list[bytes] = []
        was_interrupted = False
        buffer = self._buffer
        while True:
            size = self._socket.recv_into(buffer)
            for length, answered, flags, number, offset in messages(buffer, size):
                if number != sequence:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    was_interrupted = True
                if answered in (NLMSG_ERROR, NLMSG_DONE):
                    _check(buffer, offset, length, flags, answered, nothing=(errno.ENODEV, errno.ENOENT))
                    return None if was_interrupted else found
                found.append(bytes(buffer[offset + 16 : offset + length]))

    def first_of_dump(self, kind: int, body: bytes) -> list[bytes]:
        """The first part of a dump. The socket is of no more use afterwards, for the rest would follow."""
        sequence = self.reserve(1)
        self._socket.send(message(kind, NLM_F_DUMP, body, sequence))
        buffer = self._buffer
        size = self._socket.recv_into(buffer)
        return [
            bytes(buffer[offset + 16 : offset + length])
            for length, answered, _, number, offset in messages(buffer, size)
            if number == sequence and answered not in (NLMSG_ERROR, NLMSG_DONE)
        ]

    def find_in_dump(self, kind: int, body: bytes, is_wanted: Callable[[bytes], bool]) -> bool:
        """Whether an object of a dump is wanted. When one is, the socket is of no more use: the rest would follow."""
        for _ in range(_DUMP_ATTEMPTS):
            found = self._find_once(kind, body, is_wanted)
            if found is not None:
                return found
        raise InterruptedError(errno.EINTR, "the kernel's tables change faster than they can be read")

    def _find_once(self, kind: int, body: bytes, is_wanted: Callable[[bytes], bool]) -> bool | None:
        """None when none was found and there were changes meanwhile, so that objects may be missing."""
        sequence = self.reserve(1)
        self._socket.send(message(kind, NLM_F_DUMP, body, sequence))
        was_interrupted = False
        buffer = self._buffer
        while True:
            size = self._socket.recv_into(buffer)
            for length, answered, flags, number, offset in messages(buffer, size):
                if number != sequence:
                    continue
                was_interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if answered in (NLMSG_ERROR, NLMSG_DONE):
                    _check(buffer, offset, length, flags, answered, nothing=(errno.ENODEV, errno.ENOENT))
                    return None if was_interrupted else False
                if is_wanted(bytes(buffer[offset + 16 : offset + length])):
                    return True

    def get(self, kind: int, body: bytes) -> bytes | None:
        """One object; None where there is none. Raises OSError, in the kernel's words."""
        sequence = self.reserve(1)
        self._socket.send(message(kind, 0, body, sequence))
        while True:
            size = self._socket.recv_into(self._buffer)
            for length, answered, flags, number, offset in messages(self._buffer, size):
                if number != sequence:
                    continue
                if answered == NLMSG_ERROR:
                    nothing = (errno.ENODEV, errno.ENOENT, errno.ESRCH)
                    _check(self._buffer, offset, length, flags, answered, nothing=nothing)
                    return None
                return bytes(self._buffer[offset + 16 : offset + length])

    def get_each(self, kind: int, bodies: Sequence[bytes]) -> list[bytes | None]:
        """One object for each of some dozens of requests that are sent at once; None where the kernel has none to tell,
        for whatever reason."""
        found: list[bytes | None] = [None] * len(bodies)
        if not bodies:
            return found
        first = self.reserve(len(bodies))
        self._socket.send(b"".join(message(kind, 0, body, first + number) for number, body in enumerate(bodies)))
        missing = set(range(len(bodies)))
        while missing:
            size = self._socket.recv_into(self._buffer)
            for length, answered, _, number, offset in messages(self._buffer, size):
                position = number - first
                if position in missing:
                    missing.remove(position)
                    if answered != NLMSG_ERROR:
                        found[position] = bytes(self._buffer[offset + 16 : offset + length])
        return found


def first_of_dump(kind: int, body: bytes) -> list[bytes]:
    """The first objects of a dump, at least some dozens if there are so many; none if it is refused.

    The beginning of a long list costs the same as that of a short one. By a socket of its own, in the namespace of the
    caller: the kernel lets go of the rest when that is closed.
    """
    with NetlinkSocket() as through:
        return through.first_of_dump(kind, body)


def any_in_dumps(kind: int, bodies: Iterable[bytes], is_wanted: Callable[[bytes], bool]) -> list[bool]:
    """For each of these dumps, whether one of its objects is wanted. None is read any further than to the first such.

    By sockets of their own, in the namespace of the caller. Raises OSError as `NetlinkSocket.dump` does.
    """
    found = []
    through = NetlinkSocket()
    try:
        for body in bodies:
            is_found = through.find_in_dump(kind, body, is_wanted)
            if is_found:
                # The kernel lets go of the rest.
                through.close()
                through = NetlinkSocket()
            found.append(is_found)
    finally:
        through.close()
    return found


def messages(data: bytearray, size: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Length, type, flags, sequence and offset of each message in a datagram."""
    offset = 0
    while offset + 16 <= size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield length, kind, flags, sequence, offset
        offset += (max(length, 16) + 3) & ~3


def _check(data: bytearray, offset: int, length: int, flags: int, kind: int, *, nothing: Sequence[int]) -> None:
    """Raise what an error or the end of a dump says, unless it says that there is nothing."""
    (negative,) = _I32.unpack_from(data, offset + 16) if length >= 20 else (0,)
    if not negative or -negative in nothing:
        return
    # The end of a dump repeats no request header.
    text = _explanation(data, offset, length, flags, body_length=4 if kind == NLMSG_DONE else 4 + 16)
    raise OSError(-negative, text or os.strerror(-negative))


def _explanation(data: bytearray, offset: int, length: int, flags: int, *, body_length: int) -> str:
    """The text of an extended acknowledgement, behind the error number and the (capped) request header."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    found = attributes(bytes(data[offset + 16 + body_length : offset + length]))
    return found.get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
