"""The manual: roff made from declarations and from a small Markdown."""

from __future__ import annotations

import re
import tomllib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.cli import roff
from osctld.cli.catalogue import Group, catalogue
from osctld.cli.help import render
from osctld.cli.manual import as_toml, declared_settings, default_settings, groups, page_name, pages, settings_file
from osctld.cli.parse import signature
from osctld.core.command import Argument
from osctld.core.config.settings import Settings, parse_settings

PAGES = pages()


def as_read(text: str) -> str:
    """The words of a page, as far as they are escaped without a font."""
    for written, read in (("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\(dq", '"')):
        text = text.replace(written, read)
    return re.sub(r"\s+", " ", re.sub(r"\\f[BIR]|\\&", "", text).replace("\\e", "\\"))


def test_there_is_a_page_for_every_group_of_commands_and_for_the_settings() -> None:
    assert set(PAGES) == {f"{page_name(group)}.8" for group in groups(catalogue())} | {"osctld.toml.5"}


@pytest.mark.parametrize("group", tuple(groups(catalogue())), ids=page_name)
def test_a_page_says_what_help_says_of_each_command(group: Group) -> None:
    text = as_read(PAGES[f"{page_name(group)}.8"])

    for command in group.children.values():
        if isinstance(command, Group):
            assert f"{page_name(command)}(8)" in text
            continue
        # Help shows the same, wrapped.
        for line in render(command.words, columns=1000).partition("global options:")[0].splitlines():
            said = [part for part in re.split(r" {2,}", line.removeprefix("usage: ").strip()) if part]
            for part in said:
                if part not in ("arguments:", "options:", "fields:", "examples:"):
                    assert part in text, part
        for each in signature(command).options:
            assert not isinstance(each.declaration, Argument)
            assert each.declaration.help in text


def test_the_settings_that_the_manual_shows_are_those_without_a_file() -> None:
    shown = default_settings()

    assert parse_settings(shown, file="osctld.toml") == Settings()
    assert all(line in as_read(PAGES["osctld.toml.5"]) for line in shown.split("\n"))


@pytest.mark.parametrize("declared", declared_settings(), ids=lambda each: f"{each.table}.{each.key}")
def test_every_setting_is_described_in_sentences(declared: object) -> None:
    description = getattr(declared, "description", "")

    assert description[0].isupper()
    assert description.endswith(".")
    assert "`" not in description


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**62), 2**62) | st.text("abc /.:-", max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    )
)
def test_a_default_is_shown_as_a_file_of_settings_would_have_it(value: object) -> None:
    assert tomllib.loads(f"key = {as_toml(value)}") == {"key": value}


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_no_text_is_taken_for_an_order_to_roff(text: str) -> None:
    escaped = roff.escaped(text)

    assert not escaped.startswith((".", "'"))
    assert as_read(escaped) == re.sub(r"\s+", " ", text)


def test_a_page_may_be_written_in_markdown() -> None:
    text = """# osctl-x(7): what x is

## One

Some *words* with `--code` in
two lines. And [a link](README.md).

```
# typed -x

.shown
```

### Two

- first
- second, **longer**
  than a line

1. once

| what | is |
|---|---|
| `a` | A thing |
"""

    file, page = roff.from_markdown(text, version="9")

    assert file == "osctl-x.7"
    assert page.splitlines() == [
        *('.TH "OSCTL-X" "7" "" "osctl 9" "osctl"', ".nh", ".ad l"),
        *('.SH "NAME"', "osctl\\-x \\- what x is", '.SH "ONE"', ".PP"),
        *("Some \\fIwords\\fR with \\fB\\-\\-code\\fR in two lines.", "And a link."),
        *(".PP", ".RS 4", ".EX", "# typed \\-x", "\\&", "\\&.shown", ".EE", ".RE"),
        *('.SS "Two"', '.IP "\\(bu" 2', "first", '.IP "\\(bu" 2', "second, \\fBlonger\\fR than a line"),
        *('.IP "1." 4', "once", ".TP", "\\fBa\\fR", "A thing"),
    ]


@pytest.mark.parametrize("text", ["no title", "# x: y", "# osctl-x(7): x\n\n| a | b |\n|---|---|\n| a | b | c |"])
def test_what_cannot_be_a_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        roff.from_markdown(text, version="9")


def test_the_file_of_settings_that_a_package_brings_changes_nothing_until_a_line_is_uncommented() -> None:
    text = settings_file()

    assert parse_settings(text, file="osctld.toml") == Settings()
    uncommented = re.sub(r"(?m)^#(?=\S)", "", text)
    assert parse_settings(uncommented, file="osctld.toml") == Settings()
    for each in declared_settings():
        assert re.search(rf"(?m)^#\s?{each.key} (= |is unset)", text), each.key
