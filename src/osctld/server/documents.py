"""Lines to documents and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from osctld.cli.show import printable
from osctld.core.errors import OsctlError
from osctld.core.wire import Request, Signal

#: Characters of something wrong that are quoted back.
_LONGEST_QUOTE = 100
#: Bytes: a longer line cannot name a signal.
_LONGEST_SIGNAL_LINE = 100


def decode(line: bytes) -> Any:
    """Raises ValueError for what is not JSON."""
    try:
        return msgspec.json.decode(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.DecodeError:
        if b"\\u" not in line:
            raise ValueError("not JSON") from None
    # Words that are not UTF-8 travel as lone surrogates, which msgspec refuses as a whole; they have to be quoted back.
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def request(document: Any) -> Request | str:
    """A request, or what is wrong with it."""
    if not isinstance(document, dict):
        return "expected a JSON object"
    cmd, opts = document.get("cmd"), document.get("opts")
    if not isinstance(cmd, str):
        return "cmd: expected the name of a request"
    if opts is None:
        opts = {}
    if not isinstance(opts, dict):
        return "opts: expected an object"
    return Request(cmd, opts)


def signal_number(line: bytes) -> int | None:
    """The number in a line that names a signal; None for any other line."""
    if len(line) > _LONGEST_SIGNAL_LINE or b'"signal"' not in line:
        return None
    try:
        return msgspec.json.decode(line, type=Signal).signal
    except msgspec.DecodeError:
        return None


def encode(message: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        return json.dumps(message).encode()


def refusal(error: OsctlError) -> dict[str, Any]:
    """The last word on a request that was refused."""
    message = printable(error.message)
    return {"status": False, "message": message, "code": error.code, "subject": error.subject, "holder": error.holder}


def shortened(text: str) -> str:
    """Printable, and short enough to be quoted."""
    return printable(text[:_LONGEST_QUOTE]) + "..." * (len(text) > _LONGEST_QUOTE)


def internal_error(error: Exception) -> OsctlError:
    """The message for an unexpected error. The log has the details."""
    text = f"internal error ({type(error).__name__}: {shortened(str(error))}), see the log of osctld"
    return OsctlError(text, code="internal")
