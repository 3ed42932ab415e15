"""What changes that are under way want: it outlives the daemon, and not the kernel.

In a guest, ours is what the saved configuration names. A daemon that is killed between applying and saving would leave
objects there that nobody knows as ours; so what is wanted is noted before. Below the run directory and not synced: a
crash of the host takes the guest along.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from osctld.core.errors import ApplyFailed


class PendingChanges:
    """One document per container, while a change of it is under way."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)

    def note(self, container: str, document: bytes) -> None:
        """Raises ApplyFailed when it cannot be written; then the change must not begin."""
        try:
            descriptor = os.open(
                self._directory / container, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            try:
                written = os.write(descriptor, document)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ApplyFailed(f"the change could not be noted: {error.strerror}", code="save-failed") from error
        if written < len(document):
            raise ApplyFailed("the change could not be noted: no space left", code="save-failed")

    def forget(self, container: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._directory / container)

    def load(self) -> Iterator[bytes]:
        """All documents. One may be torn: then its change had not begun."""
        for file in sorted(self._directory.iterdir()):
            yield file.read_bytes()
