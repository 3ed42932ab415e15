"""The manual, made from what is declared: a page for each group of commands, and one for the settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec

from osctld.cli import roff
from osctld.cli.catalogue import Group, catalogue
from osctld.cli.help import (
    CLIENT_OPTIONS,
    argument_rows,
    documentation,
    field_rows,
    option_rows,
    summary,
    usage,
)
from osctld.cli.parse import ALIASES, signature
from osctld.cli.version import VERSION
from osctld.core.command import Command, GlobalOptions
from osctld.core.config.settings import Settings

#: Handwritten pages: name and section.
GUIDES = (("osctl-routed", 7), ("osctl-bridged", 7))
DAEMON = ("osctld", 8)
SETTINGS = ("osctld.toml", 5)

_EXIT_STATUSES = (
    ("0", "Success."),
    ("1", "Failure: refused, in conflict with a holder, not possible now, or undone because the kernel refused it."),
    ("2", "osctl status, which has exit statuses of its own: containers are unreachable or down."),
    ("64", "Usage error: unknown command or option, missing or surplus argument."),
    ("69", "The daemon does not answer."),
    ("77", "Permission denied by the daemon or its socket."),
    ("130", "Interrupted (SIGINT)."),
    ("141", "Broken pipe (SIGPIPE)."),
)

_FILES = (
    ("/run/osctl/osctld.sock", "The daemon's socket."),
    ("/etc/osctl/osctld.toml", "Settings of the daemon, see osctld.toml(5); optional."),
    ("/var/lib/osctl", "The configuration, and the root directories of the containers."),
)


def pages(tree: Group | None = None) -> dict[str, str]:
    """All pages that are made from declarations: names of files, like `osctl-ct.8`, and their roff."""
    root = tree or catalogue()
    made = {f"{page_name(group)}.8": _group_page(group, root) for group in groups(root)}
    made["{}.{}".format(*SETTINGS)] = settings_page()
    return made


def groups(group: Group) -> Iterator[Group]:
    """A group and all groups below it."""
    yield group
    for child in group.children.values():
        if isinstance(child, Group):
            yield from groups(child)


def page_name(group: Group) -> str:
    return "-".join(("osctl", *group.words))


# --- commands -------------------------------------------------------------------------------------------------------


def _group_page(group: Group, root: Group) -> str:
    name = page_name(group)
    commands = [child for child in group.children.values() if not isinstance(child, Group)]
    subgroups = [child for child in group.children.values() if isinstance(child, Group)]
    about = summary(group)
    lines = [*roff.header(name, 8, version=VERSION), *roff.section("name")]
    lines.append(f"{roff.escaped(name)} \\- {roff.escaped(_as_title(about))}")
    lines += roff.section("synopsis")
    synopses = [("osctl", *group.words, "COMMAND [options] [arguments]")] if subgroups or not commands else []
    lines += [".nf", *(roff.escaped(" ".join(each)) for each in synopses)]
    lines += [*(roff.escaped(usage(each)) for each in commands), ".fi"]
    lines += roff.section("description")
    lines += roff.paragraph(about)
    if not group.words:
        lines += _overview()
    lines += roff.section("commands")
    for subgroup in subgroups:
        path = " ".join(("osctl", *subgroup.words))
        lines += roff.entry(roff.bold(path), f"{summary(subgroup)} See {page_name(subgroup)}(8).")
    if not group.words:
        lines += roff.entry(roff.bold("osctl help"), "Help for a command or a group of commands.")
    for command in commands:
        lines += _command(command)
    lines += roff.section("global options")
    global_options = (*CLIENT_OPTIONS, *option_rows(signature(GlobalOptions).options))
    if group.words:
        spellings = "; ".join(spelling for spelling, _ in global_options)
        lines += roff.paragraph(f"These options apply to all commands, see osctl(8): {spellings}.")
    else:
        for spelling, text in global_options:
            lines += roff.entry(roff.bold(spelling), text)
        lines += _surroundings()
    lines += roff.section("see also")
    others = [f"{page_name(each)}(8)" for each in groups(root) if each.words != group.words]
    others += ["{}({})".format(*each) for each in (DAEMON, SETTINGS, *GUIDES)]
    lines.append(",\n".join(roff.bold(each) for each in others))
    return roff.page(lines)


def _overview() -> list[str]:
    """What all commands have in common."""
    aliases = ", ".join(f"{one} for {two}" for one, two in ALIASES.items())
    return [
        *roff.paragraph(
            "Command words and long options may be abbreviated as long as they are unambiguous. Options may precede "
            "or follow arguments; global options may also precede the command, but not follow the command that ct "
            "exec runs. A single dash among addresses or networks reads more of them from standard input."
        ),
        *roff.paragraph(f"Aliases: {aliases}."),
        *roff.paragraph("The guides are osctl-routed(7) to routed interfaces and osctl-bridged(7) to bridged ones."),
    ]


def _surroundings() -> list[str]:
    """What a program that calls osctl has to know."""
    lines = roff.section("exit status")
    for status, text in _EXIT_STATUSES:
        lines += roff.entry(roff.bold(status), text)
    lines += roff.paragraph(
        "An error is one line on standard error that quotes the argument concerned and names the cause; nothing has "
        "been changed. The exit status of ct exec is that of the command inside; 128 + N if signal N ended it."
    )
    lines += roff.section("environment")
    lines += roff.entry(roff.bold("OSCTL_SOCKET"), "The daemon's socket, unless --socket names one.")
    lines += roff.section("files")
    for file, text in _FILES:
        lines += roff.entry(roff.italic(file), text)
    return lines


def _as_title(text: str) -> str:
    first = text.partition(". ")[0].rstrip(".")
    return first[:1].lower() + first[1:]


def _command(command: type[Command]) -> list[str]:
    declared = signature(command)
    lines = [*roff.subsection(" ".join(("osctl", *command.words))), *roff.literal([usage(command)])]
    for text in documentation(command).split("\n\n"):
        lines += roff.paragraph(text)
    for rows in (argument_rows(declared.arguments), option_rows(declared.options)):
        for term, text in rows:
            lines += roff.entry(roff.bold(term), text)
    if command.columns:
        lines += roff.paragraph("Fields:")
        lines.append(".RS 4")
        for name, text in field_rows(command):
            lines += roff.entry(roff.bold(name), text)
        lines.append(".RE")
    for example in command.examples:
        lines += roff.paragraph(f"{example.help}:")
        lines += roff.literal([f"# {example.command_line}"])
    return lines


# --- settings -------------------------------------------------------------------------------------------------------


class SettingDeclaration(msgspec.Struct, frozen=True):
    """One key of the settings, as it is declared. `is_of_many`: there may be such a table for each NAME."""

    table: str
    key: str
    default: Any
    description: str
    is_of_many: bool = False


def declared_settings() -> tuple[SettingDeclaration, ...]:
    """All settings. Raises TypeError for one that has no description."""
    declared = []
    for table in msgspec.structs.fields(Settings):
        kind = _table_type(table)
        is_of_many = kind is not table.type
        name, defaults = (f"{table.name}.NAME", kind()) if is_of_many else (table.name, table.default)
        for each in msgspec.structs.fields(kind):
            description = _description(each.type)
            if not description:
                raise TypeError(f"{name}.{each.name} has no description")
            declared.append(SettingDeclaration(name, each.name, getattr(defaults, each.name), description, is_of_many))
    return tuple(declared)


def _table_type(table: msgspec.structs.FieldInfo) -> Any:
    """What a table of the settings is; of tables with names, each."""
    return get_args(table.type)[1] if get_origin(table.type) is dict else table.type


def default_settings() -> str:
    """A file of settings that says what holds without one; what is unset stands there as a comment."""
    lines: list[str] = []
    table = ""
    for each in declared_settings():
        if each.is_of_many:
            continue  # there is no default for one that has not been named
        if each.table != table:
            table = each.table
            lines += [*([""] if lines else []), f"[{table}]"]
        lines.append(f"# {each.key} is unset" if each.default is None else f"{each.key} = {as_toml(each.default)}")
    return "".join(f"{line}\n" for line in lines)


def settings_file() -> str:
    """The file of settings that a package brings: every setting with its description, all of it commented."""
    lines = ["# Settings of osctld, see osctld.toml(5). Commented lines show the defaults."]
    table = ""
    for each in declared_settings():
        if each.table != table:
            table = each.table
            lines += ["", f"# [{table}]" if each.is_of_many else f"[{table}]"]
        told = textwrap.wrap(each.description, 117, break_long_words=False, break_on_hyphens=False)
        mark = "# " if each.is_of_many else "#"
        value = f"# {each.key} is unset" if each.default is None else f"{mark}{each.key} = {as_toml(each.default)}"
        lines += ["", *(f"# {line}" for line in told), value]
    return "".join(f"{line}\n" for line in lines)


def settings_page() -> str:
    name, number = SETTINGS
    lines = [*roff.header(name, number, version=VERSION), *roff.section("name")]
    lines.append(f"{roff.escaped(name)} \\- settings of osctld")
    lines += roff.section("synopsis")
    lines.append(roff.italic("/etc/osctl/osctld.toml"))
    lines += roff.section("description")
    lines += roff.paragraph(
        "The settings of osctld(8), in TOML; osctld --config names another file. All settings are optional, and so is "
        "the file. They are read when the daemon starts. The daemon does not start if a key is unknown or a value is "
        "invalid; the error names the file and the line."
    )
    documented = {each.name: _table_type(each) for each in msgspec.structs.fields(Settings)}
    table = ""
    for each in declared_settings():
        if each.table != table:
            table = each.table
            lines.append(f'.SH "[{table}]"')
            for text in (documented[table.partition(".")[0]].__doc__ or "").split("\n\n"):
                lines += roff.paragraph(text)
        default = "unset" if each.default is None else as_toml(each.default)
        lines += roff.entry(roff.bold(each.key), f"{each.description} Default: {default}.")
    lines += roff.section("examples")
    lines += roff.paragraph("The defaults:")
    lines += roff.literal(default_settings().splitlines())
    lines += roff.section("see also")
    others = ("osctld(8)", "osctl(8)", *("{}({})".format(*each) for each in GUIDES))
    lines.append(",\n".join(map(roff.bold, others)))
    return roff.page(lines)


def _description(declared: Any) -> str:
    for each in getattr(declared, "__metadata__", ()):
        if isinstance(each, msgspec.Meta) and each.description:
            return each.description
    return ""


def as_toml(value: Any) -> str:
    """A value as it is written in a file of settings."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return f'"{value}"'
        case Mapping():
            return "{ " + ", ".join(f"{name} = {as_toml(each)}" for name, each in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(as_toml, value)) + "]"
    raise TypeError(f"{value!r} cannot be written in TOML")
