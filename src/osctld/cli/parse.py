"""A command line to a command: a pure function of the words.

What a command takes is declared once, by its annotated fields (`osctld.core.command`); the parser, the help and the
manual are driven by that declaration. Why it is our own: docs/adr/0005-own-argument-parser.md.
"""

from __future__ import annotations

import functools
import itertools
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from osctld.cli.catalogue import Group, catalogue
from osctld.core.command import Argument, Command, Flag, GlobalOptions, Option
from osctld.core.errors import UsageError

#: Other names of words, wherever the word itself may stand.
ALIASES = {"vps": "ct", "list": "ls", "create": "new", "delete": "del", "net": "netif", "info": "show"}

#: Commands of the original that are not here, and what says or does the same.
ELSEWHERE = {
    "ct pid": "osctl ct ls -H -o id,init_pid, and nsenter(1) or /proc/PID/cgroup for what runs inside",
    "ct log": "the file log/ct/CT.log below the state directory (osctl -j self status), or journalctl -u osctld",
    "pool": "nothing; there is only one pool, default",
    "user": "osctl ct ls -o id,user,uid_offset; ct new --user creates a user",
    "group": "osctl ct ls -o id,group; there is one group, /default",
}

#: More digits than any number that a person means; Python refuses to read thousands of them.
_MOST_DIGITS = 18


class Invocation(msgspec.Struct, frozen=True):
    """A command to perform."""

    command: Command
    options: GlobalOptions


class HelpRequest(msgspec.Struct, frozen=True):
    """Help was asked for: of a command or a group of commands, () for all."""

    words: tuple[str, ...]


class VersionRequest(msgspec.Struct, frozen=True):
    """The version was asked for."""


