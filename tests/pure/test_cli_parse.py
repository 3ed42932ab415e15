"""The parser: what a command line means, and how it is refused."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osctld.cli.catalogue import Group, build_tree, catalogue
from osctld.cli.parse import (
    ALIASES,
    HelpRequest,
    Invocation,
    MissingSubcommand,
    Parameter,
    Parsed,
    VersionRequest,
    can_be_left_out,
    parse,
    resolve,
    signature,
    wants_standard_input,
    with_standard_input,
)
from osctld.core.command import Argument, Command, Flag, GlobalOptions, ListOptions, Option
from osctld.core.errors import UsageError


class Add(Command, frozen=True, kw_only=True):
    """Add."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "add")
    container: Annotated[str, Argument("Container", metavar="ct")]
    addresses: Annotated[tuple[str, ...], Argument("Addresses", metavar="addr", many=True, from_stdin=True)]
    route: Annotated[bool, Flag(("--route",), "Route", negatable=True)] = True
    route_as: Annotated[str | None, Option(("--route-as",), "NETWORK", "Route as")] = None
    via: Annotated[tuple[str, ...], Option(("--via",), "NETWORK", "Via")] = ()
    version: Annotated[int | None, Option(("-v", "--version"), "4|6", "Version", choices=("4", "6"))] = None
    timeout: Annotated[int, Option(("-t", "--timeout"), "SECONDS", "Timeout")] = 60


class Ls(Command, ListOptions, frozen=True, kw_only=True):
    """List."""

    words: ClassVar[tuple[str, ...]] = ("ct", "ls")
    container: Annotated[str | None, Argument("Container", metavar="ct")] = None


class Name(Command, frozen=True, kw_only=True):
    """Name."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "name")
    container: Annotated[str, Argument("Container", metavar="ct")]
    old: Annotated[str | None, Argument("Interface", metavar="old", fits="[a-z0-9]+")] = None
    new: Annotated[str, Argument("New name", metavar="new", fits="[a-z0-9]+")]


class Take(Command, frozen=True, kw_only=True):
    """Take."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "take")
    container: Annotated[str, Argument("Container", metavar="ct")]
    netif: Annotated[str | None, Argument("Interface", metavar="netif", fits="(?!all\\Z)[a-z0-9]+")] = None
    addresses: Annotated[tuple[str, ...], Argument("Addresses", metavar="addr", many=True)]
    version: Annotated[
        int | None,
        Option(("-v", "--version"), "4|6", "Version", choices=("4", "6"), shorthands={"-4": "4", "-6": "6"}),
    ] = None


class Exec(Command, frozen=True, kw_only=True):
    """Exec."""

    words: ClassVar[tuple[str, ...]] = ("ct", "exec")
    container: Annotated[str, Argument("Container", metavar="ct")]
    command: Annotated[tuple[str, ...], Argument("Command", metavar="cmd", rest=True)]


