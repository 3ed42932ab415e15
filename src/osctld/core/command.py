"""What a command is: its words, its declared arguments and options, and one of three ways to be performed.

A command is a frozen value. Its fields are annotated with `Argument`, `Option` or `Flag`; that one declaration makes
the parser, the help, completion and the manual. There is one file per command in `osctld.commands`, found by name.

    EditCommand   edit(host, surroundings) -> Edited  changes what is wanted
    ViewCommand   view(host, observed)  -> Reply      answers and changes nothing
    ActCommand    act(host)             -> Action     a value that the daemon performs: start, stop, exec
    LookCommand   act(host)             -> Look       the same for what changes nothing: check, history, events

What looks, that is ViewCommand and LookCommand, may be asked for by the read-only group (`osctld.core.access`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from osctld.core.events import EventFilter

if TYPE_CHECKING:
    from osctld.core.address.addresses import Network
    from osctld.core.address.next_hop import NextHop
    from osctld.core.authority.null_routes import Yielded
    from osctld.core.config.host import Host
    from osctld.core.config.life import StopMethod
    from osctld.core.config.surroundings import Surroundings


# --- declarations ------------------------------------------------------------------------------------------------

#: What completion offers for a value: things of the configuration (interfaces, addresses, routes and sources are those
#: of the container and interface typed before), fields of the listing, states of containers, or files of the caller.
Completes: TypeAlias = Literal[
    "container", "interface", "address", "route", "source", "link", "uplink", "pool", "block", "field", "state", "file",
    "",
]  # fmt: skip


class Argument(msgspec.Struct, frozen=True):
    """A positional word. `many` takes one or more words (the field is a tuple); the last argument only.

    A field with a default is an optional argument. With `rest`, everything behind it, options included, belongs to
    it (the command line of `ct exec`). With `from_stdin`, a lone `-` among many words stands for the
    words of the caller's standard input. `keywords` are words with a meaning of their own, like "all".
    `fits` is the pattern of an argument that may be left out although others follow: a word that it does not match is
    the next argument's, and so is one that matches when there are too few words and it matches that one's pattern too.
    """

    help: str
    metavar: str = ""
    many: bool = False
    rest: bool = False
    from_stdin: bool = False
    completes: Completes = ""
    keywords: tuple[str, ...] = ()
    fits: str = ""


class Option(msgspec.Struct, frozen=True):
    """An option with a value: `names` like ("-t", "--timeout"). The field's type says how it is read.

    str as it is; int as a number; tuple[str, ...] when it may be given more than once, or with `commas` as one
    comma-separated list.
    `is_file`: the value names a file that the client opens with its own rights. `keywords` are values with a
    meaning of their own, like "auto"; others are taken too, unlike with `choices`. `shorthands` are short options that
    stand for a value: `-4`.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    commas: bool = False
    choices: tuple[str, ...] = ()
    is_file: bool = False
    completes: Completes = ""
    keywords: tuple[str, ...] = ()
    shorthands: Mapping[str, str] = {}


class Flag(msgspec.Struct, frozen=True):
    """A switch. With `negatable`, `--no-NAME` switches it off."""

    names: tuple[str, ...]
    help: str
    negatable: bool = False


class Secret:
    """Beside a declaration: what is given there may hold secrets. It appears neither in events, nor in the history, nor
    by the log."""


SECRET = Secret()
_NOT_TOLD = "***"


