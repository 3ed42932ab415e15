"""What was found and repaired, as text."""

from __future__ import annotations

import msgspec


class Mending(msgspec.Struct):
    """What was repaired, and what could not be and why, as text; both grow during a repair.

    `set_up` is what nobody had broken: it was made for the first time on this boot, or is new. `left` is what the
    tenant changed inside and keeps.
    """

    mended: list[str] = []
    failed: list[str] = []
    set_up: list[str] = []
    left: list[str] = []

    def __iadd__(self, other: Mending) -> Mending:
        self.set_up += other.set_up
        self.left += other.left
        self.mended += other.mended
        self.failed += other.failed
        return self

    @property
    def found(self) -> tuple[str, ...]:
        """Everything that was not as it should be, failures last."""
        return (*self.mended, *(f"not repaired: {each}" for each in self.failed))
