"""What a type of interface brings, and which types there are.

A type is a file or a folder beside this one that has a `TYPE` of the same name. Everything else asks here: nothing
outside this folder names a type, and nothing is registered by hand.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

import osctld.netif
from osctld.core.command import Argument, Column, EditCommand, Example, Flag, Option
from osctld.core.config.host import Container, Host, Interface
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused
from osctld.netif.address_edits import AddressEdits

I = TypeVar("I", bound=Interface)  # noqa: E741 - of interfaces


class InterfaceDocument(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """What is written of an interface. The tag of a derived class is the name of the type."""

    uuid: str
    name: str
    link: str


class InterfaceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of an interface when it is changed, and when it is made. Every field has a default."""

    #: Those that ask for nothing by themselves.
    permissions: ClassVar[frozenset[str]] = frozenset()

    @property
    def allows_delegation(self) -> bool:
        """Whether a more specific network inside a wider one of another holder may be taken."""
        return False

    @property
    def allows_overlap(self) -> bool:
        """Whether what the host uses may be taken, but for its addresses."""
        return False


class InterfaceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of `netif_create` and `netif_set` of the original's protocol. Every field has a default: not given."""

    def to_create(self) -> Mapping[str, Any]:
        """The options of `new` that say the same, by field. Raises Refused."""
        return {}

    def to_change(self, interface: Any) -> Mapping[str, Any]:  # noqa: ARG002 - by those that look at it
        """The options of `set` that say the same of this interface, by field; none: nothing is asked for.

        Raises Refused.
        """
        return {}


class InterfaceType(Generic[I]):
    """A type: how interfaces of it are made, changed, written and shown. What they mean, each of them says itself."""

    #: As in `ct netif new NAME` and in documents: that of its file or folder.
    name: ClassVar[str]
    #: Types of a lower number come first in help and listings; those of one number by their names.
    place: ClassVar[int] = 1
    #: The command that makes one. Its words are `ct netif new NAME`.
    new: ClassVar[type[EditCommand]]
    options: ClassVar[type[InterfaceOptions]] = InterfaceOptions
    #: What `ct netif set` says of this type: a paragraph of help, and examples.
    about_set: ClassVar[str] = ""
    examples_of_set: ClassVar[tuple[Example, ...]] = ()
    document: ClassVar[type[InterfaceDocument]]
    #: Lists of a document whose items are reported one by one, and the event of an item.
    item_events: ClassVar[Mapping[str, str]] = {}
    #: Fields of `ct netif ls` and `show` beside those of every interface, and further ones of `show`.
    columns: ClassVar[tuple[Column, ...]] = ()
    details: ClassVar[tuple[Column, ...]] = ()
    request: ClassVar[type[InterfaceRequest]] = InterfaceRequest
    #: Those of `columns` that the original's protocol answers with.
    answered: ClassVar[tuple[str, ...]] = ()
    #: What commands about addresses do; None where interfaces of this type have no addresses.
    addresses: ClassVar[AddressEdits[Any] | None] = None

    def encode(self, interface: I) -> InterfaceDocument:
        raise NotImplementedError

    def decode(self, document: Any) -> I:
        """The interface of a document of this type. Raises Refused."""
        raise NotImplementedError

    def listed(self, interface: I) -> Mapping[str, Any]:  # noqa: ARG002 - by types that have columns
        """The values of `columns`."""
        return {}

    def detailed(self, interface: I) -> Mapping[str, Any]:  # noqa: ARG002 - by types that have details
        """The values of `details`."""
        return {}

    def amounts(self, interface: I) -> Mapping[str, int]:  # noqa: ARG002 - by types that have any
        """How many addresses and routes it has, by these words."""
        return {}

    def changed(self, host: Host, surroundings: Surroundings, container: Container, interface: I, options: Any) -> I:
        """The interface as the options ask for it. Raises Refused and Conflict."""
        raise NotImplementedError

    def check(self, container: Container) -> None:
        """Raise Refused when interfaces of this type make no sense beside the others of the container."""


@functools.cache
def interface_types() -> Mapping[str, InterfaceType[Any]]:
    """All types by name, in the order of help and listings. Raises TypeError for one that is not called like its file.
    """
    found = {}
    for module_info in pkgutil.iter_modules(osctld.netif.__path__):
        module = importlib.import_module(f"{osctld.netif.__name__}.{module_info.name}")
        kind = getattr(module, "TYPE", None)
        if kind is None:
            continue
        if not kind.name == kind.document.__struct_config__.tag == module_info.name:
            raise TypeError(f"{module.__name__} holds the type {kind.name!r}: it, its file and its tag have one name")
        found[kind.name] = kind
    return MappingProxyType(dict(sorted(found.items(), key=lambda each: (each[1].place, each[0]))))


def type_of(interface: Interface) -> InterfaceType[Any]:
    return interface_types()[interface.type_name]


def type_named(name: str) -> InterfaceType[Any]:
    """Raises Refused when there is none of that name."""
    known = interface_types()
    if name not in known:
        quoted = ", ".join(map(repr, known))
        raise Refused(f"{name!r} is not supported, only {quoted}", code="bad-type", subject=name)
    return known[name]


# --- what types have in common ------------------------------------------------------------------------------------


def joined_fields(structs: Iterable[type[msgspec.Struct]]) -> list[tuple[str, Any, Any]]:
    """The fields of all declarations, each once, as `msgspec.defstruct` takes them.

    Raises TypeError for a field, or a spelling of an option, that two of them declare in different ways.
    """
    fields: dict[str, msgspec.structs.FieldInfo] = {}
    spellings: dict[str, str] = {}
    for struct in structs:
        for each in msgspec.structs.fields(struct):
            there = fields.setdefault(each.name, each)
            if (there.type, there.default) != (each.type, each.default):
                raise TypeError(f"{struct.__name__}.{each.name} is declared in another way by another type")
            for spelling in _spellings(each):
                if spellings.setdefault(spelling, each.name) != each.name:
                    raise TypeError(f"{struct.__name__}.{each.name}: {spelling} means {spellings[spelling]} elsewhere")
    return [(each.name, each.type, each.default) for each in fields.values()]


def _spellings(field: msgspec.structs.FieldInfo) -> tuple[str, ...]:
    for each in getattr(field.type, "__metadata__", ()):
        match each:
            case Option(names=names) | Flag(names=names):
                return names
            case Argument():
                return ()
    return ()


def part_for(kind: type[msgspec.Struct], of: msgspec.Struct) -> Any:
    """What one type's declaration has of a joined one."""
    return kind(**{name: getattr(of, name) for name in kind.__struct_fields__})


def given_fields(of: msgspec.Struct, among: type[msgspec.Struct]) -> list[str]:
    """Those fields of a declaration whose values in `of` are not the defaults."""
    return [each.name for each in msgspec.structs.fields(among) if getattr(of, each.name) != each.default]


def joined_columns(columns_of: Callable[[InterfaceType[Any]], tuple[Column, ...]]) -> tuple[Column, ...]:
    """The columns of all types, each once; what not all of them have may be empty.

    Raises TypeError for one that two of them declare in different ways.
    """
    found: dict[str, Column] = {}
    types = interface_types().values()
    for kind in types:
        for each in columns_of(kind):
            if found.setdefault(each.name, each) != each:
                raise TypeError(f"the column {each.name} of {kind.name} is declared in another way by another type")
    return tuple(
        each if all(each in columns_of(kind) for kind in types) else _that_may_be_empty(each) for each in found.values()
    )


def _that_may_be_empty(column: Column) -> Column:
    return msgspec.structs.replace(column, type=column.type | None)
