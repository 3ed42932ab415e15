"""All commands, found by sweeping `osctld.commands`, as a tree of words.

There is no registration: a command exists because its file does. A file is named by the words of the one command in it,
joined by `_`, with dashes as `_`. Of which there is one for each type of something, by the words before that.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType

import msgspec

import osctld.commands
from osctld.core.command import Command


class Group(msgspec.Struct, frozen=True):
    """Words that need another word: `ct netif` of `ct netif ls`. The group without words is the root."""

    words: tuple[str, ...]
    children: Mapping[str, Group | type[Command]]


@functools.cache
def catalogue() -> Group:
    """The tree of all commands of this installation."""
    return build_tree(find_commands(osctld.commands))


def find_commands(package: ModuleType) -> tuple[type[Command], ...]:
    """Import every module of a package and return the one command that each defines, or the commands that its function
    `commands` gives, sorted by words.

    Raises TypeError when a module defines none or several, or is not named by the words of its command.
    """
    found: list[type[Command]] = []
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        found.extend(_commands_of(module, module_info.name))
    return tuple(sorted(found, key=lambda each: each.words))


def build_tree(commands: Iterable[type[Command]]) -> Group:
    """Order commands by their words.

    Raises TypeError when two commands have the same words, or the words of one begin with those of another: then an
    argument could not be distinguished from a subcommand.
    """
    return _group((), {each: each.words for each in commands})


def _group(words: tuple[str, ...], commands: Mapping[type[Command], tuple[str, ...]]) -> Group:
    depth = len(words)
    by_word: dict[str, dict[type[Command], tuple[str, ...]]] = {}
    for command, its_words in commands.items():
        if len(its_words) <= depth:
            raise TypeError(f"{' '.join(its_words)!r} is a command and a group of commands")
        by_word.setdefault(its_words[depth], {})[command] = its_words
    children: dict[str, Group | type[Command]] = {}
    for word, inner in sorted(by_word.items()):
        ends_here = [command for command, its_words in inner.items() if len(its_words) == depth + 1]
        if ends_here and len(inner) > 1:
            raise TypeError(f"{' '.join((*words, word))!r} belongs to {len(inner)} commands")
        children[word] = ends_here[0] if ends_here else _group((*words, word), inner)
    return Group(words, MappingProxyType(children))


def _commands_of(module: ModuleType, file_name: str) -> tuple[type[Command], ...]:
    made = vars(module).get("commands")
    if callable(made):
        found: tuple[type[Command], ...] = tuple(made())
        for each in found:
            if file_name != _joined(each.words[:-1]):
                words = " ".join(each.words)
                raise TypeError(f"{module.__name__} holds {words!r}: all words but the last name its file")
        return found
    own = [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, Command)
        and each.__module__ == module.__name__
        and "words" in vars(each)
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} defines {len(own)} commands instead of one")
    expected = _joined(own[0].words)
    if file_name != expected:
        raise TypeError(f"{module.__name__} holds {' '.join(own[0].words)!r}: the file's name must be {expected}.py")
    return (own[0],)


def _joined(words: Iterable[str]) -> str:
    return "_".join(words).replace("-", "_")
