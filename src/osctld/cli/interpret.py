"""What can be said about a command line without performing anything: help, the version, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from osctld.cli.catalogue import Group
from osctld.cli.completion import REQUEST, Complete
from osctld.cli.help import render
from osctld.cli.parse import HelpRequest, Invocation, MissingSubcommand, VersionRequest, parse
from osctld.cli.show import field_names, printable
from osctld.cli.version import BUILD, VERSION, told
from osctld.core.command import GlobalOptions
from osctld.core.errors import OsctlError
from osctld.core.wire import CliResponse


def interpret(
    argv: Sequence[str],
    *,
    columns: int = 0,
    tree: Group | None = None,
    client: tuple[str, str] = (VERSION, BUILD),
) -> Invocation | CliResponse:
    """A command to perform, or an answer that needs no daemon. `columns` is the terminal's width, 0 when unknown;
    `client` the version and build of the program that was called."""
    if argv[:1] == [REQUEST]:
        return Invocation(Complete(typed=tuple(argv[1:])), GlobalOptions())
    try:
        parsed = parse(argv, tree)
        match parsed:
            case Invocation(command=command, options=options):
                fields = field_names(command, options)
                return parsed if fields is None else CliResponse(stdout=fields)
            case HelpRequest(words=words):
                return CliResponse(stdout=render(words, columns=columns, tree=tree))
            case VersionRequest():
                lines = [told("osctl", *client)] + [told("osctld")] * (client != (VERSION, BUILD))
                return CliResponse(stdout="".join(f"{printable(line)}\n" for line in lines))
    except OsctlError as error:
        return refusal(error, columns=columns, tree=tree, is_json=_asks_for_json(argv))


def refusal(error: OsctlError, *, columns: int = 0, tree: Group | None = None, is_json: bool = False) -> CliResponse:
    """How an error is reported: to a person in one line; if a subcommand is missing, followed by help. To a program as
    one line of JSON. The exit status is the same."""
    text = error_line(error, is_json=is_json)
    if isinstance(error, MissingSubcommand) and not is_json:
        text += "\n" + render(error.words, columns=columns, tree=tree)
    return CliResponse(stderr=text, exit=error.exit_status)


class ErrorLine(msgspec.Struct, frozen=True):
    """What `-j` prints on standard error when a command fails. `code` is stable; `subject` is what it was about,
    `holder` who has that already; empty where there is none."""

    error: str
    code: str
    subject: str = ""
    holder: str = ""


def error_line(error: OsctlError, *, is_json: bool = False) -> str:
    message = printable(error.message)
    if not is_json:
        return f"error: {message}\n"
    line = ErrorLine(message, error.code, printable(error.subject), printable(error.holder))
    return f"{msgspec.json.encode(line).decode()}\n"


def _asks_for_json(argv: Sequence[str]) -> bool:
    """Whether words that cannot be parsed as a whole nevertheless ask for JSON."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    return "-j" in before or "--json" in before
