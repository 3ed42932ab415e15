"""Who made a request, and how."""

from __future__ import annotations

import msgspec


class Person(msgspec.Struct, frozen=True):
    """Who made a request, according to the kernel's credentials of the process at the other end of the socket.

    `user` is its user id; `login` the id of the user who logged in before becoming that one, as the audit system keeps
    it; `process` its number. None where nobody knows.
    """

    user: int | None = None
    login: int | None = None
    process: int | None = None


#: The daemon itself, or an unrecorded person.
NOBODY = Person()


class Asked(msgspec.Struct, frozen=True):
    """A command as given, quoted for a shell, without secrets; and who gave it."""

    command_line: str
    by: Person = NOBODY