@functools.cache
def secret_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields of a command that are declared with `SECRET`."""
    return frozenset(
        each.name
        for each in msgspec.structs.fields(kind)
        if any(isinstance(note, Secret) for note in getattr(each.type, "__metadata__", ()))
    )


def without_secrets(words: Iterable[str], command: Command) -> tuple[str, ...]:
    """The words of a command line, those left out that were given for something secret."""
    secrets: set[str] = set()
    for name in secret_fields(type(command)):
        value = getattr(command, name)
        secrets.update(value if isinstance(value, tuple) else (value,))
    return tuple(
        _NOT_TOLD if word in secrets or ("=" in word and word.partition("=")[2] in secrets) else word for word in words
    )


#: What a word must look like to be the name of an interface, where an address or the word `all` could stand too.
NAME_OF_INTERFACE = r"(?!all\Z)[A-Za-z0-9_][A-Za-z0-9_-]*"

#: The first two arguments of most commands.
ContainerName: TypeAlias = Annotated[str, Argument("Container", metavar="ct", completes="container")]
InterfaceName: TypeAlias = Annotated[str, Argument("Interface", metavar="netif", completes="interface")]
#: The second if it may be omitted: None stands for the only interface of the container.
OnlyInterface: TypeAlias = Annotated[
    str | None,
    Argument(
        "Interface; may be omitted if the container has only one",
        metavar="netif",
        completes="interface",
        fits=NAME_OF_INTERFACE,
    ),
]
#: Of an IP version.
VERSION_SHORTHANDS = {"-4": "4", "-6": "6"}


# --- replies -----------------------------------------------------------------------------------------------------


#: What a value says to whoever looks for trouble; a terminal shows it in a colour.
Mark: TypeAlias = Literal["good", "doubtful", "bad"]


class Column(msgspec.Struct, frozen=True):
    """One field of a listing. `unit` says how the exact value is made readable: bytes, or nanoseconds as a time.

    `type` is that of its values, for the published schema. `marks` are values that are seen at a glance. `longest`: so
    many characters are shown of what is not asked for exactly; 0 for all. `is_lines`: values are lists whose parts are
    printed on lines of their own, in listings that are records or paragraphs.
    """

    name: str
    help: str = ""
    unit: Literal["", "bytes", "nanoseconds"] = ""
    type: Any = str
    marks: Mapping[str, Mark] = {}
    longest: int = 0
    is_lines: bool = False


Row: TypeAlias = Mapping[str, Any]


class Listing(msgspec.Struct, frozen=True):
    """Rows for eyes or programs. `columns` are all there are, `shown` those shown unless asked otherwise."""

    columns: tuple[Column, ...]
    shown: tuple[str, ...]
    rows: tuple[Row, ...]
    #: One record, a line per field, instead of a table.
    is_record: bool = False
    #: A table whose rows hold sentences: shown as records, one after another.
    is_paragraphs: bool = False
    #: What is printed instead of an empty listing.
    when_empty: str = ""
    #: What is printed before the rows, or instead of them if there are none.
    verdict: str = ""
    exit_status: int = 0
    #: Lines that people get instead of a table.
    lines: tuple[str, ...] | None = None
    #: What is told on standard error beside it.
    notes: tuple[str, ...] = ()


class Text(msgspec.Struct, frozen=True):
    """Plain lines, each on the caller's standard output. `changed` says whether anything is different now."""

    lines: tuple[str, ...] = ()
    changed: bool = False


class ExitStatus(msgspec.Struct, frozen=True):
    """Nothing to say; the status of the command that ran on the caller's own descriptors."""

    status: int


Reply: TypeAlias = Listing | Text | ExitStatus


# --- the three kinds ---------------------------------------------------------------------------------------------


class Edited(msgspec.Struct, frozen=True):
    """The result of an edit: the new configuration, the container whose kernel objects are to be planned, messages for
    the person.

    `suggestions` says, for a network that turns out to be held by somebody else, what to ask for instead.
    """

    host: Host
    container: str
    messages: tuple[str, ...] = ()
    #: Other containers that the same edit changes.
    others: tuple[str, ...] = ()
    #: Networks that were set aside and are wanted from now on: the authority is asked for them again.
    taken: tuple[Network, ...] = ()
    suggestions: Mapping[Network, str] = {}
    #: `--force`: a more specific network inside a wider one of another holder is allowed, an equal one never.
    is_delegation_allowed: bool = False
    #: `--overlap-host`: what the host uses is allowed, but for its addresses and the edges of its networks.
    is_overlap_allowed: bool = False

    @property
    def containers(self) -> tuple[str, ...]:
        """All containers that it changes."""
        return (self.container, *self.others)

    def without_stale_states(self) -> Edited:
        """The same without networks set aside that are no longer held."""
        host = self.host
        for name in self.containers:
            container = host.container(name)
            if container.set_aside:
                host = host.with_container(container.with_parked(container.parked))
        return msgspec.structs.replace(self, host=host) if host is not self.host else self


class LifeFacts(msgspec.Struct, frozen=True):
    """What a view may know of one container's present: `state` is stopped, starting, running or stopping.

    Memory in bytes, CPU time in nanoseconds; None where unknown.
    """

    state: str
    init_pid: int | None = None
    memory_bytes: int | None = None
    cpu_nanoseconds: int | None = None


class Observed(msgspec.Struct, frozen=True):
    """What views know beside the configuration."""

    lives: Mapping[str, LifeFacts]
    daemon: Mapping[str, Any]
    #: The state alone, which is known; all other facts of a running container are read again, from several files each.
    state: Callable[[str], str] | None = None
    #: Links on which the host is in a network.
    links: Callable[[], Collection[str]] = tuple
    #: Packets that the packet filter counted of a host link, by set: asked for one link at a time.
    counted: Callable[[str], Mapping[str, int]] | None = None
    #: Routes of a container that are not added because of conflicting foreign routes.
    yielded: Callable[[str], Sequence[Yielded]] | None = None

    def life(self, container: str) -> LifeFacts:
        return self.lives.get(container) or LifeFacts("stopped")

    def is_running(self, container: str) -> bool:
        state = self.state(container) if self.state is not None else self.life(container).state
        return state == "running"


