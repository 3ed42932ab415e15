"""What a dialect brings, and which there are.

A dialect is a file beside this one that has a `DIALECT` of the same name; nothing is registered by hand. Most routers
take commands, one line for a route (`Commands`): what has changed is told by commands too. For others all routes are in
a file of its own that is replaced as a whole (`File`).
"""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import osctld.announce.static
from osctld.announce.static_routes import Difference, StaticRoutes
from osctld.core.address.addresses import PackedNetwork, network_texts, read_networks
from osctld.core.address.next_hop import NextHop
from osctld.core.errors import Refused

#: Names of links on Linux: at most 15 characters (IFNAMSIZ of linux/include/uapi/linux/if.h), no slash, no colon.
_LINUX_LINK = re.compile(r"[^/:]{1,15}")

#: Characters of a line that are quoted back.
_LONGEST_QUOTE = 100


class Dialect:
    """How one kind of router is told static routes."""

    #: As in `--format NAME`: that of its file.
    name: ClassVar[str]
    #: Who takes it: "FRRouting".
    title: ClassVar[str]
    #: Whether an IPv4 route may have an IPv6 next hop.
    takes_ipv4_via_ipv6: ClassVar[bool] = False
    #: Whether routes are written below a link, so that its name has to be known.
    requires_link: ClassVar[bool] = False
    is_linux: ClassVar[bool] = True
    #: Finds routes in a text: groups `network`, `hop` and, where the line has it, `link`. A match of `link` alone names
    #: the link of the routes that follow.
    pattern: ClassVar[re.Pattern[str]]

    def prepared(self, next_hops: Mapping[int, NextHop]) -> Mapping[int, NextHop]:
        """The next hops of each IP version's routes, as this dialect has them.

        Raises Refused for those that it cannot have.
        """
        for version, hop in next_hops.items():
            self._check(hop, version)
        return next_hops

    def _check(self, hop: NextHop, version: int) -> None:
        if version != hop.version and not (version == 4 and self.takes_ipv4_via_ipv6):
            raise self._refusal(hop, f"{self.name} has no IPv{version} routes with an IPv{hop.version} next hop")
        if self.requires_link and not hop.link:
            raise self._refusal(hop, f"{self.name} requires the router's link to it, as in {hop}%eth0")
        if self.is_linux and hop.link and not _LINUX_LINK.fullmatch(hop.link):
            raise self._refusal(hop, f"{hop.link!r} cannot be a link of a router with {self.name}")

    def _refusal(self, hop: NextHop, reason: str) -> Refused:
        return Refused(f"{hop}: {reason}", code="bad-next-hop", subject=str(hop))

    def lines(self, routes: Sequence[StaticRoutes]) -> list[str]:
        """All that a router needs."""
        raise NotImplementedError

    def changes(self, difference: Difference, after: Sequence[StaticRoutes]) -> list[str]:
        """What leads from earlier routes to those of `after`; none if nothing has changed."""
        raise NotImplementedError

    def texts(self, networks: Sequence[PackedNetwork]) -> Sequence[str]:
        """How networks of one version are written."""
        return network_texts(networks)

    def network_of(self, text: str) -> str:
        """What `texts` has made, as A/P again."""
        return text

    # --- earlier texts --------------------------------------------------------------------------------------------

    def read(self, text: str, *, file: str) -> tuple[StaticRoutes, ...]:
        """The routes in a text that `lines` has given before.

        Raises Refused, quoting the first line that it would not have given there. Blank lines, and blanks at the end of
        lines, do not count.
        """
        there = [line for line in map(str.rstrip, text.split("\n")) if line]
        routes = self._found("\n".join(there))
        again = [line for line in self.lines(routes) if line]
        if there != again:
            raise Refused(f"{file!r}: {self._fault(text, again)}", code="bad-earlier-routes", subject=file)
        return routes

    def looks_like_ours(self, line: str) -> bool:
        """Whether a line could be one of those that this dialect prints, wherever it stands."""
        return self.pattern.fullmatch(line) is not None

    def _fault(self, text: str, again: Sequence[str]) -> str:
        """Why a text is not what was printed: the first line that no text has, else the first that this one has not."""
        wrong = next((each for each in _numbered(text) if not self.looks_like_ours(each[1])), None)
        pairs = itertools.zip_longest(_numbered(text), again)
        found = wrong or next(each for each, other in pairs if each is None or each[1] != other)
        if found is None:
            return f"incomplete, osctl router static --format {self.name} printed more" if text.strip() else "empty"
        number, line = found
        shown = f"{line[:_LONGEST_QUOTE]}..." if len(line) > _LONGEST_QUOTE else line
        return f"line {number} was not printed by osctl router static --format {self.name}: {shown!r}"

    def _found(self, text: str) -> tuple[StaticRoutes, ...]:
        """What there is of routes. What is left out here is missing when they are written again."""
        texts: dict[tuple[str, str], list[str]] = {}
        link = ""
        for match in self.pattern.finditer(text):
            groups = match.groupdict()
            if groups["network"] is None:
                link = groups["link"]
                continue
            texts.setdefault((groups["hop"], groups.get("link") or link), []).append(groups["network"])
        found: dict[int, StaticRoutes] = {}
        for (hop, link), networks in texts.items():
            for each in self._read(hop, link, networks):
                found.setdefault(each.version, each)
        return tuple(found[version] for version in sorted(found))

    def _read(self, hop: str, link: str, texts: Sequence[str]) -> Iterator[StaticRoutes]:
        try:
            next_hop = NextHop.parse(f"{hop}%{link}" if link else hop)
            networks = read_networks([self.network_of(each) for each in texts])
        except (Refused, KeyError):
            return
        for size, version in ((5, 4), (17, 6)):
            of_version = sorted({each for each in networks if len(each) == size})
            if not of_version:
                continue
            try:
                self._check(next_hop, version)
            except Refused:
                continue
            yield StaticRoutes(version, next_hop, of_version)


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that count, with their numbers."""
    lines = enumerate(map(str.rstrip, text.split("\n")), start=1)
    return ((number, line) for number, line in lines if line)


class Commands(Dialect):
    """A dialect of commands. What is added is told before what is removed, so that packets find a way meanwhile."""

    #: Whether it is told the other way round, for routers that take all commands at once.
    removes_first: ClassVar[bool] = False

    def ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        """What stands before and behind the network in the command for a route."""
        raise NotImplementedError

    def undoing_ends(self, version: int, hop: NextHop) -> tuple[str, str]:
        """The same in the command that removes it."""
        raise NotImplementedError

    def removed(self, difference: Difference) -> Iterable[StaticRoutes]:
        """What has to be removed by commands of its own."""
        return difference.removed

    def lines(self, routes: Sequence[StaticRoutes]) -> list[str]:
        return [line for each in routes for line in self._lines(each, self.ends(each.version, each.next_hop))]

    def changes(self, difference: Difference, after: Sequence[StaticRoutes]) -> list[str]:  # noqa: ARG002 - of files
        added = self.lines(difference.added)
        removed = [
            line
            for each in self.removed(difference)
            for line in self._lines(each, self.undoing_ends(each.version, each.next_hop))
        ]
        return [*removed, *added] if self.removes_first else [*added, *removed]

    def _lines(self, routes: StaticRoutes, ends: tuple[str, str]) -> list[str]:
        before, behind = ends
        return [f"{before}{text}{behind}" for text in self.texts(routes.networks)]


class File(Dialect):
    """A dialect in which all routes are one text, which begins with a comment. If they change, all of it is printed."""

    #: Where the text belongs; what the comment says of it.
    place: ClassVar[str]
    #: Matches each line that it may have below the comment.
    shapes: ClassVar[re.Pattern[str]]

    def heading(self) -> str:
        return f"# Printed by osctl router static --format {self.name}: {self.place}"

    def looks_like_ours(self, line: str) -> bool:
        return line.startswith(self.heading()) or self.shapes.fullmatch(line) is not None

    def body(self, routes: Sequence[StaticRoutes]) -> Iterable[str]:
        """What follows the comment."""
        raise NotImplementedError

    def lines(self, routes: Sequence[StaticRoutes]) -> list[str]:
        return [self.heading(), *self.body(routes)]

    def changes(self, difference: Difference, after: Sequence[StaticRoutes]) -> list[str]:
        return self.lines(after) if difference else []


@functools.cache
def dialects() -> Mapping[str, Dialect]:
    """All dialects by name. Raises TypeError for one that is not called like its file."""
    found = {}
    for module_info in pkgutil.iter_modules(osctld.announce.static.__path__):
        module = importlib.import_module(f"{osctld.announce.static.__name__}.{module_info.name}")
        dialect = getattr(module, "DIALECT", None)
        if dialect is None:
            continue
        if dialect.name != module_info.name:
            raise TypeError(f"{module.__name__} holds the dialect {dialect.name!r}: it and its file have one name")
        found[dialect.name] = dialect
    return MappingProxyType(found)
