"""What people read uses the words of docs/words.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = ROOT / "docs/words.md"


def _forbidden() -> list[str]:
    table = GLOSSARY.read_text().partition("## Words that are not used")[2]
    rows = [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| ")][1:]
    return [word for row in rows for word in re.sub(r"\(.*?\)", "", row).split(", ")]


def _read_by_people() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from (path for path in (ROOT / "docs").glob("*.md") if path != GLOSSARY)
    yield from (ROOT / "packaging").glob("*.toml")
    yield from (ROOT / "src").rglob("*.py")  # help texts and messages among them


@pytest.mark.parametrize("word", _forbidden())
def test_nothing_that_people_read_has_a_word_that_the_glossary_gives_up(word: str) -> None:
    # Line breaks of prose count as spaces.
    pattern = re.compile(rf"\b{re.escape(word.strip())}\b".replace(r"\ ", r"\s+(?:#\s+)?"), re.IGNORECASE)

    found = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, each.start()) + 1}: {each.group()}"
        for path in _read_by_people()
        for text in [path.read_text()]
        for each in pattern.finditer(text)
    ]

    assert found == []


def test_a_word_that_is_given_up_is_found_where_a_line_breaks() -> None:
    assert "speaks from" in _forbidden()
    assert len(_forbidden()) == len(set(_forbidden()))


_ERRORS = {"ApplyFailed", "Conflict", "Denied", "Refused", "Unavailable", "UsageError"}


def _messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The lines of errors that are raised, and their text with {} for each value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ERRORS and node.args:
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            texts = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            yield node.lineno, "".join(texts)


def test_errors_have_one_kind_of_quotes() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in (ROOT / "src").rglob("*.py")
        for line, text in _messages(ast.parse(path.read_text()))
        if '"{}' in text
    ]

    assert found == []
