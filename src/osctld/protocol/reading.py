"""`cmd` and `opts` of a request to a command and its options."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from osctld.cli.parse import Parameter, signature
from osctld.cli.show import printable
from osctld.core.command import Command, GlobalOptions, ListOptions, Option
from osctld.core.errors import Refused
from osctld.protocol.catalogue import commands, requests
from osctld.protocol.request import Request

#: Keys of `opts` beside those of the command: what was typed, for the history, whether to plan only, and of which
#: generation the container's configuration must be.
COMMAND_LINE = "cli"
DRY_RUN = "dry_run"
IF_GENERATION = "if_generation"
POOL = "pool"

#: Those that every command takes.
_OF_ALL = (COMMAND_LINE, DRY_RUN, IF_GENERATION)

#: How a table is shown is for those who show one.
_DISPLAY = frozenset(ListOptions.__struct_fields__)

#: Characters of a wrong command's name that are quoted back.
_LONGEST_QUOTE = 100


class Asked(msgspec.Struct, frozen=True):
    """What a program asks for."""

    command: Command
    options: GlobalOptions


def read(name: str, opts: Mapping[str, Any]) -> Asked:
    """Raises Refused for an unknown command, and for opts that do not fit it."""
    kind = _kind(name, opts)
    if kind is None:
        quoted = printable(name[:_LONGEST_QUOTE]) + "..." * (len(name) > _LONGEST_QUOTE)
        raise Refused(f"Unsupported command '{quoted}'", code="unknown-command", subject=quoted)
    try:
        options = GlobalOptions(
            json=True,
            dry_run=msgspec.convert(opts.get(DRY_RUN) or False, bool),
            if_generation=msgspec.convert(opts.get(IF_GENERATION), int | None),
        )
        if issubclass(kind, Request):
            nullable = kind.nullable
            given = {key: value for key, value in opts.items() if value is not None or key in nullable}
            _check_known(name, (*kind.__struct_fields__, *_OF_ALL), given)
            return Asked(msgspec.convert(given, kind), options)
        given = {key: value for key, value in opts.items() if value is not None}
        pool = msgspec.convert(given.get(POOL), str | None)
        own = {key: value for key, value in given.items() if key not in (POOL, *_OF_ALL)}
        _check_keys(name, kind, own)
        return Asked(msgspec.convert(own, kind), msgspec.structs.replace(options, pool=pool))
    except UnicodeEncodeError:
        raise Refused(f"{name}: a key in opts is not a string", code="bad-opts") from None
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at ")
        where = place.strip("`").removeprefix("$").removeprefix(".")
        raise Refused(f"{name}: {f'{where}: ' if where else ''}{what}", code="bad-opts", subject=where) from None


def _kind(name: str, opts: Mapping[str, Any]) -> type[Command] | None:
    original, own = requests().get(name), commands().get(name)
    if original is None or own is None:
        return original or own
    ours, theirs = parameters(own).keys(), set(original.__struct_fields__)
    given = {key for key, value in opts.items() if value is not None}
    return own if given & (ours - theirs) and not given & (theirs - ours - {POOL}) else original


def parameters(kind: type[Command]) -> dict[str, Parameter]:
    """What a program can say to a command of ours, by key."""
    declared = signature(kind)
    return {each.field: each for each in (*declared.arguments, *declared.options) if each.field not in _DISPLAY}


def _check_known(name: str, known: Collection[str], given: Iterable[str]) -> None:
    """Raise Refused for an unknown key: what it asks for would not be done."""
    for key in given:
        if key not in known:
            raise Refused(
                f"{name}: unknown key {key!r} in opts (expected {', '.join(known) or 'none'})",
                code="bad-opts",
                subject=key,
            )


def _check_keys(name: str, kind: type[Command], given: Mapping[str, Any]) -> None:
    known = parameters(kind)
    _check_known(name, known, given)
    for key, value in given.items():
        declaration = known[key].declaration
        choices = declaration.choices if isinstance(declaration, Option) else ()
        values = value if isinstance(value, list | tuple) else [value]
        for each in values:
            if choices and str(each) not in choices:
                raise Refused(
                    f"{name}: {key}: {each!r} is not one of {', '.join(choices)}", code="bad-opts", subject=key
                )
