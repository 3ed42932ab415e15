"""Commands are found by their files."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

import osctld.commands
from osctld.cli.catalogue import build_tree, find_commands
from osctld.cli.parse import signature
from osctld.core.command import ActCommand, Command, EditCommand, ViewCommand

#: A sweep over nothing must not pass. Raise it as commands are added.
FEWEST_COMMANDS = 20


def test_every_file_of_the_commands_is_one_command_of_one_kind_with_a_readable_declaration() -> None:
    commands = find_commands(osctld.commands)

    assert len(commands) >= FEWEST_COMMANDS
    for each in commands:
        assert issubclass(each, EditCommand | ViewCommand | ActCommand), each
        assert each.__doc__, each
        declared = signature(each)
        assert all(parameter.declaration.help for parameter in (*declared.arguments, *declared.options)), each


class _Package:
    """A package of commands in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "made_commands").mkdir()
        self.add("__init__", "")

    def add(self, name: str, text: str) -> None:
        (self.directory / "made_commands" / f"{name}.py").write_text(textwrap.dedent(text))

    def load(self) -> ModuleType:
        return importlib.import_module("made_commands")


@pytest.fixture
def package(tmp_path: Path) -> Iterator[_Package]:
    sys.path.insert(0, str(tmp_path))
    yield _Package(tmp_path)
    sys.path.remove(str(tmp_path))
    for name in [each for each in sys.modules if each.partition(".")[0] == "made_commands"]:
        del sys.modules[name]


ONE = """
    from typing import ClassVar
    from osctld.core.command import ViewCommand

    class One(ViewCommand, frozen=True, kw_only=True):
        words: ClassVar[tuple[str, ...]] = ("ct", "dns-resolver", "set")
"""


def test_a_file_is_named_by_the_words_with_dashes_as_underscores(package: _Package) -> None:
    package.add("ct_dns_resolver_set", ONE)

    (found,) = find_commands(package.load())

    assert found.words == ("ct", "dns-resolver", "set")


def test_a_file_by_another_name_is_an_error(package: _Package) -> None:
    package.add("ct_dns", ONE)

    with pytest.raises(TypeError, match=r"must be ct_dns_resolver_set\.py"):
        find_commands(package.load())


def test_a_file_without_a_command_is_an_error(package: _Package) -> None:
    package.add("ct_dns", "")

    with pytest.raises(TypeError, match="defines 0 commands instead of one"):
        find_commands(package.load())


def _command(*its_words: str) -> type[Command]:
    class Made(Command, frozen=True, kw_only=True):
        words: ClassVar[tuple[str, ...]] = its_words

    return Made


def test_a_command_cannot_be_a_group_too() -> None:
    with pytest.raises(TypeError, match="'ct' belongs to 2 commands"):
        build_tree((_command("ct"), _command("ct", "ls")))
    with pytest.raises(TypeError, match="'ct ls' belongs to 2 commands"):
        build_tree((_command("ct", "ls"), _command("ct", "ls")))
