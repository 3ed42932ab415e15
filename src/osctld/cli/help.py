"""Help, generated from what the commands declare."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from osctld.cli.catalogue import Group, catalogue
from osctld.cli.parse import ALIASES, Parameter, resolve, signature
from osctld.core.command import Argument, Command, Example, Flag, GlobalOptions, Option

#: Columns of a terminal that does not say how many it has.
USUAL_COLUMNS = 80

_NARROWEST = 40
#: Names of options that are longer have their description on the next line.
_WIDEST_NAME = 28

#: What a group of commands is about.
_GROUPS = {
    (): "Manage containers and their routed network interfaces. osctl passes the command line to the daemon, osctld.",
    ("ct",): "Containers.",
    ("ct", "guest-files"): "Configuration files of the network tool inside a container.",
    ("ct", "netif"): "Network interfaces of containers.",
    ("ct", "netif", "new"): "Create a network interface.",
    ("ct", "netif", "ip"): "Addresses assigned to an interface.",
    ("ct", "netif", "route"): "Networks routed to an interface.",
    ("ct", "netif", "source"): "Additional allowed source prefixes of an interface.",
    ("ct", "set"): "Set properties of containers.",
    ("ct", "unset"): "Reset properties of containers.",
    ("net",): "The network of all containers.",
    ("net", "pool"): "Address pools defined in the settings.",
    ("net", "uplink"): "Links of the host whose networks containers may use addresses from.",
    ("router",): "How routers learn to reach containers: by a routing daemon, or static routes.",
    ("self",): "The daemon itself.",
}

#: Read by the client before it knows of any command, hence not among GlobalOptions.
CLIENT_OPTIONS = (("--socket PATH", "The daemon's socket, given before the command (default: $OSCTL_SOCKET)"),)


def render(words: Iterable[str] = (), *, columns: int = 0, tree: Group | None = None) -> str:
    """Help for a command or a group of commands, wrapped to the terminal's width (0: unknown).

    Raises UsageError if there are no such words.
    """
    width = max(columns or USUAL_COLUMNS, _NARROWEST)
    place = resolve(words, tree or catalogue())
    blocks = _group_blocks(place, width) if isinstance(place, Group) else _command_blocks(place, width)
    blocks.append(_section("global options", [*CLIENT_OPTIONS, *option_rows(signature(GlobalOptions).options)], width))
    return "\n".join(block for block in blocks if block)


def summary(of: Group | type[Command]) -> str:
    """One line about a command or a group."""
    if isinstance(of, Group):
        return _GROUPS.get(of.words, "")
    return documentation(of).partition("\n")[0]


def _group_blocks(group: Group, width: int) -> list[str]:
    usage = " ".join(("usage: osctl", *group.words, "COMMAND [options] [arguments]"))
    rows = []
    for word, child in group.children.items():
        aliases = [alias for alias, target in ALIASES.items() if target == word and alias not in group.children]
        rows.append((", ".join((word, *aliases)), summary(child)))
    path = " ".join(("osctl help", *group.words, "COMMAND"))
    return [
        _wrap(usage, width),
        _wrap(summary(group), width),
        _section("commands", rows, width),
        f"For details: {path}\n",
    ]


def usage(command: type[Command]) -> str:
    """How a command is called, in one line."""
    declared = signature(command)
    words = ["osctl", *command.words]
    words += [_usage_of_option(each) for each in declared.options if each.is_required]
    if any(not each.is_required for each in declared.options):
        words.append("[options]")
    words += [_usage_of_argument(each) for each in declared.arguments]
    return " ".join(words)


def _command_blocks(command: type[Command], width: int) -> list[str]:
    declared = signature(command)
    return [
        _wrap(f"usage: {usage(command)}", width, following="    "),
        *(_wrap(paragraph, width) for paragraph in documentation(command).split("\n\n")),
        _section("arguments", argument_rows(declared.arguments), width),
        _section("options", option_rows(declared.options), width),
        _section("fields", field_rows(command), width),
        _examples(command.examples, width),
    ]


def _examples(examples: Iterable[Example], width: int) -> str:
    """Command lines below their descriptions; one that is too long for a line can still be copied."""
    blocks = []
    for each in examples:
        lines = textwrap.wrap(f"{each.help}:", width - 2)
        # Four for the indentation, two for the prompt, two for the backslash.
        words = textwrap.wrap(each.command_line, width - 8, break_long_words=False, break_on_hyphens=False)
        lines.append("  # " + " \\\n      ".join(words))
        blocks.append(textwrap.indent("\n".join(lines), "  "))
    return "examples:\n" + "\n\n".join(blocks) + "\n" if blocks else ""


def argument_rows(parameters: Iterable[Parameter]) -> list[tuple[str, str]]:
    """How arguments are spelled, and what they mean."""
    return [(f"<{each.metavar}>", each.declaration.help) for each in parameters]


def field_rows(command: type[Command]) -> list[tuple[str, str]]:
    """The fields of a command's listing, and what they mean where the name does not say it."""
    return [(each.name, each.help) for each in command.columns]


def _usage_of_argument(parameter: Parameter) -> str:
    declaration = parameter.declaration
    assert isinstance(declaration, Argument)
    text = f"<{parameter.metavar}>" + "..." * (declaration.many or declaration.rest)
    return text if parameter.is_required else f"[{text}]"


def _usage_of_option(parameter: Parameter) -> str:
    assert isinstance(parameter.declaration, Option)
    return f"{parameter.declaration.names[-1]} {parameter.metavar}"


def option_rows(parameters: Iterable[Parameter]) -> list[tuple[str, str]]:
    """How options are spelled, and what they mean."""
    rows = []
    for each in parameters:
        match each.declaration:
            case Option(names=names):
                rows.append((f"{', '.join((*each.declaration.shorthands, *names))} {each.metavar}", _option_help(each)))
            case Flag(names=names, negatable=negatable):
                spelled = [f"--[no-]{name[2:]}" if negatable and name.startswith("--") else name for name in names]
                rows.append((", ".join(spelled), each.declaration.help))
    return rows


def _option_help(parameter: Parameter) -> str:
    declaration = parameter.declaration
    assert isinstance(declaration, Option)
    if declaration.commas:
        return f"{declaration.help} (comma-separated)"
    return declaration.help


def documentation(command: type[Command]) -> str:
    """The docstring of the class itself, each paragraph without its indentation."""
    first, _, rest = (vars(command).get("__doc__") or "").strip().partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}".strip()


def _wrap(text: str, width: int, *, following: str = "") -> str:
    if not text:
        return ""
    return (
        textwrap.fill(
            " ".join(text.split()),
            width,
            subsequent_indent=following,
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


def _section(title: str, rows: Sequence[tuple[str, str]], width: int) -> str:
    """Names on the left, what they mean on the right, under a title."""
    if not rows:
        return ""
    left = min(max(len(name) for name, _ in rows), _WIDEST_NAME)
    lines = [f"{title}:"]
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(width - left - 4, 20), break_on_hyphens=False) or [""]
        if len(name) > left:
            lines.append(f"  {name}")
        beside = "" if len(name) > left else name
        lines.append(f"  {beside.ljust(left)}  {wrapped[0]}".rstrip())
        lines += [" " * (left + 4) + line for line in wrapped[1:]]
    return "\n".join(lines) + "\n"