class CreateContainer(msgspec.Struct, frozen=True):
    """Build a root directory and keep the container. `archive` is a file that the client opens, or None."""

    edited: Edited
    distribution: str
    archive: str | None = None


class DeleteContainer(msgspec.Struct, frozen=True):
    container: str
    is_forced: bool


class StartContainer(msgspec.Struct, frozen=True):
    container: str
    #: How long to wait for the first process, in seconds; 0 does not wait.
    wait_seconds: int


class StopContainer(msgspec.Struct, frozen=True):
    container: str
    timeout_seconds: int
    method: StopMethod


class RestartContainer(msgspec.Struct, frozen=True):
    container: str
    wait_seconds: int
    timeout_seconds: int
    method: StopMethod


class ShutDown(msgspec.Struct, frozen=True):
    """Stop all containers, and start none until the host has rebooted. Without `is_forced`, only when none runs."""

    timeout_seconds: int
    is_forced: bool


class AbortShutdown(msgspec.Struct, frozen=True):
    """Permit starts again, and start what a shutdown has stopped."""


class Execute(msgspec.Struct, frozen=True):
    """Run a command inside, on the caller's own descriptors.

    With `starts`, in a stopped container too: without the guest's init, and with its interfaces if `has_network`.
    """

    container: str
    command: tuple[str, ...]
    starts: bool = False
    has_network: bool = False


class Reconcile(msgspec.Struct, frozen=True):
    """Bring the kernel to what is wanted, inside the guests too: of one container, or of all."""

    container: str | None


class BackUp(msgspec.Struct, frozen=True):
    """Copy all that is kept into a file that the client makes."""

    file: str


class RestoreCopy(msgspec.Struct, frozen=True):
    """Keep what such a file holds instead of what is kept. `replaces_host`: also when it is of another host.

    `takes`: what was given up since the file was made is held again, and not parked.
    """

    file: str
    replaces_host: bool
    takes: bool


class Watch(msgspec.Struct, frozen=True):
    """Tell the caller of each event that matches, as it happens, until the caller goes away."""

    filter: EventFilter


class WaitForState(msgspec.Struct, frozen=True):
    """Return as soon as the container is in one of these states, at once when it is already."""

    container: str
    states: tuple[str, ...]


class ShowGuestFiles(msgspec.Struct, frozen=True):
    """Say in what the files of the network tool inside differ from the configuration."""

    container: str


class ApplyGuestFiles(msgspec.Struct, frozen=True):
    """Write the files of the network tool inside, whatever the policy is."""

    container: str


class RestoreGuestFiles(msgspec.Struct, frozen=True):
    """Take back what was written into them."""

    container: str


class CheckHealth(msgspec.Struct, frozen=True):
    """Find what on the host hinders containers."""


class ShowCondition(msgspec.Struct, frozen=True):
    """Say what is not as it should be."""


class ShowMetrics(msgspec.Struct, frozen=True):
    """Say that, and what was counted, for Prometheus; with `has_head` as an answer to a request of HTTP."""

    has_head: bool = False


class ShowHistory(msgspec.Struct, frozen=True):
    """List what was changed, with these columns; with `has_failures` also what was refused or failed."""

    columns: tuple[Column, ...]
    shown: tuple[str, ...]
    has_failures: bool = False


class ShowHolders(msgspec.Struct, frozen=True):
    """Say who holds a network, or held it at a moment, as it was typed."""

    network: Network
    at: str | None


class ListHoldings(msgspec.Struct, frozen=True):
    """List what is held: by one container, or by all and by the host; of one IP version, or of both."""

    container: str | None
    version: int | None


class ListUplinks(msgspec.Struct, frozen=True):
    """List the links whose networks containers may use parts of."""


class ListPools(msgspec.Struct, frozen=True):
    """List the pools of addresses, and how much of each is used."""


class PrintStaticRoutes(msgspec.Struct, frozen=True):
    """Print the static routes that a router needs, in a dialect: all of them, or what has changed since a file.

    `next_hops` are those of the routes of each IP version; without one, these are left out.
    """

    dialect: str
    next_hops: Mapping[int, NextHop]
    since: str | None


class DeclareUplink(msgspec.Struct, frozen=True):
    """Allow or stop allowing containers to use parts of the networks of a link."""

    link: str
    is_declared: bool


class EnableRouter(msgspec.Struct, frozen=True):
    """Have this routing daemon announce networks."""

    engine: str


class DisableRouter(msgspec.Struct, frozen=True):
    """Announce nothing any more."""


class ShowRouter(msgspec.Struct, frozen=True):
    """Show what is announced to whom."""


class BlockNetworks(msgspec.Struct, frozen=True):
    """Drop packets to these networks for this number of seconds; None: until unblocked."""

    networks: tuple[Network, ...]
    seconds: int | None


