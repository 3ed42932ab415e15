"""Write docs/commands.md, docs/man, docs/schema and the package's file of settings from what is declared.

With --check: only say if they are so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from osctld.cli import help as cli_help
from osctld.cli import manual, roff
from osctld.cli.catalogue import Group, catalogue
from osctld.cli.version import VERSION
from osctld.protocol.schemas import schemas

DOCS = Path(__file__).parent
SETTINGS = DOCS.parent / "packaging" / "osctld.toml"
#: Pages of the manual that are written by hand.
BY_HAND = ("osctl-routed.md", "osctl-bridged.md", "osctld.md")
COLUMNS = 100
GLOBAL_OPTIONS = "global options"


def all_words(group: Group) -> Iterator[tuple[str, ...]]:
    """The words of each command, in the order of the help."""
    for word, child in group.children.items():
        if isinstance(child, Group):
            yield from all_words(child)
        else:
            yield (*group.words, word)


def render_commands() -> str:
    lines = ["# Commands", "", "Made by `./dev docs` from the commands themselves; `osctl help COMMAND` says the same."]
    tail = ""
    for words in all_words(catalogue()):
        text, _, tail = cli_help.render(words, columns=COLUMNS).partition(f"{GLOBAL_OPTIONS}:")
        lines += ["", f"## osctl {' '.join(words)}", "", "```", text.strip(), "```"]
    lines += ["", "## Global options", "", "```", tail.strip("\n"), "```"]
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


def documents() -> dict[Path, str]:
    """All files that are made, and what they hold."""
    made = {DOCS / "commands.md": render_commands(), SETTINGS: manual.settings_file()}
    pages = manual.pages()
    for name in BY_HAND:
        file, text = roff.from_markdown((DOCS / name).read_text(), version=VERSION)
        pages[file] = text
    for name, schema in schemas().items():
        made[DOCS / "schema" / f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return made | {DOCS / "man" / name: text for name, text in pages.items()}


def main() -> int:
    made = documents()
    single = {each for each in (DOCS / "commands.md", SETTINGS) if each.exists()}
    there = {*single, *(DOCS / "man").glob("*"), *(DOCS / "schema").rglob("*.json")}
    stale = [file for file, text in made.items() if file not in there or file.read_text() != text]
    surplus = sorted(there - made.keys())
    if "--check" in sys.argv[1:]:
        for file in (*stale, *surplus):
            print(f"{file.relative_to(DOCS.parent)} is not what is declared: run ./dev docs", file=sys.stderr)
        return 1 if stale or surplus else 0
    for file in surplus:
        file.unlink()
    for file in stale:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made[file])
    return 0


if __name__ == "__main__":
    sys.exit(main())
