"""What happened: events, numbered without end, and who wants to hear of which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. `sequence` grows with each event, also over restarts of the daemon; `time` is in
    seconds since 1970. `type` and `opts` are what programs match on."""

    sequence: int
    time: float
    type: str
    opts: Mapping[str, Any]


#: Type and opts of what happened, before it gets a number and a time.
Happening: TypeAlias = tuple[str, Mapping[str, Any]]


def plain_fields(command: msgspec.Struct, *, secret: Collection[str] = ()) -> dict[str, Any]:
    """What a command was given, as plain values, for those who listen; without the fields that are secret."""
    fields = {name: getattr(command, name) for name in command.__struct_fields__ if name not in secret}
    # What was not given says nothing.
    given = {name: value for name, value in fields.items() if value not in (None, (), "", UNSET)}
    plain: dict[str, Any] = msgspec.to_builtins(given)
    return plain


class EventFilter(msgspec.Struct, frozen=True):
    """Which events somebody wants: of these types (all when empty), and with these values of opts.

    A wanted value is one value or a tuple of acceptable ones.
    """

    types: tuple[str, ...] = ()
    opts: Mapping[str, Any] = {}

    def accepts(self, event: Event) -> bool:
        if self.types and event.type not in self.types:
            return False
        for name, wanted in self.opts.items():
            acceptable = wanted if isinstance(wanted, (tuple, list)) else (wanted,)
            if event.opts.get(name) not in acceptable:
                return False
        return True