class Rename(Command, frozen=True, kw_only=True):
    """Rename."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "rename")
    link: Annotated[str, Option(("--link",), "LINK", "A required option")]
    force: Annotated[bool, Flag(("-f", "--force"), "Force")] = False


TREE = build_tree((Add, Ls, Name, Take, Exec, Rename))


def parsed(*argv: str) -> Command:
    result = parse(argv, TREE)
    assert isinstance(result, Invocation)
    return result.command


def global_options(*argv: str) -> GlobalOptions:
    result = parse(argv, TREE)
    assert isinstance(result, Invocation)
    return result.options


def refused(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(argv, TREE)
    return caught.value.message


# --- laws over all commands of the installation -------------------------------------------------------------------


def commands_of(group: Group) -> list[type[Command]]:
    found: list[type[Command]] = []
    for child in group.children.values():
        found.extend(commands_of(child) if isinstance(child, Group) else [child])
    return found


COMMANDS = commands_of(catalogue())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(10**17), 10**17)


def value_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    declaration = parameter.declaration
    if isinstance(declaration, Flag):
        return st.booleans() if declaration.negatable else st.just(True)
    one: st.SearchStrategy[Any] = TEXT if parameter.scalar is str else NUMBERS
    if isinstance(declaration, Option) and declaration.choices:
        one = st.sampled_from(declaration.choices).map(parameter.scalar)
    elif isinstance(declaration, Option) and declaration.commas:
        one = one.filter(lambda text: text and "," not in text)
    return st.lists(one, min_size=1, max_size=4).map(tuple) if parameter.is_tuple else one


@st.composite
def spelled_options(draw: st.DrawFn, parameter: Parameter, value: Any) -> list[list[str]]:
    """Groups of words that must stay together, which give an option this value."""
    declaration = parameter.declaration
    assert not isinstance(declaration, Argument)
    name = draw(st.sampled_from(declaration.names))
    if isinstance(declaration, Flag):
        return [[name if value else f"--no-{name[2:]}"]]
    if declaration.commas:
        texts = [",".join(map(str, value))]
    else:
        texts = [str(each) for each in (value if parameter.is_tuple else [value])]
    groups = []
    for text in texts:
        spellings = [[f"{name}={text}"]]
        if not text.startswith("--"):
            spellings.append([name, text])
        if not name.startswith("--") and text and not text.startswith("="):
            spellings.append([f"{name}{text}"])
        groups.append(draw(st.sampled_from(spellings)))
    return groups


def begins_otherwise(pattern: str, value: Any) -> bool:
    return not re.fullmatch(pattern, value if isinstance(value, str) else value[0])


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[Command, list[str]]:
    """A command, and one of the many ways to say it."""
    of = draw(st.sampled_from(COMMANDS))
    declared = signature(of)
    fields: dict[str, Any] = {}
    options: list[list[str]] = []
    for parameter in declared.options:
        if parameter.is_required or draw(st.booleans()):
            fields[parameter.field] = draw(value_of(parameter))
            options.extend(draw(spelled_options(parameter, fields[parameter.field])))
    arguments: list[str] = []
    left_out = ""
    for parameter in declared.arguments:
        assert isinstance(parameter.declaration, Argument)
        pattern = parameter.declaration.fits
        if not parameter.is_required and draw(st.booleans()):
            if not can_be_left_out(parameter):
                break
            left_out = pattern
            continue
        values = value_of(parameter) if not pattern else st.from_regex(pattern, fullmatch=True)
        if left_out and not pattern:  # what looks like the argument that was left out would be taken for it
            values = values.filter(functools.partial(begins_otherwise, left_out))
        left_out = ""
        fields[parameter.field] = value = draw(values)
        arguments.extend(map(str, value) if parameter.is_tuple else [str(value)])
    takes_rest = any(isinstance(each.declaration, Argument) and each.declaration.rest for each in declared.arguments)
    if takes_rest or any(each.startswith("-") and each != "-" for each in arguments):
        spread = [*options, ["--"], *([each] for each in arguments)]
    else:
        # Options in their own order (a repeated one is a list), anywhere among the arguments.
        places = sorted(draw(st.lists(st.integers(0, len(arguments)), min_size=len(options), max_size=len(options))))
        spread = [[each] for each in arguments]
        for place, group in reversed(list(zip(places, options, strict=True))):
            spread.insert(place, group)
    return of(**fields), [*of.words, *(word for group in spread for word in group)]


@given(command_lines())
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
def test_a_command_is_the_same_however_its_options_are_spelled_and_wherever_they_stand(
    line: tuple[Command, list[str]],
) -> None:
    command, argv = line

    assert parse(argv) == Invocation(command, GlobalOptions())


VOCABULARY = sorted(
    {word for command in COMMANDS for word in command.words}
    | {name for of in COMMANDS for each in signature(of).options for name in getattr(each.declaration, "names", ())}
    | {*ALIASES, "--", "-", "help", "--help", "--json", "--no-color", "-jp", "--pool", "=", "", "4", "--socket"}
)


@given(st.lists(st.sampled_from(VOCABULARY) | st.text(max_size=5), max_size=8))
@settings(max_examples=1000)
def test_no_words_whatever_raise_anything_but_a_usage_error(argv: list[str]) -> None:
    try:
        result: Parsed | UsageError = parse(argv)
    except UsageError as error:
        result = error

    assert isinstance(result, Invocation | HelpRequest | VersionRequest) or (
        result.message and result.exit_status == 64
    )


@pytest.mark.parametrize("of", COMMANDS, ids=lambda of: "-".join(of.words))
def test_an_option_that_there_is_not_is_refused_by_every_command(of: type[Command]) -> None:
    with pytest.raises(UsageError, match=r"unknown option: --there-is-not$"):
        parse([*of.words, "--there-is-not"])


@pytest.mark.parametrize("of", COMMANDS, ids=lambda of: "-".join(of.words))
def test_every_command_answers_its_aliases(of: type[Command]) -> None:
    aliases = {target: alias for alias, target in ALIASES.items()}

    assert resolve([aliases.get(word, word) for word in of.words]) is of


# --- an argument that may be left out -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("take", "web", "eth0", "1.2.3.4"), Take(container="web", netif="eth0", addresses=("1.2.3.4",))),
        (("take", "web", "1.2.3.4", "eth0"), Take(container="web", addresses=("1.2.3.4", "eth0"))),
        (("take", "web", "all"), Take(container="web", addresses=("all",))),
        (("take", "web", "eth0", "all"), Take(container="web", netif="eth0", addresses=("all",))),
        (("take", "web", "-"), Take(container="web", addresses=("-",))),
        (("name", "web", "eth0", "wan0"), Name(container="web", old="eth0", new="wan0")),
        (("name", "web", "wan0"), Name(container="web", new="wan0")),
        (("name", "web", "wan.0"), Name(container="web", new="wan.0")),
    ],
)
def test_a_word_that_cannot_be_the_argument_before_belongs_to_the_next_one(
    argv: tuple[str, ...], expected: Command
) -> None:
    assert parsed("ct", "netif", *argv) == expected


def test_what_is_missing_is_told_when_a_word_is_taken_for_what_could_be_left_out() -> None:
    assert refused("ct", "netif", "take", "web", "eth0") == "missing argument <addr>"
    assert refused("ct", "netif", "name", "web") == "missing argument <new>"


def test_a_shorthand_stands_for_an_option_with_its_value() -> None:
    for argv in (("-4", "web", "all"), ("web", "all", "-v", "4"), ("web", "-4", "all")):
        assert parsed("ct", "netif", "take", *argv) == Take(container="web", addresses=("all",), version=4)
    assert "given twice" in refused("ct", "netif", "take", "-4", "-6", "web", "all")
    assert "unknown option: -5" in refused("ct", "netif", "take", "-5", "web", "all")


# --- words --------------------------------------------------------------------------------------------------------


def test_words_may_be_abbreviated_to_a_unique_prefix_and_aliases_count() -> None:
    assert parsed("ct", "l") == Ls()  # ls and list are one command
    assert parsed("v", "li") == Ls()
    assert parsed("ct", "net", "ad", "web", "1.2.3.4") == Add(container="web", addresses=("1.2.3.4",))


def test_an_ambiguous_word_is_refused_with_what_it_could_be() -> None:
    with pytest.raises(UsageError, match=r"^ambiguous command 'ct s' \(could be set, show, start, stop\)$"):
        parse(["ct", "s"])


def test_an_unknown_word_is_refused_with_what_there_is() -> None:
    assert refused("") == "unknown command '' (expected ct)"
    assert refused("frob") == "unknown command 'frob' (expected ct)"
    assert refused("ct", "frob") == "unknown command 'ct frob' (expected exec, ls, netif)"


def test_a_group_without_a_subcommand_is_refused_by_its_words() -> None:
    with pytest.raises(MissingSubcommand, match=r"^command 'ct netif' requires a subcommand$") as caught:
        parse(["vps", "netif"], TREE)

    assert caught.value.words == ("ct", "netif")


# --- options ------------------------------------------------------------------------------------------------------


def test_global_options_stand_anywhere() -> None:
    for argv in (("-j", "ct", "ls"), ("ct", "--json", "ls"), ("ct", "ls", "-j"), ("ct", "ls", "web", "--js")):
        assert global_options(*argv) == GlobalOptions(json=True)
    assert global_options("--no-color", "ct", "ls", "--pool=p", "-pq") == GlobalOptions(
        color=False, pool="p", parsable=True, quiet=True
    )


def test_short_flags_cluster_and_the_last_may_take_a_value() -> None:
    wanted = Ls(hide_header=True, output=("id", "state"))

    for argv in (("-Hoid,state",), ("-Ho", "id,state"), ("-H", "-o=id,state"), ("-o", "id,state", "-H")):
        assert parsed("ct", "ls", *argv) == wanted


def test_a_long_option_may_be_abbreviated_while_it_fits_one_only() -> None:
    assert parsed("ct", "ls", "--hide", "--out", "id") == Ls(hide_header=True, output=("id",))
    assert refused("ct", "netif", "add", "web", "1.2.3.4", "--rou").startswith("ambiguous option: --rou (could be ")
    assert parsed("ct", "netif", "add", "web", "a", "--route") == Add(container="web", addresses=("a",))


def test_an_option_of_a_command_wins_over_a_global_one_of_its_name() -> None:
    assert parsed("ct", "netif", "add", "web", "a", "--version", "6") == Add(
        container="web", addresses=("a",), version=6
    )
    assert parse(["ct", "ls", "--version"], TREE) == VersionRequest()


def test_values_that_look_odd_are_fine() -> None:
    assert parsed("ct", "netif", "add", "web", "a", "--timeout=-5") == parsed(
        "ct", "netif", "add", "web", "a", "-t", "-5"
    )
    assert parsed("ct", "ls", "-o", "-memory,+id") == Ls(output=("-memory", "+id"))
    assert parsed("ct", "netif", "add", "web", "a", "--route-as=--x") == Add(
        container="web", addresses=("a",), route_as="--x"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown option: --foo"),
        (["-x"], "unknown option: -x"),
        (["-h"], "unknown option: -h (for help: --help)"),
        (["-fx"], "unknown option: -fx"),
        (["--socket", "/x"], "unknown option: --socket (it must precede the command)"),
        (["-v", "six"], "invalid argument: -v six (expected 4 or 6)"),
        (["--version=five"], "invalid argument: --version five (expected 4 or 6)"),
        (["-t", "soon"], "invalid argument: -t soon (expected a number)"),
        (["-t", "1_0"], "invalid argument: -t 1_0 (expected a number)"),
        (["-t", "9" * 5000], f"invalid argument: -t {'9' * 5000} (expected a number)"),
        (["-t", "1", "--timeout", "2"], "option --timeout given twice: 2"),
        (["--route-as"], "option --route-as requires a value: NETWORK"),
        (["--route-as", "--no-route"], "option --route-as requires a value: NETWORK"),
        (["--no-route=1"], "option --no-route takes no value: --no-route=1"),
        (["--json=1"], "option --json takes no value: --json=1"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_in_its_own_words(words: list[str], message: str) -> None:
    assert refused("ct", "netif", "add", "web", "1.2.3.4", *words) == message


def test_an_option_of_a_command_before_its_words_is_refused_with_the_reason() -> None:
    assert refused("-o", "id", "ct", "ls") == "unknown option: -o (options of a command must follow it)"


def test_a_missing_required_option_is_named() -> None:
    assert refused("ct", "netif", "rename") == "missing option --link LINK"


# --- arguments ----------------------------------------------------------------------------------------------------


def test_surplus_arguments_are_all_named() -> None:
    assert refused("ct", "ls", "web", "mail") == "unknown argument: mail"
    assert refused("ct", "ls", "web", "mail", "db") == "unknown arguments: mail db"


def test_missing_arguments_are_all_named() -> None:
    assert refused("ct", "netif", "add", "web") == "missing argument <addr>"
    assert refused("ct", "netif", "add") == "missing arguments <ct> <addr>"


def test_two_dashes_end_the_options() -> None:
    assert parsed("ct", "netif", "add", "--", "--web", "-v") == Add(container="--web", addresses=("-v",))


def test_words_that_are_not_utf_8_are_refused_quoting_them() -> None:
    assert refused("ct", "ls", "caf\udce9") == "argument 'caf\\udce9' is not valid UTF-8"


# --- ct exec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["web", "ls", "-l", "--json", "--help"], ("ls", "-l", "--json", "--help")),
        (["web", "--", "ls", "-l"], ("ls", "-l")),
        (["--", "web", "ls", "--", "x"], ("ls", "--", "x")),
        (["--", "web", "--", "ls"], ("ls",)),
        (["web", "--", "-odd"], ("-odd",)),
        (["web", "--", "--", "x"], ("--", "x")),
        (["web", "sh", "--", "x"], ("sh", "--", "x")),
        (["web", "-", "x"], ("-", "x")),
        (["web", "", "x"], ("", "x")),
    ],
)
def test_everything_from_the_first_word_of_the_inner_command_on_is_its_own(
    argv: list[str], command: tuple[str, ...]
) -> None:
    assert parsed("ct", "exec", *argv) == Exec(container="web", command=command)


def test_options_before_the_inner_command_are_ours() -> None:
    assert parse(["ct", "exec", "-q", "web", "-j", "ls", "-p"], TREE) == Invocation(
        Exec(container="web", command=("ls", "-p")), GlobalOptions(quiet=True, json=True)
    )
    assert refused("ct", "exec", "web", "-x", "ls") == "unknown option: -x"
    assert refused("ct", "exec", "web") == "missing argument <cmd>"
    assert refused("ct", "exec", "web", "--") == "missing argument <cmd>"


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_an_inner_command_behind_two_dashes_arrives_word_for_word(command: list[str]) -> None:
    assert parsed("ct", "exec", "web", "--", *command) == Exec(container="web", command=tuple(command))


# --- help and version ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ()),
        (["-j"], ()),
        (["help"], ()),
        (["--help"], ()),
        (["help", "vps", "net"], ("ct", "netif")),
        (["help", "ct", "netif", "add"], ("ct", "netif", "add")),
        (["--help", "ct", "ls"], ("ct", "ls")),
        (["ct", "--help"], ("ct",)),
        (["ct", "netif", "add", "--help"], ("ct", "netif", "add")),
        (["ct", "exec", "--help", "web", "ls"], ("ct", "exec")),
        (["ct", "exec", "web", "--help", "ls"], ("ct", "exec")),
    ],
)
def test_help_is_given_wherever_it_is_asked_for(argv: list[str], words: tuple[str, ...]) -> None:
    assert parse(argv, TREE) == HelpRequest(words)


def test_help_about_what_there_is_not_is_refused() -> None:
    assert refused("help", "frob") == "unknown command 'frob' (expected ct)"
    assert refused("help", "ct", "ls", "x") == "command 'ct ls' has no subcommand 'x'"


def test_the_version_is_asked_for_without_a_command() -> None:
    assert parse(["--version"], TREE) == VersionRequest()


# --- standard input -----------------------------------------------------------------------------------------------


def test_a_dash_stands_for_the_words_of_standard_input() -> None:
    command = parsed("ct", "netif", "add", "web", "1.1.1.1", "-", "2.2.2.2")

    assert wants_standard_input(command)
    assert with_standard_input(command, " a\tb\n\nc\n") == Add(
        container="web", addresses=("1.1.1.1", "a", "b", "c", "2.2.2.2")
    )


def test_a_command_without_a_dash_leaves_standard_input_alone() -> None:
    assert not wants_standard_input(parsed("ct", "netif", "add", "web", "1.1.1.1"))
    assert not wants_standard_input(parsed("ct", "exec", "web", "cat", "-"))


@pytest.mark.parametrize(
    ("argv", "text", "message"),
    [
        (["-"], " \n", "argument <addr>: - given, but standard input is empty"),
        (["-", "-"], "a", "argument <addr>: - given twice, but standard input can only be read once"),
        (["-"], "caf\udce9", "standard input is not valid UTF-8"),
    ],
)
def test_standard_input_without_words_is_refused(argv: list[str], text: str, message: str) -> None:
    command = parsed("ct", "netif", "add", "web", *argv)

    with pytest.raises(UsageError) as caught:
        with_standard_input(command, text)

    assert caught.value.message == message


# --- declarations -------------------------------------------------------------------------------------------------


def test_a_field_that_no_word_can_fill_is_found_when_it_is_declared() -> None:
    class Odd(Command, frozen=True, kw_only=True):
        words: ClassVar[tuple[str, ...]] = ("odd",)
        value: Annotated[float, Option(("--value",), "X", "Odd")] = 0.5

    with pytest.raises(TypeError, match=r"Odd\.value: a value of type .*float"):
        signature(Odd)


def test_nothing_can_follow_an_argument_that_takes_many() -> None:
    class Odd(Command, frozen=True, kw_only=True):
        words: ClassVar[tuple[str, ...]] = ("odd",)
        many: Annotated[tuple[str, ...], Argument("Many", many=True)]
        last: Annotated[str, Argument("Last")]

    with pytest.raises(TypeError, match=r"Odd\.last: nothing can follow many"):
        signature(Odd)
