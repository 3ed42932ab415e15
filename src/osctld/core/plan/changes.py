"""A step from one kernel state towards another. `plan` orders steps, the shell sends them."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, overload

import msgspec

from osctld.core.plan.kernel_state import AssignedAddress, KernelObject, Link, Namespace, Route, Routes, Way


class Add(msgspec.Struct, frozen=True):
    """Make the object; fails when one with its key exists."""

    object: KernelObject


class Replace(msgspec.Struct, frozen=True):
    """Turn the object into another one with the same key."""

    old: KernelObject
    new: KernelObject


class Remove(msgspec.Struct, frozen=True):
    """Delete the object; that it is gone already is as good."""

    object: KernelObject


class Restore(msgspec.Struct, frozen=True):
    """See to it that the object is there, whether or not an earlier change took it along."""

    object: KernelObject


class RenameLink(msgspec.Struct, frozen=True):
    """Give a link another name. All that is on the link stays on it.

    `new` is `old` under its new name. Kernels before 6.2 refuse it while the link is up.
    """

    old: Link
    new: Link


Change: TypeAlias = Add | Replace | Remove | Restore | RenameLink


def is_made_in_place(change: Change) -> bool:
    """Whether it replaces an address that the kernel changes as it is: lifetimes of IPv6 alone are such."""
    return (
        isinstance(change, Replace)
        and isinstance(change.old, AssignedAddress)
        and isinstance(change.new, AssignedAddress)
        and change.new.address.version == 6
        and msgspec.structs.replace(change.old, is_source=change.new.is_source) == change.new
    )


def subject_of(change: Change) -> KernelObject:
    """The object that a change is about; of a replacement or a new name, the new one."""
    return change.new if isinstance(change, Replace | RenameLink) else change.object


class RouteChanges(msgspec.Struct, frozen=True):
    """Very many changes of one kind, of routes of one way."""

    kind: type[Add] | type[Remove] | type[Restore]
    routes: Routes

    def __len__(self) -> int:
        return len(self.routes)

    def __iter__(self) -> Iterator[Change]:
        return map(self.kind, self.routes)

    def __getitem__(self, at: slice) -> RouteChanges:
        return RouteChanges(self.kind, Routes(self.routes.way, self.routes.networks[at]))


class Changes(Sequence[Change]):
    """Changes in order. Immutable.

    As a sequence it makes a value of each when it is asked for; `parts` has changes of routes that are alike together.
    """

    __slots__ = ("_ends", "parts")

    def __init__(self, parts: Iterable[Change | RouteChanges] = ()) -> None:
        self.parts = tuple(parts)
        self._ends = list(itertools.accumulate(map(count_of, self.parts)))

    @classmethod
    def of(cls, changes: Sequence[Change]) -> Changes:
        """The same changes, those of routes that are alike together."""
        if isinstance(changes, Changes):
            return changes
        parts: list[Change | RouteChanges] = []
        for (kind, way), those in itertools.groupby(changes, key=_likeness):
            if way is None:
                parts.extend(those)
            else:
                networks = [subject.network.packed for subject in map(subject_of, those) if isinstance(subject, Route)]
                parts.append(RouteChanges(kind, Routes(way, networks)))
        return cls(parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Change]:
        for each in self.parts:
            if isinstance(each, RouteChanges):
                yield from each
            else:
                yield each

    @overload
    def __getitem__(self, at: int) -> Change: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Change]: ...
    def __getitem__(self, at: int | slice) -> Change | Sequence[Change]:
        if isinstance(at, slice):
            return tuple(self)[at]
        place = range(len(self))[at]
        number = bisect_right(self._ends, place)
        part = self.parts[number]
        if isinstance(part, RouteChanges):
            return next(iter(part[place - self._ends[number] :][:1]))
        return part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Changes({self.parts!r})"

    @property
    def namespaces(self) -> frozenset[Namespace]:
        """Where something is changed."""
        return frozenset(
            (each.routes.way if isinstance(each, RouteChanges) else subject_of(each)).namespace for each in self.parts
        )

    def restoring(self) -> Changes:
        """The same, but for what is added it is good enough to be there."""
        return Changes(map(_restoring, self.parts))


def count_of(part: Change | RouteChanges) -> int:
    return len(part) if isinstance(part, RouteChanges) else 1


def _restoring(part: Change | RouteChanges) -> Change | RouteChanges:
    match part:
        case RouteChanges(kind, routes) if kind is Add:
            return RouteChanges(Restore, routes)
        case Add(new):
            return Restore(new)
        case _:
            return part


def _likeness(change: Change) -> tuple[type[Any], Way | None]:
    """What changes of routes have in common that are packed together."""
    if isinstance(change, Add | Remove | Restore) and type(change.object) is Route:
        return type(change), change.object.way
    return type(change), None