class MissingSubcommand(UsageError):
    """The words stop at a group of commands. `words` are those of the group."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__(f"command {' '.join(words)!r} requires a subcommand")
        self.words = words


class MissingValue(UsageError):
    """The words end behind an option that takes a value."""

    def __init__(self, message: str, parameter: Parameter) -> None:
        super().__init__(message)
        self.parameter = parameter


class Understood(msgspec.Struct, frozen=True):
    """What the beginning of a command line says: where it has come to, and what it has given.

    `awaiting` is the option whose value comes next. `given` are the fields of options given so far. `is_rest`: all that
    follows belongs to the last argument. `is_help`: `osctl help`, with the words behind it.
    """

    place: Group | type[Command]
    arguments: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()
    awaiting: Parameter | None = None
    options_ended: bool = False
    is_rest: bool = False
    is_help: bool = False


# --- what a command declares --------------------------------------------------------------------------------------


class Parameter(msgspec.Struct, frozen=True):
    """One declared field of a command. `scalar` is the type of its value, or of each of its values."""

    field: str
    declaration: Argument | Option | Flag
    scalar: type
    is_tuple: bool
    is_required: bool

    @property
    def metavar(self) -> str:
        match self.declaration:
            case Argument(metavar=metavar):
                return metavar or self.field.replace("_", "-")
            case Option(metavar=metavar):
                return metavar
        return ""


class Signature(msgspec.Struct, frozen=True):
    """What a command takes: arguments in order, and options in the order of their declaration."""

    arguments: tuple[Parameter, ...]
    options: tuple[Parameter, ...]


class _Spelling(msgspec.Struct, frozen=True):
    """What one spelling of an option means. `switches_to` is the value that a flag gives."""

    parameter: Parameter
    is_global: bool
    switches_to: bool = True
    #: The value that a shorthand of an option stands for.
    value: str = ""


@functools.cache
def signature(of: type[msgspec.Struct]) -> Signature:
    """Read the declaration of a command, or of the global options.

    Raises TypeError when a field is declared in a way that no command line could fill.
    """
    arguments: list[Parameter] = []
    options: list[Parameter] = []
    for field in msgspec.structs.fields(of):
        parameter = _parameter(of, field)
        (arguments if isinstance(parameter.declaration, Argument) else options).append(parameter)
    for each, following in itertools.pairwise(arguments):
        if each.is_tuple or (following.is_required and not each.is_required and not can_be_left_out(each)):
            raise TypeError(f"{of.__name__}.{following.field}: nothing can follow {each.field}")
    return Signature(tuple(arguments), tuple(options))


def _parameter(of: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Parameter:
    where = f"{of.__name__}.{field.name}"
    declarations = [
        each for each in getattr(field.type, "__metadata__", ()) if isinstance(each, Argument | Option | Flag)
    ]
    if len(declarations) != 1:
        raise TypeError(f"{where} is declared as {len(declarations)} of Argument, Option and Flag instead of one")
    declaration = declarations[0]
    scalar = typing.get_args(field.type)[0]
    if typing.get_origin(scalar) in (typing.Union, types.UnionType):
        (scalar,) = (each for each in typing.get_args(scalar) if each is not types.NoneType)
    is_tuple = typing.get_origin(scalar) is tuple
    if is_tuple:
        scalar = typing.get_args(scalar)[0]
    takes_many = isinstance(declaration, Argument) and (declaration.many or declaration.rest)
    if isinstance(declaration, Argument) and takes_many != is_tuple:
        raise TypeError(f"{where}: many and rest go with a tuple, and a tuple with them")
    if scalar not in ((bool,) if isinstance(declaration, Flag) else (str, int)):
        raise TypeError(f"{where}: a value of type {scalar} cannot be read from a word")
    return Parameter(field.name, declaration, scalar, is_tuple, field.required)


@functools.cache
def _spellings(of: type[msgspec.Struct] | None) -> Mapping[str, _Spelling]:
    """Every spelling of the options of a command and of the global ones; a command's own go first."""
    spellings: dict[str, _Spelling] = {}
    for struct in (GlobalOptions,) if of is None else (GlobalOptions, of):
        for parameter in signature(struct).options:
            declaration = parameter.declaration
            assert not isinstance(declaration, Argument)
            for name in declaration.names:
                spellings[name] = _Spelling(parameter, struct is GlobalOptions)
                if isinstance(declaration, Flag) and declaration.negatable and name.startswith("--"):
                    spellings[f"--no-{name[2:]}"] = _Spelling(parameter, struct is GlobalOptions, False)
            if isinstance(declaration, Option):
                for name, value in declaration.shorthands.items():
                    spellings[name] = _Spelling(parameter, struct is GlobalOptions, value=value)
    return spellings


# --- parsing ------------------------------------------------------------------------------------------------------


Parsed: TypeAlias = Invocation | HelpRequest | VersionRequest


def parse(argv: Sequence[str], tree: Group | None = None) -> Parsed:
    """Read a command line, without the program's name.

    Raises UsageError, naming the words, when they make no sense, and what the command's own constructor raises.
    """
    for word in argv:
        if not _is_text(word):
            raise UsageError(f"argument {word!r} is not valid UTF-8")
    return _Parsing(argv, tree or catalogue()).run()


def resolve(words: Iterable[str], tree: Group | None = None) -> Group | type[Command]:
    """Find a group or command by its words, which may be abbreviated or aliases. Raises UsageError."""
    place: Group | type[Command] = tree or catalogue()
    for word in words:
        if not isinstance(place, Group):
            raise UsageError(f"command {' '.join(place.words)!r} has no subcommand {word!r}")
        place = _child(place, word)
    return place


def understand(words: Sequence[str], tree: Group | None = None) -> Understood:
    """Read the beginning of a command line. Raises UsageError when nothing behind it could make sense of it."""
    parsing = _Parsing(words, tree or catalogue())
    awaiting = None
    try:
        help_request = parsing.take_words()
    except MissingValue as missing:
        awaiting = missing.parameter
    else:
        if help_request is not None:
            return Understood(resolve(help_request.words, tree), is_help=True)
    return Understood(
        parsing.place,
        arguments=tuple(parsing.arguments),
        given=frozenset({*parsing.given, *parsing.given_globally}),
        awaiting=awaiting,
        options_ended=parsing.options_ended,
        is_rest=not isinstance(parsing.place, Group) and _is_in_rest(parsing.place, parsing.arguments),
    )


