"""What can be said about a command line without performing anything: help, the version, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from osctld.cli.catalogue import Group
from osctld.cli.completion import REQUEST, Complete
from osctld.cli.help import render
from osctld.cli.parse import HelpRequest, Invocation, MissingSubcommand, VersionRequest, parse
from osctld.cli.show import printable
from osctld.cli.version import VERSION
from osctld.core.command import GlobalOptions
from osctld.core.errors import OsctlError
from osctld.core.wire import CliResponse


def interpret(argv: Sequence[str], *, columns: int = 0, tree: Group | None = None) -> Invocation | CliResponse:
    """A command to perform, or an answer that needs no daemon. `columns` is the terminal's width, 0 when unknown."""
    if argv[:1] == [REQUEST]:
        return Invocation(Complete(typed=tuple(argv[1:])), GlobalOptions())
    try:
        parsed = parse(argv, tree)
        match parsed:
            case Invocation():
                return parsed
            case HelpRequest(words=words):
                return CliResponse(stdout=render(words, columns=columns, tree=tree))
            case VersionRequest():
                return CliResponse(stdout=f"osctl version {VERSION}\n")
    except OsctlError as error:
        return refusal(error, columns=columns, tree=tree)


def refusal(error: OsctlError, *, columns: int = 0, tree: Group | None = None) -> CliResponse:
    """How an error is told to a person: one line; where a subcommand was forgotten, followed by help."""
    text = error_line(error.message)
    if isinstance(error, MissingSubcommand):
        text += "\n" + render(error.words, columns=columns, tree=tree)
    return CliResponse(stderr=text, exit=error.exit_status)


def error_line(message: str) -> str:
    return f"error: {printable(message)}\n"
