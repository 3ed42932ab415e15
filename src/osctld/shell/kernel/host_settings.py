"""What settings of the host were before we changed them, kept as long as the kernel keeps ours: until the next boot.

The file is one that sysctl(8) reads, `sysctl -p FILE` puts everything back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from osctld.core.errors import Unavailable

_BOOT = "# as it was before osctld changed it, on boot "


class HostSettings:
    """Values before, by path below /proc/sys/net. What another boot left is nothing."""

    def __init__(self, file: Path, *, boot: str) -> None:
        """`boot` tells boots and namespaces apart, see `host_boot`."""
        self._file = file
        self._heading = _BOOT + boot
        self._before: dict[str, str] = {}
        #: Whether a daemon has kept this before on this boot, be it that there was nothing to be kept.
        self.was_kept = False
        try:
            heading, *lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() or [""]
        except FileNotFoundError:
            return
        if heading == self._heading:
            pairs = (line.partition(" = ") for line in lines)
            self.was_kept = True
            self._before = {path.removeprefix("net/"): value for path, _, value in pairs}

    @property
    def before(self) -> Mapping[str, str]:
        return self._before

    def note(self, values: Mapping[str, str]) -> None:
        """Keep what these settings are, of those that were not changed before. Raises Unavailable when it cannot be."""
        if self.was_kept and values.keys() <= self._before.keys():
            return
        known = {**values, **self._before}
        text = "".join(f"net/{path} = {value}\n" for path, value in known.items())
        part = self._file.with_suffix(".part")
        try:
            part.write_text(f"{self._heading}\n{text}", encoding="utf-8", errors="surrogateescape")
            os.replace(part, self._file)
        except OSError as error:
            raise Unavailable(
                f"{self._file}: {error.strerror or error}", code="no-note", subject=str(self._file)
            ) from error
        self._before, self.was_kept = known, True