def _is_in_rest(command: type[Command], arguments: Sequence[str]) -> bool:
    declared = signature(command).arguments
    return bool(declared) and _is_rest(declared[-1]) and len(arguments) >= len(declared)


class _Parsing:
    """One run of the parser over the words; its fields are what is known so far."""

    def __init__(self, argv: Sequence[str], tree: Group) -> None:
        self.argv = argv
        self.position = 0
        self.tree = tree
        self.place: Group | type[Command] = tree
        self.arguments: list[str] = []
        self.given: dict[str, Any] = {}
        self.given_globally: dict[str, Any] = {}
        self.options_ended = False

    def run(self) -> Parsed:
        return self.take_words() or self._finished()

    def take_words(self) -> HelpRequest | None:
        """Read all words; stop where help is asked for by its own word."""
        while self.position < len(self.argv):
            word = self.argv[self.position]
            if self._rest_begins_at(word):
                start = self.position + (word == "--")
                self.arguments.extend(self.argv[start:])
                break
            self.position += 1
            if self.options_ended or not word.startswith("-") or word == "-":
                if self._is_help(word):
                    return self._help_of(self.argv[self.position :])
                self._take_word(word)
            elif word == "--":
                self.options_ended = True
            elif word.startswith("--"):
                self._take_long(word)
            else:
                self._take_short(word)
        return None

    def _is_help(self, word: str) -> bool:
        return self.place is self.tree and word == "help" and "help" not in self.tree.children

    def _help_of(self, words: Iterable[str]) -> HelpRequest:
        named = [word for word in words if not word.startswith("-")]
        place = resolve(named, self.tree)
        return HelpRequest(place.words)

    def _rest_begins_at(self, word: str) -> bool:
        """Whether this word and all that follow belong to the last argument, options or not."""
        if isinstance(self.place, Group):
            return False
        arguments = signature(self.place).arguments
        if not arguments or not _is_rest(arguments[-1]) or len(self.arguments) != len(arguments) - 1:
            return False
        return self.options_ended or word in ("-", "--") or not word.startswith("-")

    def _take_word(self, word: str) -> None:
        if isinstance(self.place, Group):
            self.place = _child(self.place, word)
        else:
            self.arguments.append(word)

    def _take_long(self, word: str) -> None:
        typed, equals, inline = word.partition("=")
        name, spelling = self._long(typed)
        if isinstance(spelling.parameter.declaration, Flag):
            if equals:
                raise UsageError(f"option {name} takes no value: {word}")
            self._switch(spelling)
        else:
            self._give(spelling, name, inline if equals else self._next_as_value(name, spelling))

    def _take_short(self, word: str) -> None:
        """Read `-H`, `-HL`, `-o FIELDS`, `-oFIELDS` or `-HoFIELDS`."""
        for index in range(1, len(word)):
            name = f"-{word[index]}"
            spelling = self._spellings.get(name)
            if spelling is None:
                raise self._unknown_option(word if index == 1 else name)
            if isinstance(spelling.parameter.declaration, Flag):
                self._switch(spelling)
                continue
            if spelling.value:
                self._give(spelling, name, spelling.value)
                continue
            attached = word[index + 1 :]
            # `-o=id` means the same as `--output=id` to people, if not to POSIX.
            value = attached.removeprefix("=") if attached else self._next_as_value(name, spelling)
            self._give(spelling, name, value)
            return

    @property
    def _spellings(self) -> Mapping[str, _Spelling]:
        return _spellings(None if isinstance(self.place, Group) else self.place)

    def _long(self, typed: str) -> tuple[str, _Spelling]:
        known = self._spellings
        if typed in known:
            return typed, known[typed]
        found = {name: spelling for name, spelling in known.items() if name.startswith(typed)}
        if not found:
            raise self._unknown_option(typed)
        if len({(each.is_global, each.parameter.field, each.switches_to) for each in found.values()}) > 1:
            raise UsageError(f"ambiguous option: {typed} (could be {', '.join(sorted(found))})")
        return next(iter(found.items()))

    def _unknown_option(self, typed: str) -> UsageError:
        hint = ""
        if typed == "-h":
            hint = " (for help: --help)"
        elif typed == "--socket":
            hint = " (it must precede the command)"
        elif isinstance(self.place, Group) and self.place.children:
            hint = " (options of a command must follow it)"
        return UsageError(f"unknown option: {typed}{hint}")

    def _next_as_value(self, name: str, spelling: _Spelling) -> str:
        is_at_end = self.position == len(self.argv)
        if is_at_end or self.argv[self.position].startswith("--"):
            message = f"option {name} requires a value: {spelling.parameter.metavar}"
            raise MissingValue(message, spelling.parameter) if is_at_end else UsageError(message)
        self.position += 1
        return self.argv[self.position - 1]

    def _switch(self, spelling: _Spelling) -> None:
        given = self.given_globally if spelling.is_global else self.given
        given[spelling.parameter.field] = spelling.switches_to

    def _give(self, spelling: _Spelling, name: str, text: str) -> None:
        given = self.given_globally if spelling.is_global else self.given
        parameter = spelling.parameter
        declaration = parameter.declaration
        assert isinstance(declaration, Option)
        texts = [each for each in text.split(",") if each] if declaration.commas else [text]
        values = tuple(_read(parameter, each, name=name) for each in texts)
        repeats = parameter.is_tuple and not declaration.commas
        if parameter.field in given and not repeats:
            raise UsageError(f"option {name} given twice: {text}")
        if repeats:
            values = (*given.get(parameter.field, ()), *values)
        given[parameter.field] = values if parameter.is_tuple else values[0]

    def _finished(self) -> Parsed:
        options = GlobalOptions(**self.given_globally)
        if options.help:
            return HelpRequest(self.place.words)
        if options.version:
            return VersionRequest()
        if isinstance(self.place, Group):
            if self.place is self.tree:
                return HelpRequest(())
            raise MissingSubcommand(self.place.words)
        return Invocation(self.place(**self._arguments(self.place), **self.given), options)

    def _arguments(self, command: type[Command]) -> dict[str, Any]:
        declared = signature(command)
        values: dict[str, Any] = {}
        missing = []
        taken_by, left = placed(declared.arguments, self.arguments)
        for parameter, taken in zip(declared.arguments, taken_by, strict=True):
            if taken:
                name = f"<{parameter.metavar}>"
                read = tuple(_read(parameter, each, name=name) for each in taken)
                values[parameter.field] = read if parameter.is_tuple else read[0]
            elif parameter.is_required:
                missing.append(f"<{parameter.metavar}>")
        if left:
            raise UsageError(f"unknown argument{'s' * (len(left) > 1)}: {' '.join(left)}")
        if missing:
            raise UsageError(f"missing argument{'s' * (len(missing) > 1)} {' '.join(missing)}")
        for parameter in declared.options:
            if parameter.is_required and parameter.field not in self.given:
                raise UsageError(f"missing option {longest_name(parameter)} {parameter.metavar}".rstrip())
        return values


