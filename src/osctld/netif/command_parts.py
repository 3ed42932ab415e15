"""What commands about parts of interfaces share, declared once: their arguments, rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from osctld.core.address.addresses import VERSIONS
from osctld.core.command import (
    VERSION_SHORTHANDS,
    Argument,
    Column,
    Completes,
    ContainerName,
    EditCommand,
    Listing,
    ListOptions,
    Observed,
    OnlyInterface,
    Option,
    Reply,
    ViewCommand,
)
from osctld.core.config.host import POOL, Container, Host
from osctld.core.errors import UsageError

#: Instead of names: all of them.
ALL = "all"


class OfAVersion(Protocol):
    """An address or a network."""

    @property
    def version(self) -> int: ...


T = TypeVar("T", bound=OfAVersion)


# --- to list ------------------------------------------------------------------------------------------------------


#: The first columns: to whom something belongs, and its version. They are followed by the thing itself, then its
#: properties.
WHOSE = (Column("pool"), Column("ctid"), Column("netif"), Column("version", "IP version", type=int))


class PartsListCommand(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """Lists something that interfaces have: of all containers, of one, or of one interface.

    What was named is not shown again. `columns` begin with WHOSE and the thing itself.
    """

    #: The usual values of further columns: if all rows have one of them, the column is omitted.
    usual: ClassVar[Mapping[str, Collection[Any]]] = {}

    container: Annotated[str | None, Argument("Container", metavar="ct", completes="container")] = None
    netif: Annotated[str | None, Argument("Interface", metavar="netif", completes="interface")] = None
    version: Annotated[
        int | None,
        Option(("-v", "--version"), "4|6", "Only this IP version", choices=("4", "6"), shorthands=VERSION_SHORTHANDS),
    ] = None

    def interfaces_of(self, container: Container, name: str | None) -> Iterable[tuple[str, Any]]:
        """The interfaces of a container that can have it, or the one of that name, each with its name.

        Raises Refused when what is named is not there, or can have nothing of it.
        """
        raise NotImplementedError

    def rows_of(self, interface: Any, version: int) -> Iterable[Mapping[str, Any]]:
        """What an interface has of one IP version, without the columns that say whose it is."""
        raise NotImplementedError

    def view(self, host: Host, observed: Observed) -> Reply:  # noqa: ARG002 - given to every view
        rows = tuple(
            {"pool": POOL, "ctid": container, "netif": name, "version": version, **row}
            for container, name, interface in self._chosen(host)
            for version in VERSIONS
            if self.version in (None, version)
            for row in self.rows_of(interface, version)
        )
        always = self.columns[: len(WHOSE) + 1]
        named = 0 if self.container is None else 2 if self.netif is None else 3
        # A script that wants no header counts on the columns that it knows.
        told = {} if self.hide_header else self.usual
        news = (column for column, usual in told.items() if any(row[column] not in usual for row in rows))
        shown = (*(each.name for each in always[named:]), *news)
        return Listing(columns=self.columns, shown=shown, rows=rows)

    def _chosen(self, host: Host) -> Iterator[tuple[str, str, Any]]:
        for container in host.sorted_containers if self.container is None else [host.container(self.container)]:
            for name, interface in self.interfaces_of(container, self.netif if self.container is not None else None):
                yield container.name, name, interface


# --- to add and to take away --------------------------------------------------------------------------------------


def words_to_add(noun: str, metavar: str) -> Argument:
    """The argument of a command that adds things: one or more."""
    return Argument(f"{noun}; - reads them from standard input", metavar=metavar, many=True, from_stdin=True)


def words_to_take(noun: str, metavar: str, completes: Completes) -> Argument:
    """The argument of a command that takes things away: one or more by name, or all."""
    text = f"{noun}, or {ALL}; - reads them from standard input"
    return Argument(text, metavar=metavar, many=True, from_stdin=True, completes=completes, keywords=(ALL,))


class PartsDelCommand(EditCommand, frozen=True, kw_only=True):
    """Takes things from an interface: those that are named, or all, of one IP version too."""

    container: ContainerName
    netif: OnlyInterface = None
    version: Annotated[
        int | None,
        Option(
            ("-v", "--version"),
            "4|6",
            "With all: only those of this IP version",
            choices=("4", "6"),
            shorthands=VERSION_SHORTHANDS,
        ),
    ] = None

    def chosen(
        self, typed: tuple[str, ...], present: Iterable[T], find: Callable[[tuple[str, ...]], Iterable[T]]
    ) -> list[tuple[str, T]]:
        """The things to remove, each with the word that names it. `find` returns those that words name.

        Raises UsageError when -v goes with names, and what `find` raises.
        """
        if typed == (ALL,):
            return [(ALL, each) for each in present if self.version in (None, each.version)]
        if ALL in typed:
            raise UsageError(f"{' '.join(typed)}: {ALL} cannot be combined with other values")
        if self.version is not None:
            raise UsageError(f"-v {self.version}: requires {ALL}, cannot be used with {typed[0]}")
        return list(zip(typed, find(typed), strict=True))
