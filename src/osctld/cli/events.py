"""An event as one line: for eyes as the original's `monitor` prints it, for programs as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from osctld.cli.show import printable
from osctld.core.events import Event


def event_line(event: Event, *, is_json: bool) -> str:
    """One line, with its end."""
    if is_json:
        return f"{msgspec.json.encode(event).decode()}\n"
    opts = event.opts
    match event.type:
        case "state":
            words = [event.type, *(_word(opts.get(name)) for name in ("pool", "id", "state"))]
        case "management":
            named = (("id", "id"), ("state", "state"), ("command", "cmd"), ("opts", "opts"))
            words = [event.type, *(f"{name}={_word(opts.get(key))}" for name, key in named)]
        case _:
            words = [event.type, *(f"{name}={_word(value)}" for name, value in opts.items())]
    return f"{' '.join(words)}\n"


def _word(value: Any) -> str:
    return printable(value if isinstance(value, str) else msgspec.json.encode(value).decode())
