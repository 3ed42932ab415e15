"""The bytes between client and daemon: one JSON document a line, UTF-8.

The daemon speaks first: `{"version": "0.1.0"}`. A request is `{"cmd": NAME, "opts": {...}}`. Answers: any number of
`{"status": true, "progress": TEXT}`, then one final `{"status": true, "response": ANY}` or `{"status": false,
"message": TEXT, "code": ..., "subject": ..., "holder": ...}`. Beside `response`, `changed` says whether anything is
different now, where something could be. What there is to ask for: `osctld.protocol`.

Where a command runs on the client's own descriptors, its answer is `{"status": true, "response": "continue"}` first.
The client then sends standard input, output and error, each with one byte that means nothing (SCM_RIGHTS), and gets
its last answer when the command has ended.

The command line is one such command, `cli`: opts are those of `CliRequest`, the response is a `CliResponse`.
Meanwhile the daemon may ask for something that only the client can give, `{"status": true, "need": ...}`; the client
answers each with one line:

    need            more keys   the client's answer
    "stdin"                     {"stdin": TEXT}, all of its standard input
    "descriptors"               {"descriptors": 3} with its standard input, output and error attached (SCM_RIGHTS)
    "file"          "path"      {"descriptors": 1} with the opened file attached, or {"error": TEXT}

`{"status": true, "print": TEXT}` is standard output that need not wait for the end.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Greeting(msgspec.Struct, frozen=True):
    version: str


class Request(msgspec.Struct, frozen=True):
    cmd: str
    opts: dict[str, Any]


class CliRequest(msgspec.Struct, frozen=True):
    """A command line as it was typed, and where. `columns` is the terminal's width, 0 when there is none."""

    argv: list[str]
    cwd: str = "/"
    columns: int = 0
    stdout_is_terminal: bool = False


class CliResponse(msgspec.Struct, frozen=True):
    stdout: str = ""
    stderr: str = ""
    exit: int = 0
