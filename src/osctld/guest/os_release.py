"""os-release(5): which distribution is inside. The tenant writes it, so it is only compared with known names."""

from __future__ import annotations

import re

import msgspec

_LINE = re.compile(r"""^[ \t]*(ID|ID_LIKE)=(?:"([^"\n]*)"|'([^'\n]*)'|([^\s"']*))[ \t]*\r?$""", re.MULTILINE)
#: As os-release(5) has it, and short enough for a message.
_ID = re.compile(r"[a-z0-9._-]{1,40}", re.ASCII)


class OsRelease(msgspec.Struct, frozen=True):
    """`name` is its own, empty if it has none; `names` with those of the distributions that it resembles."""

    name: str = ""
    names: frozenset[str] = frozenset()


def parse_os_release(text: str) -> OsRelease:
    """Names that are none are left out; the last line of a kind counts, as in a shell."""
    values = {key: double or single or bare for key, double, single, bare in _LINE.findall(text)}
    name = values.get("ID", "").lower()
    name = name if _ID.fullmatch(name) else ""
    alike = [each for each in values.get("ID_LIKE", "").lower().split()[:20] if _ID.fullmatch(each)]
    return OsRelease(name, frozenset(each for each in (name, *alike) if each))
