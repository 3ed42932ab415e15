"""What a command is: its words, its declared arguments and options, and one of three ways to be performed.

A command is a frozen value. Its fields are annotated with `Argument`, `Option` or `Flag`; that one declaration makes
the parser, the help, completion and the manual. There is one file per command in `osctld.commands`, found by name.

    EditCommand   edit(host)            -> Edited     changes what is wanted
    ViewCommand   view(host, observed)  -> Reply      answers and changes nothing
    ActCommand    act(host)             -> Action     a value that the daemon performs: start, stop, exec
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from osctld.core.events import EventFilter

if TYPE_CHECKING:
    from osctld.core.addresses import Network
    from osctld.core.host import Host
    from osctld.core.life import StopMethod


# --- declarations ------------------------------------------------------------------------------------------------

#: What completion offers for a value: things of the configuration (interfaces, addresses, routes and sources are those
#: of the container and interface typed before), fields of the listing, states of containers, or files of the caller.
Completes: TypeAlias = Literal["container", "interface", "address", "route", "source", "field", "state", "file", ""]


class Argument(msgspec.Struct, frozen=True):
    """A positional word. `many` takes one or more words (the field is a tuple); the last argument only.

    A field with a default is an optional argument. With `rest`, everything behind it, options included, belongs to
    it (the command line of `ct exec`). With `from_stdin`, a lone `-` among many words stands for the
    words of the caller's standard input. `keywords` are words with a meaning of their own, like "all".
    """

    help: str
    metavar: str = ""
    many: bool = False
    rest: bool = False
    from_stdin: bool = False
    completes: Completes = ""
    keywords: tuple[str, ...] = ()


class Option(msgspec.Struct, frozen=True):
    """An option with a value: `names` like ("-t", "--timeout"). The field's type says how it is read.

    str as it is; int as a number; tuple[str, ...] when it may be given more than once, or with `commas` as one
    comma-separated list.
    `is_file`: the value names a file that the client opens with its own rights. `keywords` are values with a
    meaning of their own, like "auto"; others are taken too, unlike with `choices`.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    commas: bool = False
    choices: tuple[str, ...] = ()
    is_file: bool = False
    completes: Completes = ""
    keywords: tuple[str, ...] = ()


class Flag(msgspec.Struct, frozen=True):
    """A switch. With `negatable`, `--no-NAME` switches it off."""

    names: tuple[str, ...]
    help: str
    negatable: bool = False


#: The two arguments that most commands begin with.
ContainerName: TypeAlias = Annotated[str, Argument("Container", metavar="ct", completes="container")]
InterfaceName: TypeAlias = Annotated[str, Argument("Interface", metavar="netif", completes="interface")]


# --- replies -----------------------------------------------------------------------------------------------------


#: What a value says to whoever looks for trouble; a terminal shows it in a colour.
Mark: TypeAlias = Literal["good", "doubtful", "bad"]


class Column(msgspec.Struct, frozen=True):
    """One field of a listing. `unit` says how the exact value is made readable: bytes, or nanoseconds as a time.

    `type` is that of its values, for the published schema. `marks` are values that are seen at a glance. `longest`: so
    many characters are shown of what is not asked for exactly; 0 for all.
    """

    name: str
    help: str = ""
    unit: Literal["", "bytes", "nanoseconds"] = ""
    type: Any = str
    marks: Mapping[str, Mark] = {}
    longest: int = 0


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
    #: What a person is told instead of an empty listing.
    when_empty: str = ""
    exit_status: int = 0


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
    """What an edit gives: the new configuration, whose container's kernel objects to plan, what to tell the person.

    `suggestions` says, for a network that turns out to be held by somebody else, what to ask for instead.
    """

    host: Host
    container: str
    messages: tuple[str, ...] = ()
    suggestions: Mapping[Network, str] = {}
    #: `--force`: a more specific network inside a wider one of another holder is allowed, an equal one never.
    is_delegation_allowed: bool = False


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
    #: The state alone, which is known; all of a life's facts are read anew, from several files each.
    state: Callable[[str], str] | None = None
    #: Packets that the packet filter counted of a host link, by set: asked for one link at a time.
    counted: Callable[[str], Mapping[str, int]] | None = None

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


class Execute(msgspec.Struct, frozen=True):
    """Run a command inside, on the caller's own descriptors."""

    container: str
    command: tuple[str, ...]


class Reconcile(msgspec.Struct, frozen=True):
    """Bring the kernel to what is wanted, inside the guests too: of one container, or of all."""

    container: str | None


class Watch(msgspec.Struct, frozen=True):
    """Tell the caller of each event that matches, as it happens, until the caller goes away."""

    filter: EventFilter


class WaitForState(msgspec.Struct, frozen=True):
    """Return as soon as the container is in one of these states, at once when it is already."""

    container: str
    states: tuple[str, ...]


class CheckHealth(msgspec.Struct, frozen=True):
    """Look for what on the host stands in the way of containers."""


class ShowHistory(msgspec.Struct, frozen=True):
    """List what was changed, with these columns."""

    columns: tuple[Column, ...]
    shown: tuple[str, ...]


Action: TypeAlias = (
    CheckHealth
    | CreateContainer
    | DeleteContainer
    | StartContainer
    | StopContainer
    | RestartContainer
    | Execute
    | Reconcile
    | Watch
    | WaitForState
    | ShowHistory
)


class Example(msgspec.Struct, frozen=True):
    """A command line as people type it, and what it does. The manual shows it, and a test runs it."""

    command_line: str
    help: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all commands. The class docstring is the help: first line the summary."""

    words: ClassVar[tuple[str, ...]]
    examples: ClassVar[tuple[Example, ...]] = ()
    #: All fields that a listing of this command may have, for the manual and for completion.
    columns: ClassVar[tuple[Column, ...]] = ()


class EditCommand(Command, frozen=True, kw_only=True):
    @property
    def looks_at_host(self) -> bool:
        """Whether `edit` has to know what the host uses now: `Host.networks` is looked up before."""
        return False

    def edit(self, host: Host) -> Edited:
        """Raises Refused or Conflict; a pure function of the configuration."""
        raise NotImplementedError


class ViewCommand(Command, frozen=True, kw_only=True):
    def view(self, host: Host, observed: Observed) -> Reply:
        """Raises Refused when what was asked about does not exist."""
        raise NotImplementedError


class ActCommand(Command, frozen=True, kw_only=True):
    def act(self, host: Host) -> Action:
        """Raises Refused when the action makes no sense; performs nothing."""
        raise NotImplementedError


class ShowOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of every command that shows one record. `cli` reads these fields when it shows a Listing."""

    output: Annotated[
        tuple[str, ...] | None,
        Option(
            ("-o", "--output"),
            "FIELDS",
            "Show these fields, in this order; +FIELDS shows them too, -FIELDS does not, all shows every one",
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
    parsable: Annotated[bool, Flag(("-p", "--parsable"), "Print exact values instead of readable ones")] = False
    quiet: Annotated[bool, Flag(("-q", "--quiet"), "Do not print progress")] = False
    color: Annotated[bool, Flag(("--color",), "Colour what a terminal shows", negatable=True)] = True
    pool: Annotated[
        str | None, Option(("--pool",), "NAME", "Only this pool; there is one, default", keywords=("default",))
    ] = None
    dry_run: Annotated[bool, Flag(("--dry-run",), "Print what would change as ip, sysctl and nft lines")] = False
    help: Annotated[bool, Flag(("--help",), "Show help")] = False
    version: Annotated[bool, Flag(("--version",), "Show the version")] = False
