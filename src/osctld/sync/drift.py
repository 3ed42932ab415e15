"""What is different inside guests and left so, because somebody there made it so: told once for each difference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from osctld.core.config.host import POOL

log = logging.getLogger("osctld")


class Drift:
    def __init__(self, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        """`tell` takes an event, its type and opts."""
        self._tell = tell
        self._of: dict[str, tuple[str, ...]] = {}

    def of(self, name: str) -> tuple[str, ...]:
        """The differences of one container, as text."""
        return self._of.get(name, ())

    @property
    def all(self) -> Mapping[str, tuple[str, ...]]:
        """The differences as text, by container."""
        return dict(self._of)

    def lines(self) -> list[str]:
        """Those of all containers."""
        return [f"{name}: {each}" for name, drift in self._of.items() for each in drift]

    def note(self, name: str, drift: tuple[str, ...]) -> None:
        """Keep what was found, and tell who listens if it is something else than before."""
        if drift == self.of(name):
            return
        self._tell("drift", {"pool": POOL, "id": name, "differences": list(drift)})
        for each in drift:
            log.warning("%s: changed inside and left as it is: %s", name, each)
        if drift:
            self._of[name] = drift
        else:
            self.forget(name)

    def forget(self, name: str) -> None:
        """The container has ended, and what was different in it with it."""
        self._of.pop(name, None)
