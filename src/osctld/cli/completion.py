"""What could stand where a person stopped typing: computed from the declarations of commands and the configuration.

A shell asks `osctl --complete WORDS...`, the words behind `osctl` up to the one being typed, which may be empty. Each
line of the answer is a word that fits there and, behind a tab, what it means. The line `:files` says that a file of
the caller is wanted instead. Words of which nobody could make sense get no answer, never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar

import msgspec

from osctld.cli.catalogue import Group
from osctld.cli.help import CLIENT_OPTIONS, summary
from osctld.cli.parse import Parameter, Understood, signature, understand
from osctld.commands.ct_ls import CtLs
from osctld.commands.ct_netif_ip_ls import CtNetifIpLs
from osctld.commands.ct_netif_ls import CtNetifLs
from osctld.commands.ct_netif_route_ls import CtNetifRouteLs
from osctld.commands.ct_netif_source_ls import CtNetifSourceLs
from osctld.commands.ct_wait import STATES
from osctld.core.command import (
    Argument,
    Command,
    Flag,
    GlobalOptions,
    Listing,
    Observed,
    Option,
    Reply,
    Row,
    Text,
    ViewCommand,
)
from osctld.core.errors import OsctlError
from osctld.core.host import Host

#: What a shell puts before the words that it wants completed.
REQUEST = "--complete"

#: The answer that asks the shell for files.
FILES = ":files"


class Candidate(msgspec.Struct, frozen=True):
    """A word that fits, and what it means, in one line."""

    word: str
    meaning: str = ""

    def __str__(self) -> str:
        return f"{self.word}\t{self.meaning}"


class Complete(ViewCommand, frozen=True, kw_only=True):
    """The request of a shell. No command of the catalogue: people never type it."""

    words: ClassVar[tuple[str, ...]] = (REQUEST,)

    typed: Annotated[tuple[str, ...], Argument("Words typed so far", rest=True)]

    def view(self, host: Host, observed: Observed) -> Reply:
        return Text(tuple(map(str, complete(self.typed, host, observed))))


def complete(
    typed: Sequence[str], host: Host, observed: Observed, *, tree: Group | None = None
) -> tuple[Candidate, ...]:
    """The words that may stand in place of the last one of `typed`, all beginning with it."""
    *before, current = typed or ("",)
    lead = ""
    try:
        if current.startswith("--") and "=" in current:
            # `--option=value`: the option is one of the words before, and its value is being typed.
            name, _, current = current.partition("=")
            before, lead = [*before, name], f"{name}="
        place = _Place(understand(before, tree), host, observed)
        if lead and place.understood.awaiting is None:
            return ()
        found = [*place.candidates(current)]
    except OsctlError:
        return ()
    return tuple(
        Candidate(each.word if each.word == FILES else f"{lead}{each.word}", each.meaning)
        for each in found
        if each.word == FILES or each.word.startswith(current)
    )


class _Place(msgspec.Struct, frozen=True):
    """Where in a command line something is wanted, and what is known there."""

    understood: Understood
    host: Host
    observed: Observed

    def candidates(self, current: str) -> Iterator[Candidate]:
        understood = self.understood
        place = understood.place
        if understood.awaiting is not None:
            yield from self._values(understood.awaiting, current)
        elif current.startswith("-") and not (understood.options_ended or understood.is_rest or understood.is_help):
            yield from self._options(current)
        elif isinstance(place, Group):
            if not place.words and not understood.is_help:
                yield Candidate("help", "Help for a command")
            for word, child in place.children.items():
                yield Candidate(word, summary(child))
        elif not understood.is_help:
            yield from self._arguments(place)

    def _options(self, current: str) -> Iterator[Candidate]:
        place = self.understood.place
        own = () if isinstance(place, Group) else signature(place).options
        for parameter in (*own, *signature(GlobalOptions).options):
            if parameter.field in self.understood.given and not parameter.is_tuple:
                continue
            names, meaning = _spellings(parameter), parameter.declaration.help
            for name in names if current != "-" else names[-1:]:
                yield Candidate(name, meaning)
        if isinstance(place, Group) and not place.words:
            for usage, meaning in CLIENT_OPTIONS:
                yield Candidate(usage.partition(" ")[0], meaning)

    def _arguments(self, command: type[Command]) -> Iterator[Candidate]:
        declared, typed = signature(command).arguments, self.understood.arguments
        if not declared or (len(typed) >= len(declared) and not declared[-1].is_tuple):
            return
        parameter = declared[min(len(typed), len(declared) - 1)]
        already = typed[len(declared) - 1 :] if parameter.is_tuple else ()
        for each in self._meant(parameter):
            # A keyword is about all the others.
            is_keyword = each.word in _keywords(parameter)
            if each.word not in already and not (is_keyword and already):
                yield each

    def _values(self, parameter: Parameter, current: str) -> Iterator[Candidate]:
        declaration = parameter.declaration
        assert isinstance(declaration, Option)
        if not declaration.commas:
            yield from self._meant(parameter)
            return
        # Of a list, the last member is being typed; a sign before it stays.
        listed, comma, last = current.rpartition(",")
        sign = last[:1] if declaration.completes == "field" and last[:1] in ("+", "-") else ""
        already = {each.lstrip("+-") for each in listed.split(",")}
        for each in self._meant(parameter):
            if each.word not in already:
                yield Candidate(f"{listed}{comma}{sign}{each.word}", each.meaning)

    def _meant(self, parameter: Parameter) -> Iterator[Candidate]:
        """All that could be the value of a parameter, whatever it begins with."""
        declaration = parameter.declaration
        if isinstance(declaration, Flag):
            return
        if isinstance(declaration, Option):
            if declaration.is_file:
                yield Candidate(FILES)
            yield from map(Candidate, declaration.choices)
        yield from map(Candidate, declaration.keywords)
        match declaration.completes:
            case "container":
                for row in _rows(CtLs(), self):
                    yield Candidate(row["id"], row["state"])
            case "interface" if (container := self._typed("container")) is not None:
                for row in _rows(CtNetifLs(container=container), self):
                    yield Candidate(row["name"], row["type"])
            case "address" if (container := self._typed("container")) is not None:
                rows = _rows(CtNetifIpLs(container=container, netif=self._typed("interface")), self)
                yield from (Candidate(row["addr"], row["state"]) for row in rows)
            case "route" if (container := self._typed("container")) is not None:
                rows = _rows(CtNetifRouteLs(container=container, netif=self._typed("interface")), self)
                yield from (Candidate(row["addr"], row["origin"]) for row in rows)
            case "source" if (container := self._typed("container")) is not None:
                rows = _rows(CtNetifSourceLs(container=container, netif=self._typed("interface")), self)
                yield from (Candidate(row["addr"]) for row in rows)
            case "field" if not isinstance(self.understood.place, Group):
                for column in self.understood.place.columns:
                    yield Candidate(column.name, column.help)
            case "state":
                yield from map(Candidate, STATES)
            case "file":
                yield Candidate(FILES)

    def _typed(self, what: str) -> str | None:
        """The container or interface that an argument before has named."""
        place = self.understood.place
        if isinstance(place, Group):
            return None
        for parameter, word in zip(signature(place).arguments, self.understood.arguments, strict=False):
            if isinstance(parameter.declaration, Argument) and parameter.declaration.completes == what:
                return word
        return None


def _spellings(parameter: Parameter) -> tuple[str, ...]:
    """All names of an option, the one that says most last."""
    declaration = parameter.declaration
    assert not isinstance(declaration, Argument)
    names = sorted(declaration.names, key=len)
    if isinstance(declaration, Flag) and declaration.negatable:
        names = [f"--no-{names[-1][2:]}", *names]
    return tuple(names)


def _keywords(parameter: Parameter) -> tuple[str, ...]:
    return () if isinstance(parameter.declaration, Flag) else parameter.declaration.keywords


def _rows(command: ViewCommand, place: _Place) -> Iterable[Row]:
    reply = command.view(place.host, place.observed)
    assert isinstance(reply, Listing)
    return reply.rows