def placed(arguments: Sequence[Parameter], words: Sequence[str]) -> tuple[list[Sequence[str]], Sequence[str]]:
    """The words of each argument, none for an omitted one, and the surplus words."""
    found: list[Sequence[str]] = []
    left = words
    for index, parameter in enumerate(arguments):
        is_left_out = bool(left) and _is_left_out(parameter, left, arguments[index + 1 :])
        taken = left if parameter.is_tuple else left[: not is_left_out]
        found.append(taken)
        left = left[len(taken) :]
    return found, left


def _is_left_out(parameter: Parameter, words: Sequence[str], following: Sequence[Parameter]) -> bool:
    """Whether the first word is not meant for this argument."""
    if not can_be_left_out(parameter) or not following:
        return False
    if not re.fullmatch(_pattern(parameter), words[0]):
        return True
    is_scarce = len(words) <= sum(each.is_required for each in following)
    return is_scarce and bool(_pattern(following[0])) and bool(re.fullmatch(_pattern(following[0]), words[0]))


def can_be_left_out(parameter: Parameter) -> bool:
    """Whether this argument may be missing although others follow."""
    return bool(_pattern(parameter)) and not parameter.is_required


def _pattern(parameter: Parameter) -> str:
    return parameter.declaration.fits if isinstance(parameter.declaration, Argument) else ""


