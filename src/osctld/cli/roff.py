"""Text for man(1): the macros of groff's man(7), and a small Markdown for handwritten pages.

Of Markdown there is what our pages need: headings, paragraphs, lists, fenced blocks, tables of two columns, and
`code`, **bold**, *italic* and [links](target) within a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\([^)]+\)")
_TITLE = re.compile(r"# (\S+)\((\d)\): (.+)")
_ITEM = re.compile(r"(?:-|\d+\.) +(.*)")
_ROW = re.compile(r"\| (.*?) +\| (.*?) +\|$")


def escaped(text: str) -> str:
    """Text escaped for roff: a backslash, a dash or a dot at the beginning has no special meaning."""
    plain = _plain(text)
    return f"\\&{plain}" if plain[:1] in (".", "'") else plain


def _plain(text: str) -> str:
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return plain.replace("^", "\\(ha").replace("~", "\\(ti").replace('"', "\\(dq")


def bold(text: str) -> str:
    return f"\\fB{escaped(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{escaped(text)}\\fR"


def header(name: str, section: int, *, version: str) -> list[str]:
    """The first line of a page. Without a date, so that a page changes only with what it says."""
    return [f'.TH "{name.upper()}" "{section}" "" "osctl {version}" "osctl"', ".nh", ".ad l"]


def section(title: str) -> list[str]:
    return [f'.SH "{title.upper()}"']


def subsection(title: str) -> list[str]:
    return [f'.SS "{escaped(title)}"']


def paragraph(text: str) -> list[str]:
    return [".PP", _filled(escaped(" ".join(text.split())))]


def entry(term: str, text: str) -> list[str]:
    """A term, already in roff, with its meaning indented below."""
    return [".TP", term, _filled(escaped(text)) if text else "\\&"]


def literal(lines: Iterable[str]) -> list[str]:
    """Lines as they are: what is typed and what is shown."""
    return [".PP", ".RS 4", ".EX", *(escaped(line) or "\\&" for line in lines), ".EE", ".RE"]


def page(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def from_markdown(text: str, *, version: str) -> tuple[str, str]:
    """A handwritten page: the name of its file, `osctl-routed.7`, and its roff.

    Its first line is `# NAME(SECTION): what it is about`. Raises ValueError when it is not, or for a table that has
    not two columns.
    """
    lines = text.splitlines()
    title = _TITLE.fullmatch(lines[0])
    if title is None:
        raise ValueError(f"{lines[0]!r} is not: # NAME(SECTION): what it is about")
    name, number, about = title.groups()
    roff = [*header(name, int(number), version=version), *section("name"), f"{escaped(name)} \\- {escaped(about)}"]
    for block in _blocks(lines[1:]):
        roff += _block(block)
    return f"{name}.{number}", page(roff)


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines that belong together; a fenced block is one, whatever is in it."""
    block: list[str] = []
    is_fenced = False
    for line in lines:
        if line.startswith("```"):
            is_fenced = not is_fenced
            if is_fenced and block:
                yield block
                block = []
            block.append(line)
            if not is_fenced:
                yield block
                block = []
        elif is_fenced or line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _block(lines: Sequence[str]) -> list[str]:
    first = lines[0]
    if first.startswith("```"):
        return literal(lines[1:-1])
    if first.startswith("## "):
        return section(first.removeprefix("## "))
    if first.startswith("### "):
        return subsection(first.removeprefix("### "))
    if first.startswith("|"):
        return _table(lines)
    if _ITEM.match(first):
        return _list(lines)
    return [".PP", _inline(" ".join(lines))]


def _list(lines: Sequence[str]) -> list[str]:
    items: list[str] = []
    for line in lines:
        item = _ITEM.match(line)
        if item is not None:
            items.append(item[1])
        else:
            items[-1] += f" {line.strip()}"
    is_numbered = lines[0][0].isdigit()
    roff = []
    for number, words in enumerate(items, start=1):
        roff += [f'.IP "{number}." 4' if is_numbered else '.IP "\\(bu" 2', _inline(words)]
    return roff


def _table(lines: Sequence[str]) -> list[str]:
    """A table of two columns: what a row is about, and what is said of it. The heading is for readers of Markdown."""
    roff = []
    for line in lines[2:]:
        row = _ROW.fullmatch(line)
        if row is None or "|" in row[2]:
            raise ValueError(f"{line!r} is not a row of two columns")
        roff += [".TP", _inline(row[1]), _inline(row[2])]
    return roff


def _inline(text: str) -> str:
    roff, end = "", 0
    for found in _INLINE.finditer(text):
        code, strong, emphasis, link = found.groups()
        roff += _plain(text[end : found.start()])
        if emphasis is not None:
            roff += italic(emphasis)
        else:
            roff += escaped(link) if link is not None else bold(code or strong)
        end = found.end()
    roff += _plain(text[end:])
    return _filled(f"\\&{roff}" if roff[:1] in (".", "'") else roff)


def _filled(text: str) -> str:
    """A sentence begins a line: roff knows the space behind it then, and a change shows what it changed."""
    return re.sub(r"(?<=[a-z)\]RN][.:]) (?=[A-Z\\])", "\n", text)