class UnblockNetworks(msgspec.Struct, frozen=True):
    """Drop it no more."""

    networks: tuple[Network, ...]


class ListBlocks(msgspec.Struct, frozen=True):
    """List the networks that are blocked."""


GuestFilesAction: TypeAlias = ShowGuestFiles | ApplyGuestFiles | RestoreGuestFiles

#: Actions that change nothing.
Look: TypeAlias = (
    CheckHealth
    | ShowCondition
    | ShowMetrics
    | Watch
    | WaitForState
    | ShowHistory
    | ShowHolders
    | ListHoldings
    | ListUplinks
    | ListPools
    | ListBlocks
    | ShowGuestFiles
    | PrintStaticRoutes
    | ShowRouter
)

Action: TypeAlias = (
    CreateContainer
    | DeleteContainer
    | StartContainer
    | StopContainer
    | RestartContainer
    | ShutDown
    | AbortShutdown
    | Execute
    | Reconcile
    | BackUp
    | RestoreCopy
    | DeclareUplink
    | BlockNetworks
    | UnblockNetworks
    | ApplyGuestFiles
    | RestoreGuestFiles
    | EnableRouter
    | DisableRouter
    | Look
)


class Example(msgspec.Struct, frozen=True):
    """A command line as people type it, and what it does. The manual shows it, and a test runs it."""

    command_line: str
    help: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all commands. The class docstring is the help: first line the summary."""

    words: ClassVar[tuple[str, ...]]
    #: Whether it can change nothing, whatever its options are. Its kind says so, not the individual command.
    looks: ClassVar[bool] = False
    #: Whether attempts that changed nothing are recorded beside the history: for commands that the history lists.
    keeps_failures: ClassVar[bool] = True
    examples: ClassVar[tuple[Example, ...]] = ()
    #: All fields that a listing of this command may have, for the manual and for completion.
    columns: ClassVar[tuple[Column, ...]] = ()


class EditCommand(Command, frozen=True, kw_only=True):
    #: Whether it gives a container an interface that it did not have.
    adds_interface: ClassVar[bool] = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        """Raises Refused or Conflict; a pure function of the configuration and of what surrounds it."""
        raise NotImplementedError


class ViewCommand(Command, frozen=True, kw_only=True):
    looks: ClassVar[bool] = True

    def view(self, host: Host, observed: Observed) -> Reply:
        """Raises Refused when what was asked about does not exist."""
        raise NotImplementedError


class ActCommand(Command, frozen=True, kw_only=True):
    def act(self, host: Host) -> Action:
        """Raises Refused when the action makes no sense; performs nothing."""
        raise NotImplementedError


class LookCommand(ActCommand, frozen=True, kw_only=True):
    """An action that changes nothing: the type of what it gives says so."""

    looks: ClassVar[bool] = True

    def act(self, host: Host) -> Look:
        raise NotImplementedError


class ShowOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of every command that shows one record. `cli` reads these fields when it shows a Listing."""

    output: Annotated[
        tuple[str, ...] | None,
        Option(
            ("-o", "--output"),
            "FIELDS",
            "Show these fields, in this order; +FIELDS adds, -FIELDS removes, all shows every field",
            commas=True,
            completes="field",
        ),
    ] = None
    hide_header: Annotated[bool, Flag(("-H", "--hide-header"), "Do not show the header")] = False
    list_fields: Annotated[bool, Flag(("-L", "--list"), "List the names of all fields and exit")] = False


class ListOptions(ShowOptions, frozen=True, kw_only=True):
    """Options of every command that shows a table."""

    sort: Annotated[
        tuple[str, ...] | None,
        Option(("-s", "--sort"), "FIELDS", "Sort by these shown fields, ascending", commas=True, completes="field"),
    ] = None


class GlobalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options that may stand anywhere before the words `ct exec` runs."""

    json: Annotated[bool, Flag(("-j", "--json"), "Print data as one line of JSON")] = False
    parsable: Annotated[bool, Flag(("-p", "--parsable"), "Print exact values instead of human-readable ones")] = False
    quiet: Annotated[bool, Flag(("-q", "--quiet"), "Do not print progress and notes")] = False
    color: Annotated[bool, Flag(("--color",), "Colour the output on a terminal", negatable=True)] = True
    pool: Annotated[str | None, Option(("--pool",), "NAME", "Pool; the only one is default", keywords=("default",))] = (
        None
    )
    if_generation: Annotated[
        int | None,
        Option(("--if-generation",), "N", "Refuse the change unless the container's configuration has this generation"),
    ] = None
    dry_run: Annotated[bool, Flag(("--dry-run",), "Print what would change as ip, sysctl and nft commands")] = False
    help: Annotated[bool, Flag(("--help",), "Show help")] = False
    version: Annotated[bool, Flag(("--version",), "Show the version")] = False
