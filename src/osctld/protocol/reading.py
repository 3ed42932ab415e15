"""`cmd` and `opts` of a request to a command and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from osctld.cli.parse import Parameter, signature
from osctld.cli.show import printable
from osctld.core.command import Command, GlobalOptions, ListOptions, Option
from osctld.core.errors import Refused
from osctld.protocol.catalogue import commands, requests
from osctld.protocol.request import Request

#: Keys of `opts` beside those of the command: what was typed, for the history, and whether to plan only.
COMMAND_LINE = "cli"
DRY_RUN = "dry_run"
POOL = "pool"

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
        dry_run = msgspec.convert(opts.get(DRY_RUN) or False, bool)
        if issubclass(kind, Request):
            nullable = kind.nullable
            given = {key: value for key, value in opts.items() if value is not None or key in nullable}
            return Asked(msgspec.convert(given, kind), GlobalOptions(json=True, dry_run=dry_run))
        given = {key: value for key, value in opts.items() if value is not None}
        pool = msgspec.convert(given.get(POOL), str | None)
        own = {key: value for key, value in given.items() if key not in (POOL, DRY_RUN, COMMAND_LINE)}
        _check_keys(name, kind, own)
        return Asked(msgspec.convert(own, kind), GlobalOptions(json=True, dry_run=dry_run, pool=pool))
    except UnicodeEncodeError:
        raise Refused(f"{name}: a key of opts is not text", code="bad-opts") from None
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at ")
        where = place.strip("`").removeprefix("$").removeprefix(".")
        raise Refused(f"{name}: {f'{where}: ' if where else ''}{what}", code="bad-opts", subject=where) from None


def _kind(name: str, opts: Mapping[str, Any]) -> type[Command] | None:
    original, own = requests().get(name), commands().get(name)
    if original is not None and own is not None:
        return own if opts.get("container") is not None and opts.get("id") is None else original
    return original or own


def parameters(kind: type[Command]) -> dict[str, Parameter]:
    """What a program can say to a command of ours, by key."""
    declared = signature(kind)
    return {
        each.field: each for each in (*declared.arguments, *declared.options) if each.field not in _DISPLAY
    }


def _check_keys(name: str, kind: type[Command], given: Mapping[str, Any]) -> None:
    known = parameters(kind)
    for key, value in given.items():
        if key not in known:
            raise Refused(
                f"{name}: unknown key {key!r} of opts (there are {', '.join(known) or 'none'})",
                code="bad-opts",
                subject=key,
            )
        declaration = known[key].declaration
        choices = declaration.choices if isinstance(declaration, Option) else ()
        values = value if isinstance(value, list | tuple) else [value]
        for each in values:
            if choices and str(each) not in choices:
                raise Refused(
                    f"{name}: {key}: {each!r} is not one of {', '.join(choices)}", code="bad-opts", subject=key
                )
