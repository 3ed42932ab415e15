"""The bytes between client and daemon: one JSON document a line, UTF-8.

The daemon speaks first: `{"version": "0.1.0", "build": "0123456789ab"}`. A request is `{"cmd": NAME, "opts": {...}}`.
Answers: any number of `{"status": true, "progress": TEXT}`, then one final `{"status": true, "response": ANY}` or
`{"status": false, "message": TEXT, "code": ..., "subject": ..., "holder": ...}`. Beside `response`, `changed` says
whether anything is different now, where something could be. What there is to ask for: `osctld.protocol`.

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
    "text"          "path",     {"text": TEXT}, all of the file, or {"error": TEXT}, also if the line would have more
                    "longest"   bytes than that

Either way, while a command runs on the client's descriptors, the client may send one line for each signal that it gets
and that is meant for the command, `{"signal": NUMBER}`; SIGWINCH says that its terminal has another size. After a
SIGTSTP the daemon says `{"status": true, "stop": true}` as soon as the terminal is as it was: the client stops then,
and sends SIGCONT when it continues. A signal that crosses with the end of its command is dropped.

`{"status": true, "print": TEXT}` is standard output that need not wait for the end.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class Greeting(msgspec.Struct, frozen=True):
    version: str
    build: str = "unknown"


class Request(msgspec.Struct, frozen=True):
    cmd: str
    opts: dict[str, Any]


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signal: Annotated[int, msgspec.Meta(ge=1, le=64)]


class CliRequest(msgspec.Struct, frozen=True):
    """A command line as it was typed.

    `columns` is the terminal's width, 0 when there is none; `terminal_type` is TERM of the client's environment;
    `version` and `build` are the client's.
    """

    argv: list[str]
    columns: int = 0
    stdout_is_terminal: bool = False
    terminal_type: str = ""
    version: str = "unknown"
    build: str = "unknown"


class CliResponse(msgspec.Struct, frozen=True):
    stdout: str = ""
    stderr: str = ""
    exit: int = 0
