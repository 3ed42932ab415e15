"""Notes of starts that nobody waits for and that have not succeeded yet. They do not survive a boot: each boot starts
what is wanted by itself."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("osctld")


class PendingStarts:
    """One empty file for each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __contains__(self, name: str) -> bool:
        return (self._directory / name).exists()

    def note(self, name: str) -> None:
        """A start begins. Where that cannot be written, a daemon that dies before it succeeds has forgotten it."""
        try:
            self._directory.mkdir(exist_ok=True)
            (self._directory / name).touch()
        except OSError as error:
            log.error("%s: %s", self._directory / name, error.strerror or error)

    def forget(self, name: str) -> None:
        """The container has started, or is no more."""
        (self._directory / name).unlink(missing_ok=True)
