"""Plans are sent to kernels: all of a plan or nothing, or as much of it as can be had."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Collection, Iterator, Sequence

import msgspec

from osctld.core.errors import ApplyFailed
from osctld.core.plan.arrivals import arrivals
from osctld.core.plan.changes import Change, Changes, RouteChanges, count_of, subject_of
from osctld.core.plan.kernel_state import HOST, Outcome, PermittedSource, Route
from osctld.core.plan.planner import Plan
from osctld.core.plan.text import describe, describe_in_place, describe_routes
from osctld.daemon.change_notes import ChangeNotes
from osctld.sync.arrivals import Arrivals
from osctld.sync.mending import Mending
from osctld.sync.obstacles import Obstacles
from osctld.sync.ports import Kernel, Presence

log = logging.getLogger("osctld")

#: Plans with more changes than this are sent from a thread, so that others are answered meanwhile.
LARGE_PLAN = 64
#: Up to this number of repaired routes of one way are reported one by one; if there are more, only their number.
NAMED_ROUTES = 100
#: The code of an error that says that routes of others are under keys of ours.
IN_THE_WAY = "in-the-way"


class PlanSender:
    def __init__(
        self, kernel: Kernel, *, lives: Presence, notes: ChangeNotes, obstacles: Obstacles, arrivals: Arrivals
    ) -> None:
        self._kernel = kernel
        self._arrivals = arrivals
        self._lives = lives
        self._notes = notes
        self._obstacles = obstacles

    async def apply(self, plan: Plan, *, names: Collection[str]) -> None:
        """Apply a plan for these containers, all of it or nothing. Raises ApplyFailed with the kernel's own words.

        Its code is IN_THE_WAY if unknown foreign routes were found with keys of ours: another plan leaves those out.
        """
        if not plan:
            return
        outcomes = await self._send(plan, names=names)
        failed = [number for number, outcome in enumerate(outcomes) if outcome.error is not None]
        if not failed:
            return
        await self.undo(plan, outcomes, names=names)
        subject, error = subject_of(plan.changes[failed[0]]), outcomes[failed[0]].error
        refused = [subject_of(plan.changes[each]) for each in failed if outcomes[each].errno == errno.EEXIST]
        routes = [each for each in refused if isinstance(each, Route)]
        # Of several containers each passes over what it does not want.
        news = [self._obstacles.note_refused(name, routes) for name in names]
        raise ApplyFailed(
            f"{describe_in_place(subject)}: {error}",
            code=IN_THE_WAY if any(news) else "kernel-refused",
            subject=describe(subject),
        )

    async def undo(self, plan: Plan, outcomes: Sequence[Outcome] | None = None, *, names: Collection[str]) -> None:
        """Take back what got through of a plan, all of it without outcomes. What cannot be is logged."""
        back = plan.undo(outcomes)
        for change, outcome in zip(back.changes, await self._send(back, names=names), strict=True):
            if outcome.error is not None:
                # Nothing more can be done at once; the reconciler continues, or it ends with its container.
                level = logging.INFO if any(map(self._lives.is_ending, names)) else logging.ERROR
                log.log(level, "undo: %s: %s", describe_in_place(subject_of(change)), outcome.error)
                for name in names:
                    self._notes.leave_behind(name)

    async def press_on(self, plan: Plan, mending: Mending | None = None, *, name: str | None) -> bool:
        """Apply as much of a plan as the kernel takes, and tell whether that was all of it.

        What was done and what was not is added to `mending`; without that, failures are logged. The next reconcile
        tries again.
        """
        is_all = True
        while plan:
            outcomes = await self._send(plan, names=[name] if name is not None else [])
            rest: list[Change] = []
            refused: list[Route] = []
            for part, made in _parts_with(outcomes, Changes.of(plan.changes)):
                if isinstance(part, RouteChanges) and len(part) > NAMED_ROUTES and all(each.succeeded for each in made):
                    if mending is not None:
                        mending.mended.append(f"repaired {describe_routes(part.routes)}")
                    continue
                changes = part if isinstance(part, RouteChanges) else (part,)
                for change, outcome in zip(changes, made, strict=True):
                    if outcome.errno == errno.EEXIST and name is not None and _is_route_of_host(change):
                        subject = subject_of(change)
                        assert isinstance(subject, Route)
                        refused.append(subject)
                    elif outcome.error is not None:
                        if mending is not None:
                            mending.failed.append(f"{describe_in_place(subject_of(change))}: {outcome.error}")
                        else:
                            log.error("not repaired: %s: %s", describe_in_place(subject_of(change)), outcome.error)
                        is_all = False
                    elif not outcome.was_tried:
                        rest.append(change)
                    elif mending is not None:
                        subject = subject_of(change)
                        # Elements of the packet filter that foreign rules require are not repairs.
                        is_told = isinstance(subject, PermittedSource) and subject.is_routed
                        if is_told:
                            mending.set_up.append(f"{describe_in_place(subject)}: required by routing rules")
                        else:
                            mending.mended.append(f"repaired {describe_in_place(subject)}")
            if refused and name is not None:
                self._obstacles.note_refused(name, refused)
            plan = msgspec.structs.replace(plan, changes=Changes.of(rest))
        return is_all

    async def _send(self, plan: Plan, *, names: Collection[str]) -> tuple[Outcome, ...]:
        namespaces = self._lives.namespaces(names)
        if len(plan.changes) > LARGE_PLAN:
            outcomes = await asyncio.shield(asyncio.to_thread(self._kernel.apply, plan, namespaces))
        else:
            outcomes = self._kernel.apply(plan, namespaces)
        parts = _parts_with(outcomes, Changes.of(plan.changes))
        done = (part for part, made in parts if not isinstance(part, RouteChanges) and made[0].succeeded)
        self._arrivals.tell(arrivals(plan.want, done))
        return outcomes


def _is_route_of_host(change: Change) -> bool:
    subject = subject_of(change)
    return isinstance(subject, Route) and subject.namespace == HOST


def _parts_with(
    outcomes: Sequence[Outcome], changes: Changes
) -> Iterator[tuple[Change | RouteChanges, Sequence[Outcome]]]:
    """The parts of a plan's changes, each with its outcomes."""
    at = 0
    for part in changes.parts:
        yield part, outcomes[at : at + count_of(part)]
        at += count_of(part)
