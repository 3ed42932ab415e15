"""Who asked for something, and how."""

from __future__ import annotations

import msgspec


class Person(msgspec.Struct, frozen=True):
    """Who asked, as the kernel says of the process at the other end of the socket.

    `user` is its user id; `login` the id of the user who logged in before becoming that one, as the audit system keeps
    it; `process` its number. None where nobody knows.
    """

    user: int | None = None
    login: int | None = None
    process: int | None = None


#: The daemon itself, or a person of whom nothing was kept.
NOBODY = Person()


class Asked(msgspec.Struct, frozen=True):
    """A command as it was given, as a shell would take it, without what is secret; and by whom."""

    command_line: str
    by: Person = NOBODY
