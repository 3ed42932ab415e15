"""The daemon itself."""

from __future__ import annotations

from typing import Any, ClassVar

from osctld.commands.self_shutdown import SelfShutdown as ShutdownCommand
from osctld.core.command import Action, Observed, Reply, Text
from osctld.core.config.host import Host
from osctld.protocol.request import ActRequest, ViewRequest


class SelfPing(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("self", "ping")
    answers: ClassVar[Any] = str

    def view(self, host: Host, observed: Observed) -> Reply:
        return Text(("pong",))

    def response(self, reply: Reply) -> Any:
        assert isinstance(reply, Text)
        return reply.lines[0]


class SelfShutdown(ActRequest, frozen=True, kw_only=True):
    """There is no confirmation prompt: that is up to interactive clients."""

    words: ClassVar[tuple[str, ...]] = ("self", "shutdown")

    def act(self, host: Host) -> Action:
        return ShutdownCommand(force=True).act(host)
