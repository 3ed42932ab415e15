"""How long a test waits. What else the machine does is no property of the program: that time does not count.

The kernel tells for how long somebody has waited for a processor (pressure stall information,
Documentation/accounting/psi.rst). A limit of a second is one in which all that wished to run did; on a machine that
others keep busy it is longer, and ends all the same.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

#: How much longer everything may take than on a real processor: for emulated ones.
SLOWNESS = float(os.environ.get("OSCTL_TESTS_SLOWNESS") or 1)

_PRESSURE = Path("/proc/pressure/cpu")
#: A limit never becomes longer than so many times itself, or than so many seconds when that is more.
_STRETCH = 8.0
_LEAST_BOUND = 30.0


class Patience:
    """A limit of some seconds on a real processor, that begins now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds * SLOWNESS
        #: The most that it may become.
        self.bound = max(_STRETCH * self.seconds, _LEAST_BOUND)
        self._began = time.monotonic()
        self._starved = starved_seconds()

    @property
    def left(self) -> float:
        """Seconds that are left at least; zero when it is over."""
        passed = time.monotonic() - self._began
        counted = passed - (starved_seconds() - self._starved)
        return max(0.0, min(self.seconds - counted, self.bound - passed))

    @property
    def is_over(self) -> bool:
        return self.left == 0.0


def starved_seconds() -> float:
    """For how long since boot at least one task has waited for a processor; 0 on a kernel that does not count."""
    try:
        (some, *_) = _PRESSURE.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # EOPNOTSUPP: it was switched off at boot
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6
