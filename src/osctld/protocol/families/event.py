"""Events as they happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from osctld.core.command import Look, Watch
from osctld.core.config.host import Host
from osctld.core.events import EventFilter
from osctld.protocol.request import LookRequest


class ShownEvent(msgspec.Struct, frozen=True):
    """`sequence` grows by each event, `time` is in seconds since 1970."""

    type: str
    opts: dict[str, Any]
    sequence: int
    time: float


class EventSubscribe(LookRequest, frozen=True, kw_only=True):
    """Answered by `subscribed`, and from then on by each event: those of one type or of several, with these values
    of its opts, each a value or an array of acceptable ones."""

    words: ClassVar[tuple[str, ...]] = ("event", "subscribe")
    answers: ClassVar[Any] = Literal["subscribed"] | ShownEvent

    type: str | tuple[str, ...] = ()
    opts: Mapping[str, Any] = {}

    def act(self, host: Host) -> Look:
        types = (self.type,) if isinstance(self.type, str) else self.type
        return Watch(EventFilter(types=types, opts=self.opts))
