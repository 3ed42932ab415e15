"""Whether networks are announced, and by which routing daemon: a file in the state directory.

It belongs to this host and not to its configuration: a copy that is restored elsewhere must not begin to announce.
"""

from __future__ import annotations

from pathlib import Path

from osctld.core.errors import ApplyFailed
from osctld.shell.store.durable import sync_directory, write_file


class RouterFile:
    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "router"

    def read(self) -> str:
        """The name of the routing daemon; empty for none."""
        try:
            return self._file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def write(self, engine: str) -> None:
        """Keep the name; durable when this returns. Raises ApplyFailed."""
        try:
            if engine:
                write_file(self._file, f"{engine}\n".encode())
            else:
                self._file.unlink(missing_ok=True)
                sync_directory(self._file.parent)
        except OSError as error:
            raise ApplyFailed(f"'{self._file}': cannot be written: {error.strerror}", code="save-failed") from error
