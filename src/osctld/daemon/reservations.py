"""An edit, and an authority above this host that may be slow: what waits for it, and what does not.

    edit       on the configuration as it is: what would be claimed?
    claim      the authority is asked, outside of the writer's turn: everything else continues
    in turn    the edit is repeated on the current configuration; if it needs more, all begins again, a few times
    keep       reported to the authority after the save; or the reservation is given back

Later messages to it are repeated until they are acknowledged, in order. A daemon that dies before that leaves a
reservation: the next one reports everything that is held at its start, and the authority drops the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from osctld.core.authority.authority import Authority, Need, Reservation, released_by
from osctld.core.authority.claims import ClaimsChange
from osctld.core.errors import OsctlError, Unavailable

log = logging.getLogger("osctld")

T = TypeVar("T")

#: How often an edit is repeated because the configuration changed meanwhile.
TRIES = 3
#: Seconds until an unacknowledged message is repeated, doubled up to the last.
FIRST_RETRY, LAST_RETRY = 1.0, 60.0


class NeedsMore(Exception):
    """In its turn an edit needs something that was not reserved."""


class Reservations:
    def __init__(
        self,
        authority: Authority,
        *,
        held: Callable[[], Collection[Need]],
        park: Callable[[Collection[Need]], Awaitable[None]],
    ) -> None:
        """`held` is all that the host holds now; `park` is told what others hold of it."""
        self._authority = authority
        self._held = held
        self._park = park
        self._is_settled = asyncio.Event()
        self._to_tell: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    async def run(self) -> None:
        """Settle what an earlier daemon left, then send queued messages; runs until cancelled."""
        await self._until_heard(self._settle)
        self._is_settled.set()
        while True:
            tell = await self._to_tell.get()
            await self._until_heard(tell)

    def settle_again(self) -> None:
        """All may be different."""
        self._to_tell.put_nowait(self._settle)

    def released(self, change: ClaimsChange) -> None:
        """A change was saved: what it gave up is no longer held."""
        needs = released_by(change)
        if needs:
            self._to_tell.put_nowait(lambda: self._authority.release(needs))

    async def rehearse(self, needs: Collection[Need]) -> None:
        """Ask without reserving. Raises Conflict or Unavailable."""
        if needs:
            await self._authority.claim(needs, reserves=False)

    async def perform(
        self,
        needs: Callable[[], frozenset[Need]],
        in_turn: Callable[[Callable[[], Awaitable[T]]], Awaitable[T]],
        edit: Callable[[frozenset[Need], int], Awaitable[T]],
    ) -> T:
        """Reserve what an edit needs, then make it in its turn.

        `edit` is given what is reserved and the epoch of that, and raises NeedsMore when it is not enough. Raises what
        it raises, what the authority says, and Unavailable when the configuration changes under it again and again.
        """
        for _ in range(TRIES):
            needed = needs()
            reservation = await self._claim(needed) if needed else None
            has_begun = False

            async def work(needed: frozenset[Need] = needed, reservation: Reservation | None = reservation) -> T:
                nonlocal has_begun
                has_begun = True
                # Here and not where it is waited for: a client that leaves stops nothing that has begun.
                try:
                    result = await edit(needed, reservation.epoch if reservation is not None else 0)
                except BaseException:
                    self._give_back(reservation)
                    raise
                if reservation is not None:
                    self._to_tell.put_nowait(lambda: self._authority.keep(reservation))
                return result

            try:
                return await in_turn(work)
            except NeedsMore:
                continue
            except BaseException:
                if not has_begun:
                    self._give_back(reservation)
                raise
        raise Unavailable("the configuration changes faster than addresses can be reserved; try again", code="busy")

    async def _claim(self, needs: Collection[Need]) -> Reservation | None:
        if not self._is_settled.is_set():
            raise Unavailable("the authority on addresses has not been reached since osctld started; try again")
        return await self._authority.claim(needs, reserves=True)

    def _give_back(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            self._to_tell.put_nowait(lambda: self._authority.give_back(reservation))

    async def _settle(self) -> None:
        lost = await self._authority.settle(self._held())
        if lost:
            await self._park(lost)

    async def _until_heard(self, tell: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_RETRY
        while True:
            try:
                await tell()
            except OsctlError as error:
                log.warning("%s; trying again in %.0f s", error.message, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY)
            else:
                return
