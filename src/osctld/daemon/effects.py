"""What a change does to the world: a list of effects, one kind of value for all of it.

    rank    when it is done: see Rank
    text    what a dry run prints
    apply   does all of it, or nothing
    undo    makes it as it was before

An effect is planned from an observation, and holds no live references: the ports that it acts through are given to it.
`Undoing` is the scope in which effects are applied.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import msgspec

from osctld.core.errors import OsctlError

if TYPE_CHECKING:
    from osctld.daemon.change_notes import ChangeNotes
    from osctld.sync.plan_sender import PlanSender

log = logging.getLogger("osctld")


class Rank(Enum):
    """When an effect is done, and what its failure means.

    A NOTE tells the next daemon what to remove if this one dies; it comes before everything else. What comes
    BEFORE_SAVE makes the change: it fails the command, and what was done is undone. What comes AFTER_SAVE cannot fail
    the command: a failure is reported, and the reconciler tries again.
    """

    NOTE = "note"
    BEFORE_SAVE = "before the save"
    AFTER_SAVE = "after the save"


class Ports(msgspec.Struct, frozen=True):
    """What effects act through."""

    plans: PlanSender
    notes: ChangeNotes


class Effect(Protocol):
    @property
    def rank(self) -> Rank: ...
    def text(self) -> str:
        """Equivalent commands that a person could run; empty if there are none."""

    async def apply(self, ports: Ports, /) -> None:
        """Raises an OsctlError, and then nothing of it is left, or what is left has been logged."""

    async def undo(self, ports: Ports, /) -> None:
        """Only after `apply` succeeded. What cannot be undone is logged, and left to the reconciler."""


def of_rank(rank: Rank, effects: Iterable[Effect]) -> Sequence[Effect]:
    return [each for each in effects if each.rank is rank]


def lines_of(effects: Iterable[Effect]) -> tuple[str, ...]:
    """What a dry run prints, in the order in which it would be done."""
    ordered = [each for rank in Rank for each in of_rank(rank, effects)]
    return tuple(line for each in ordered for line in each.text().splitlines())


class Undoing:
    """A scope that undoes what was applied in it, the last first, unless it is left after `keep`."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._applied: list[Effect] = []

    async def apply(self, effects: Iterable[Effect]) -> None:
        """Apply one effect after the other. Raises what the first that fails does; those before it are undone."""
        for each in effects:
            await each.apply(self._ports)
            self._applied.append(each)

    def keep(self) -> None:
        self._applied.clear()

    async def __aenter__(self) -> Undoing:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._applied:
            effect = self._applied.pop()
            try:
                await effect.undo(self._ports)
            except Exception:  # the others are still undone
                log.exception("not undone: %s", type(effect).__name__)


async def press_on(effects: Iterable[Effect], ports: Ports) -> list[OsctlError]:
    """Apply effects that cannot fail the command; return what failed."""
    failed = []
    for each in effects:
        try:
            await each.apply(ports)
        except OsctlError as error:
            failed.append(error)
    return failed
