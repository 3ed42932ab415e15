"""Sockets that receive the kernel's notifications of changes, and filters that let relevant ones through.

A filter (classic BPF, bpf(4)) runs in the kernel for each message: a dropped message does not wake the daemon.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from osctld.shell.kernel.netlink import SO_RCVBUFFORCE, SOL_NETLINK

NETLINK_ADD_MEMBERSHIP = 1
#: linux/include/uapi/linux/rtnetlink.h, in the order of their numbers
RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE = 1, 3, 5, 7
RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF = 9, 11, 24, 25
#: linux/include/uapi/asm-generic/socket.h
SO_ATTACH_FILTER = 26

#: Bytes of each receive buffer; the kernel doubles it, and accounts 800 to 4000 for a message.
BUFFER = 1 << 20
LARGEST_DATAGRAM = 1 << 16

# What loads see: the first bytes of a message. struct nlmsghdr, behind it struct rtmsg or struct ndmsg.
TYPE, FLAGS, PORT = 4, 6, 12
ROUTE_FAMILY, ROUTE_LENGTH, ROUTE_TABLE, ROUTE_PROTOCOL, ROUTE_TYPE = 16, 17, 20, 21, 23
ROUTE_ATTRIBUTES = 28
NEIGHBOUR_STATE = 24

# Instructions of classic BPF (linux/include/uapi/linux/bpf_common.h). Loads turn bytes as from the network's order.
LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
JUMP_EQUAL, JUMP_ANY_BIT, _RETURN = 0x15, 0x45, 0x06
# The same with the index register: what is loaded stands so many bytes behind it. How it is filled, and added.
LOAD_WORD_BEHIND, LOAD_BYTE_BEHIND, LOAD_VALUE, INDEX_VALUE, INDEX, ADD_INDEX = 0x40, 0x50, 0x00, 0x01, 0x07, 0x0C
ADD, AND = 0x04, 0x54
#: Where to load from to be given the place of an attribute: the first of the kind that the index register says, from
#: the place on that was loaded before; 0 for none (SKF_AD_OFF + SKF_AD_NLATTR of linux/include/uapi/linux/filter.h).
PLACE_OF_ATTRIBUTE = 0xFFFFF000 + 12
_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if not, value

#: A label, or an instruction with the labels where it continues; an empty one is the next instruction.
Step: TypeAlias = str | tuple[int, int, str, str]


def assemble(steps: Sequence[Step]) -> bytes:
    """Turn steps into instructions; `accept` and `drop` are the labels of two more at the end."""
    places: dict[str, int] = {}
    instructions: list[tuple[int, int, str, str]] = []
    for step in steps:
        if isinstance(step, str):
            places[step] = len(instructions)
        else:
            instructions.append(step)
    places |= {"accept": len(instructions), "drop": len(instructions) + 1}
    code = b""
    for position, (operation, value, then, otherwise) in enumerate(instructions, start=1):
        jumps = [places[label] - position if label else 0 for label in (then, otherwise)]
        code += _INSTRUCTION.pack(operation, *jumps, value)
    return code + _INSTRUCTION.pack(_RETURN, 0, 0, LARGEST_DATAGRAM) + _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def attach(opened: socket.socket, instructions: bytes) -> None:
    """Give a socket a filter, in the place of one that it has."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog of linux/include/uapi/linux/filter.h: how many, and where.
    program = struct.pack("HP", len(instructions) // _INSTRUCTION.size, ctypes.addressof(code))
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def listening(protocol: int, groups: Iterable[int], instructions: bytes) -> socket.socket:
    """A socket in these groups, with a filter, in the namespace of the caller. It never blocks."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    try:
        try:
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        attach(opened, instructions)
        opened.bind((0, 0))
        for group in groups:  # not before the filter is there
            opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        opened.close()
        raise
    return opened


def was_told(news: socket.socket, buffer: bytearray) -> bool:
    """Drain such a socket into one buffer; return whether there was anything, and whether messages were lost.

    For those who look again, whatever it was. Raises OSError.
    """
    was_anything = False
    while True:
        try:
            news.recv_into(buffer)
        except BlockingIOError:
            return was_anything
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        was_anything = True
