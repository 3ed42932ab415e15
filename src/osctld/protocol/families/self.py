"""The daemon itself."""

from __future__ import annotations

from typing import Any, ClassVar

from osctld.core.command import Observed, Reply, Text
from osctld.core.host import Host
from osctld.protocol.request import ViewRequest


class SelfPing(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("self", "ping")
    answers: ClassVar[Any] = str

    def view(self, host: Host, observed: Observed) -> Reply:
        return Text(("pong",))

    def response(self, reply: Reply) -> Any:
        assert isinstance(reply, Text)
        return reply.lines[0]
