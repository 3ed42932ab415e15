"""A step from one kernel state towards another. `plan` orders steps, the shell sends them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from osctld.core.kernel_state import KernelObject, Link


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


def subject_of(change: Change) -> KernelObject:
    """The object that a change is about; of a replacement or a new name, the new one."""
    return change.new if isinstance(change, Replace | RenameLink) else change.object
