"""Notes of the edition in which each running container was configured. They do not survive a boot, like the
containers."""

from __future__ import annotations

import logging
from pathlib import Path

from osctld.core.config.edition import FIRST, LATEST

log = logging.getLogger("osctld")


class Editions:
    """One small file for each life."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The edition in which a container was configured; LATEST for what a later version did."""
        if name not in self._known:
            try:
                text = (self._directory / name).read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                text = ""
            self._known[name] = min(int(text), LATEST) if text.isdigit() else FIRST
        return self._known[name]

    def note(self, name: str) -> None:
        """It is configured as LATEST has it. Where that cannot be written, the next daemon goes over it once more."""
        if self.of(name) == LATEST:
            return
        self._known[name] = LATEST
        try:
            self._directory.mkdir(exist_ok=True)
            (self._directory / name).write_text(f"{LATEST}\n", encoding="ascii")
        except OSError as error:
            log.error("%s: %s", self._directory / name, error.strerror or error)

    def forget(self, name: str) -> None:
        """The life has ended."""
        self._known.pop(name, None)
        (self._directory / name).unlink(missing_ok=True)
