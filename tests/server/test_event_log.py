"""The numbered events, and those who follow them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator

from osctld.core.events import Event, EventFilter
from osctld.daemon.event_log import EventLog


async def following(log: EventLog, accepted: EventFilter) -> tuple[AsyncIterator[Event], asyncio.Task[Event]]:
    """A follower that waits for its first event."""
    events = log.follow(accepted)
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    return events, first


def test_a_follower_hears_what_it_asked_for_in_order_and_nothing_from_before() -> None:
    async def scenario() -> list[str]:
        log = EventLog(run=1)
        log.emit("early", {})
        events, first = await following(log, EventFilter(types=("b", "c")))
        for kind in ("a", "b", "c"):
            log.emit(kind, {})
        return [(await first).type, (await anext(events)).type]

    assert asyncio.run(scenario()) == ["b", "c"]


def test_a_slow_follower_is_told_how_many_events_it_missed_and_goes_on_with_the_rest() -> None:
    async def scenario() -> tuple[Event, Event]:
        log = EventLog(run=1, kept=3)
        events, first = await following(log, EventFilter(types=("x",)))
        for number in range(10):
            log.emit("x", {"number": number})
        return await first, await anext(events)

    lost, next_one = asyncio.run(scenario())

    assert (lost.type, lost.opts) == ("lost", {"count": 7})
    assert next_one.opts == {"number": 7}
    assert next_one.sequence == lost.sequence + 1


def test_what_a_follower_did_not_ask_for_is_not_missed() -> None:
    async def scenario() -> list[Event]:
        log = EventLog(run=1, kept=3)
        events, first = await following(log, EventFilter(types=("wanted",)))
        for kind in ("wanted", *["other"] * 10, "wanted"):
            log.emit(kind, {})
        return [await first, await anext(events)]

    assert [each.type for each in asyncio.run(scenario())] == ["wanted", "wanted"]


def test_an_event_is_kept_only_until_all_who_follow_have_read_it() -> None:
    class Opts(dict[str, object]):
        """A dict, weakly referable."""

    async def scenario() -> list[bool]:
        log = EventLog(run=1)

        def emit() -> weakref.ref[Opts]:
            opts = Opts()
            log.emit("x", opts)
            return weakref.ref(opts)

        unheard = emit()
        events, first = await following(log, EventFilter())
        heard = emit()
        is_kept = [unheard() is not None, heard() is not None]
        await first
        del first
        another = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        is_kept.append(heard() is not None)
        another.cancel()
        return is_kept

    assert asyncio.run(scenario()) == [False, True, False]


def test_no_number_comes_twice_however_often_the_daemon_is_started() -> None:
    async def numbers(run: int) -> list[int]:
        log = EventLog(run=run)
        events, first = await following(log, EventFilter())
        log.emit("x", {})
        log.emit("x", {})
        return [(await first).sequence, (await anext(events)).sequence]

    seen = [*asyncio.run(numbers(1)), *asyncio.run(numbers(2))]

    assert seen == sorted(set(seen))
