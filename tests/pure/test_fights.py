"""What is changed again and again by somebody else is put back at ever longer intervals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from osctld.core.reconcile.fights import FIRST_PAUSE, LONGEST_PAUSE, OFTEN, PEACE, WINDOW, Fight

pauses = st.floats(min_value=0.05, max_value=30, allow_nan=False)


def after(times: list[float]) -> Fight:
    fight = PEACE
    for each in times:
        fight = fight.another(each)
    return fight


@given(st.lists(st.floats(min_value=WINDOW / OFTEN, max_value=1000), max_size=50))
def test_what_happens_now_and_then_is_no_fight(intervals: list[float]) -> None:
    fight, now = PEACE, 0.0

    for each in intervals:
        now += each
        fight = fight.another(now)
        assert not fight.has_begun
        assert fight.rests_until <= now


@given(st.floats(min_value=0.01, max_value=WINDOW / OFTEN * 0.9), st.integers(min_value=1, max_value=300))
def test_in_a_fight_each_pause_is_twice_the_one_before_up_to_the_longest(interval: float, number: int) -> None:
    fight = after([each * interval for each in range(OFTEN)])
    assert not fight.has_begun
    now, expected = OFTEN * interval, FIRST_PAUSE

    for _ in range(number):
        fight = fight.another(now)
        assert fight.rests_until == now + min(expected, LONGEST_PAUSE)
        now, expected = fight.rests_until, 2 * expected

    assert fight.has_begun
    assert len(fight.times) <= OFTEN + 1


@given(st.lists(pauses, min_size=1, max_size=30), pauses)
def test_after_a_quiet_while_it_is_over_and_not_before(intervals: list[float], quiet: float) -> None:
    now, times = 0.0, []
    for each in intervals:
        now += each
        times.append(now)
    fight = after(times)
    end = max(now, fight.rests_until)

    assert not fight.is_over(end)
    assert fight.is_over(end + quiet) == (quiet > WINDOW)
    assert PEACE.is_over(0.0)
