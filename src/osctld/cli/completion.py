"""What could stand where a person stopped typing: computed from the declarations of commands and the configuration.

A shell asks `osctl --complete WORDS...`, the words behind `osctl` up to the one being typed, which may be empty. Each
line of the answer is a word that fits there and, behind a tab, what it means. The line `:files` says that a file of the
caller is wanted instead. Words that cannot be parsed get no answer, never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar

import msgspec

from osctld.cli.catalogue import Group
from osctld.cli.help import CLIENT_OPTIONS, summary
from osctld.cli.parse import Parameter, Understood, can_be_left_out, placed, signature, understand
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
from osctld.core.config.host import Host
from osctld.core.errors import OsctlError

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
        declared = signature(command).arguments
        taken, left = placed(declared, self.understood.arguments)
        begun = max((at for at, words in enumerate(taken) if words), default=-1)
        is_at_list = begun >= 0 and declared[begun].is_tuple
        if left:
            return
        for parameter in declared[begun if is_at_list else begun + 1 :]:
            already = taken[begun] if is_at_list else ()
            for each in self._meant(parameter):
                # A keyword is about all the others.
                is_keyword = each.word in _keywords(parameter)
                if each.word not in already and not (is_keyword and already):
                    yield each
            if not (can_be_left_out(parameter) and self._has_one_interface()):
                return

    def _has_one_interface(self) -> bool:
        container = self._typed("container")
        return container is not None and len([*_rows(CtNetifLs(container=container), self)]) == 1

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
        """Everything that could be the value of a parameter, whatever it begins with."""
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
            case "interface" if (container := self._typed("container", is_last=True)) is not None:
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
            case "link":
                yield from map(Candidate, sorted({*self.observed.links()} - {*self.host.uplinks}))
            case "uplink":
                yield from map(Candidate, self.host.uplinks)
            case "block":
                yield from (Candidate(each.subject) for each in self.host.blocks)
            case "pool":
                yield from map(Candidate, self.host.settings.addresses)
            case "field" if not isinstance(self.understood.place, Group):
                for column in self.understood.place.columns:
                    yield Candidate(column.name, column.help)
            case "state":
                yield from map(Candidate, STATES)
            case "file":
                yield Candidate(FILES)

    def _typed(self, what: str, *, is_last: bool = False) -> str | None:
        """The container or interface that an argument before has named: the first, or the last."""
        place = self.understood.place
        if isinstance(place, Group):
            return None
        declared = signature(place).arguments
        taken, _ = placed(declared, self.understood.arguments)
        found = [
            words[0]
            for parameter, words in zip(declared, taken, strict=True)
            if words and isinstance(parameter.declaration, Argument) and parameter.declaration.completes == what
        ]
        return found[-1 if is_last else 0] if found else None


def _spellings(parameter: Parameter) -> tuple[str, ...]:
    """All names of an option, the most descriptive one last."""
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
