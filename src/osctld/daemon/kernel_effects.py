"""What a change of a running container does to kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from osctld.core.plan.changes import Changes
from osctld.core.plan.kernel_state import guest
from osctld.core.plan.planner import Plan
from osctld.daemon.effects import Effect, Ports, Rank
from osctld.daemon.records import Kept


class NoteForGuest(msgspec.Struct, frozen=True):
    """Tell the next daemon what this one is about to make inside a guest: there, nothing else says that it is ours.

    The save takes the note back.
    """

    kept: Kept
    rank: ClassVar[Rank] = Rank.NOTE

    def text(self) -> str:
        return ""

    async def apply(self, ports: Ports) -> None:
        await ports.notes.note(self.kept)

    async def undo(self, ports: Ports) -> None:
        if self.kept.after is not None:
            await ports.notes.forget(self.kept.after.name)


class KernelChange(msgspec.Struct, frozen=True):
    """Bring the kernel to what is wanted, on the host and inside these containers."""

    containers: tuple[str, ...]
    plan: Plan
    rank: ClassVar[Rank] = Rank.BEFORE_SAVE

    def text(self) -> str:
        return self.plan.text()

    async def apply(self, ports: Ports) -> None:
        await ports.plans.apply(self.plan, names=self.containers)

    async def undo(self, ports: Ports) -> None:
        await ports.plans.undo(self.plan, names=self.containers)


def kernel_effects(changes: Sequence[Kept], plan: Plan) -> tuple[Effect, ...]:
    """The plan for running containers, and before it the notes that it needs: of those in which it leaves anything that
    could stay behind."""
    if not plan:
        return ()
    reached = Changes.of(plan.changes).namespaces
    named = [(each, each.after.name) for each in changes if each.after is not None]
    notes = (NoteForGuest(each) for each, name in named if guest(name) in reached)
    return (*notes, KernelChange(tuple(name for _, name in named), plan))
