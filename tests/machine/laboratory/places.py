"""Where images and states lie, and the lock that lets one machine run at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from machine.laboratory import checkout


def cache() -> Path:
    """Images, states and what failures left: `.cache/machine`, or OSCTL_MACHINE_CACHE, which checkouts can share."""
    return Path(os.environ.get("OSCTL_MACHINE_CACHE") or checkout.ROOT / ".cache/machine")


@contextmanager
def the_only_laboratory() -> Iterator[None]:
    """Wait until nobody else runs machines out of this cache: two would be more than twice as slow."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another run of machines to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mark_as_used(folder: Path) -> None:
    os.utime(folder)


def keep_the_newest(folder: Path, pattern: str, number: int) -> None:
    """Take away all but the ones that were used last."""
    found = sorted(folder.glob(pattern), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in found[number:]:
        shutil.rmtree(each)


def tell(text: str) -> None:
    """Say what takes long."""
    with uncaptured[0]():
        print(f"machine: {text}", file=sys.stderr, flush=True)


#: How to get past what captures standard error: under pytest, tests/machine/conftest.py knows.
uncaptured: list[Callable[[], AbstractContextManager[None]]] = [nullcontext]


@contextmanager
def not_counted() -> Iterator[None]:
    """What is made once for all tests takes no time of the test that needs it first (tests/conftest.py)."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
