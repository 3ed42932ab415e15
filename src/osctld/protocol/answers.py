"""A reply to what a program gets: `response`, what goes ahead as progress, and whether anything changed."""

from __future__ import annotations

from typing import Any

import msgspec

from osctld.core.command import Command, ExitStatus, GlobalOptions, Listing, Reply, Text, ViewCommand
from osctld.protocol.request import Request


class Answer(msgspec.Struct, frozen=True):
    """`changed` is None where nothing could change. `progress` is for people; it goes ahead."""

    response: Any
    changed: bool | None = None
    progress: tuple[str, ...] = ()


def answer(reply: Reply, command: Command, options: GlobalOptions) -> Answer:
    changed = reply.changed if isinstance(reply, Text) and not isinstance(command, ViewCommand) else None
    if options.dry_run and isinstance(reply, Text):
        return Answer({"plan": list(reply.lines)}, changed)
    if isinstance(command, Request):
        lines = reply.lines if isinstance(reply, Text) and not isinstance(command, ViewCommand) else ()
        return Answer(command.response(reply), changed, progress=lines)
    match reply:
        case Listing(rows=rows, is_record=True):
            return Answer(dict(rows[0]))
        case Listing(rows=rows, notes=notes):
            return Answer([dict(row) for row in rows], progress=notes)
        case Text(lines=lines):
            return Answer(list(lines), changed)
        case ExitStatus(status=status):
            return Answer({"exitstatus": status})
