"""Change an interface: what can be said of one, its type declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from osctld.core.command import ContainerName, EditCommand, Edited, Example, Flag, OnlyInterface
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import UsageError
from osctld.netif.interface_type import given_fields, interface_types, joined_fields, part_for, type_of

_SUMMARY = "Change an interface: interconnecting networks, their ends, MAC address, MTU, precedence."
_ABOUT = "Properties that are not given stay as they are. A running container is changed at once."

_DEFAULT = Flag(("--default",), "Make it the first interface, whose default routes are preferred")
_OF_ALL_TYPES = (
    ("container", ContainerName),
    ("netif", OnlyInterface, None),
    ("default", Annotated[bool, _DEFAULT], False),
)


class SetInterface(EditCommand, frozen=True, kw_only=True):
    """What does not depend on the type. The fields follow those of the types, in the order of the help."""

    if TYPE_CHECKING:
        container: str
        netif: str | None
        default: bool

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        interface = before.interface(self.netif)
        kind = type_of(interface)
        options = part_for(kind.options, self)
        given = [name for each in interface_types().values() for name in given_fields(self, each.options)]
        for name in given:
            if name not in kind.options.__struct_fields__:
                raise UsageError(
                    f"{_option(name)}: {interface.name} is a {kind.name} interface, which does not have this option"
                )
        permissions = kind.options.permissions
        if not (self.default or set(given) - permissions):
            there_are = ", ".join(_option(name) for name in kind.options.__struct_fields__ if name not in permissions)
            raise UsageError(f"{interface.name}: nothing to set, give {there_are} or --default")
        changed = kind.changed(host, surroundings, before, interface, options)
        after = before.with_interface(changed)
        kind.check(after)
        if self.default:
            after = after.with_interface_first(changed.name)
        surroundings.check_delegation(host, before, after)
        return Edited(
            host.with_container(after),
            after.name,
            is_delegation_allowed=options.allows_delegation,
            is_overlap_allowed=options.allows_overlap,
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _command() -> Any:
    types = interface_types().values()
    examples = (
        *(example for kind in types for example in kind.examples_of_set),
        Example(
            "osctl ct netif set --mtu 1400 --hwaddr 02:xx:xx:xx:xx:01 myct01 eth0",
            "Change the MTU, and choose the last byte of the MAC address",
        ),
    )
    words: tuple[str, ...] = ("ct", "netif", "set")
    about = "\n\n".join([_SUMMARY, _ABOUT, *(kind.about_set for kind in types if kind.about_set)])
    return msgspec.defstruct(
        "CtNetifSet",
        [*joined_fields(kind.options for kind in types), *_OF_ALL_TYPES],
        bases=(SetInterface,),
        namespace={
            "__doc__": about,
            "__annotations__": {"words": ClassVar, "examples": ClassVar},
            "words": words,
            "examples": examples,
        },
        module=__name__,
        frozen=True,
        kw_only=True,
    )


CtNetifSet: Any = _command()