def _child(group: Group, word: str) -> Group | type[Command]:
    """The child that a word names: itself, by an alias, or by a prefix of either that fits only one child."""
    aliases = {
        alias: target for alias, target in ALIASES.items() if target in group.children and alias not in group.children
    }
    spelled = {**{name: name for name in group.children}, **aliases}
    path = " ".join((*group.words, word))
    if word in spelled:
        return group.children[spelled[word]]
    found = [each for each in spelled if word and each.startswith(word)]
    targets = {spelled[each] for each in found}
    if len(targets) == 1:
        return group.children[targets.pop()]
    if found:
        raise UsageError(f"ambiguous command {path!r} (could be {', '.join(sorted(found))})")
    if path in ELSEWHERE:
        raise UsageError(f"unknown command {path!r}; use: {ELSEWHERE[path]}")
    raise UsageError(f"unknown command {path!r} (expected {', '.join(group.children)})")


def longest_name(parameter: Parameter) -> str:
    """The name of an option that says most about it: its long one."""
    declaration = parameter.declaration
    return "" if isinstance(declaration, Argument) else max(declaration.names, key=len)


def _read(parameter: Parameter, text: str, *, name: str) -> str | int:
    declaration = parameter.declaration
    choices = declaration.choices if isinstance(declaration, Option) else ()
    if choices and text not in choices:
        raise UsageError(f"invalid argument: {name} {text} (expected {' or '.join(choices)})")
    if parameter.scalar is str:
        return text
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise UsageError(f"invalid argument: {name} {text} (expected a number)")
    return int(text)


def _is_rest(parameter: Parameter) -> bool:
    return isinstance(parameter.declaration, Argument) and parameter.declaration.rest


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # what is not UTF-8 arrives as lone surrogates (PEP 383)
        return False
    return True


# --- words of the caller's standard input -------------------------------------------------------------------------


def wants_standard_input(command: Command) -> bool:
    """Whether a `-` among the arguments stands for words of the caller's standard input."""
    return any("-" in getattr(command, parameter.field) for parameter in _fields_from_stdin(command))


def with_standard_input(command: Command, text: str) -> Command:
    """The command with each `-` replaced by the words of `text`, which blanks and lines separate.

    Raises UsageError if there are no words, if they are not text, or if `-` is given twice.
    """
    if not _is_text(text):
        raise UsageError("standard input is not valid UTF-8")
    words = tuple(text.split())
    changed = {}
    for parameter in _fields_from_stdin(command):
        given: tuple[str, ...] = getattr(command, parameter.field)
        if given.count("-") > 1:
            raise UsageError(f"argument <{parameter.metavar}>: - given twice, but standard input can only be read once")
        if "-" in given:
            if not words:
                raise UsageError(f"argument <{parameter.metavar}>: - given, but standard input is empty")
            at = given.index("-")
            changed[parameter.field] = (*given[:at], *words, *given[at + 1 :])
    return msgspec.structs.replace(command, **changed)


def _fields_from_stdin(command: Command) -> list[Parameter]:
    return [
        parameter
        for parameter in signature(type(command)).arguments
        if isinstance(parameter.declaration, Argument) and parameter.declaration.from_stdin
    ]
