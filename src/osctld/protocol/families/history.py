"""What was changed."""

from __future__ import annotations

import shlex
from typing import Any, ClassVar, TypedDict

import msgspec

from osctld.cli.parse import Invocation, parse
from osctld.commands.history import History
from osctld.core.command import Listing, Look, Reply, secret_fields
from osctld.core.config.host import Host
from osctld.core.errors import OsctlError
from osctld.core.events import plain_fields
from osctld.protocol.request import LookRequest, check_pool


class HistoryRow(TypedDict):
    """`time` in whole seconds since 1970. `cmd` names the request, `opts` are what it was given, without what may be
    secret, and as `cli` what was typed, which the original's client shows."""

    time: int
    cmd: str
    opts: dict[str, Any]
    pool: str


class HistoryList(LookRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("history", "list")
    answers: ClassVar[Any] = list[HistoryRow]

    pools: tuple[str, ...] = ()

    def act(self, host: Host) -> Look:
        for pool in (self.pool, *self.pools):
            check_pool(pool)
        return History().act(host)

    def response(self, reply: Reply) -> Any:
        assert isinstance(reply, Listing)
        return [
            {"time": int(row["epoch"]), "cmd": cmd, "opts": {**opts, "cli": row["command"]}, "pool": row["pool"]}
            for row in reply.rows
            for cmd, opts in (_request(row["command"]),)
        ]


def _request(line: str) -> tuple[str, dict[str, Any]]:
    """What a line of the history asked for: the name and what it was given.

    A line that was typed is read as a command line; any other is a request's name and its opts, as JSON.
    """
    try:
        parsed = parse(shlex.split(line)[1:])
    except (OsctlError, ValueError):  # typed by a program that says what it likes
        parsed = None
    if isinstance(parsed, Invocation):
        command = parsed.command
        return "_".join(command.words), plain_fields(command, secret=secret_fields(type(command)))
    name, _, opts = line.partition(" ")
    try:
        return name, msgspec.json.decode(opts, type=dict[str, Any])
    except msgspec.DecodeError:
        return name, {}
