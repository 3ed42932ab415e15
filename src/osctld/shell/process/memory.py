"""The memory of this process, as the system sees it."""

from __future__ import annotations

import ctypes


def give_memory_back() -> None:
    """Return what was freed to the system, see malloc_trim(3); a millisecond or two.

    Asked for now and then, because after a request of many megabytes glibc would keep as much for ever. To have it
    return each large piece at once (M_MMAP_THRESHOLD) makes every long list slower: 1.4 times, with 100,000 routes.
    """
    ctypes.CDLL(None).malloc_trim(0)
