"""A step from one kernel state towards another. `plan` orders steps, the shell sends them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from osctld.core.kernel_state import KernelObject


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


Change: TypeAlias = Add | Replace | Remove | Restore


def subject_of(change: Change) -> KernelObject:
    """The object that a change is about; of a replacement, the new one."""
    return change.new if isinstance(change, Replace) else change.object
