"""Write docs/commands.md from what the commands declare. With --check: only say whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from osctld.cli import help as cli_help
from osctld.cli.catalogue import Group, catalogue

FILE = Path(__file__).parent / "commands.md"
COLUMNS = 100
GLOBAL_OPTIONS = "global options"


def all_words(group: Group) -> Iterator[tuple[str, ...]]:
    """The words of each command, in the order of the help."""
    for word, child in group.children.items():
        if isinstance(child, Group):
            yield from all_words(child)
        else:
            yield (*group.words, word)


def render() -> str:
    lines = ["# Commands", "", "Made by `./dev docs` from the commands themselves; `osctl help COMMAND` says the same."]
    tail = ""
    for words in all_words(catalogue()):
        text, _, tail = cli_help.render(words, columns=COLUMNS).partition(f"{GLOBAL_OPTIONS}:")
        lines += ["", f"## osctl {' '.join(words)}", "", "```", text.strip(), "```"]
    lines += ["", "## Global options", "", "```", tail.strip("\n"), "```"]
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


def main() -> int:
    text = render()
    if "--check" in sys.argv[1:]:
        if FILE.exists() and FILE.read_text() == text:
            return 0
        print("docs/commands.md is not what the commands say: run ./dev docs", file=sys.stderr)
        return 1
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
