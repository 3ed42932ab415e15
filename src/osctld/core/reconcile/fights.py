"""Two who undo each other's work for ever: we put something back, and somebody else changes it again at once.

What happens now and then is put back at once. What happens again and again is left to the other one for longer and
longer, so that it costs next to nothing, and is reported: only people can end it.
"""

from __future__ import annotations

import msgspec

#: More than this many times within this many seconds are a fight.
OFTEN, WINDOW = 10, 10.0
#: Seconds of the first pause in a fight; doubled each time, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Fight(msgspec.Struct, frozen=True):
    """What was put back in one place: when, lately; and if it is a fight, until when it is left alone.

    Times and pauses are in seconds, by any clock that does not go back.
    """

    times: tuple[float, ...] = ()
    pause: float = 0.0
    rests_until: float = 0.0

    @property
    def has_begun(self) -> bool:
        return self.pause > 0

    def another(self, now: float) -> Fight:
        """Something was put back once more."""
        times = (*(each for each in self.times[-OFTEN:] if each > now - WINDOW), now)
        if not self.has_begun and len(times) <= OFTEN:
            return Fight(times)
        pause = min(2 * self.pause or FIRST_PAUSE, LONGEST_PAUSE)
        return Fight(times, pause, now + pause)

    def is_over(self, now: float) -> bool:
        """Whether it was quiet for a while after the last time, or after the pause that followed."""
        return now > max(self.rests_until, *self.times) + WINDOW if self.times else True


PEACE = Fight()
