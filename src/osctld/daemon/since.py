"""Since when something is so: from when it was first seen, over restarts of the daemon, until the host reboots."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol


class MomentsFile(Protocol):
    """The port to where moments are kept, in seconds since 1970, by what they are of."""

    def read(self) -> Mapping[str, float]: ...
    def write(self, moments: Mapping[str, float]) -> None: ...


class Since:
    def __init__(self, file: MomentsFile | None) -> None:
        """Without a file, a restart of the daemon forgets."""
        self._file = file
        self._moments: dict[str, float] = dict(file.read()) if file is not None else {}

    def note(self, keys: Iterable[str]) -> Mapping[str, float]:
        """Say since when each of these is so; all that is not among them is so no more."""
        now = time.time()
        moments = {key: self._moments.get(key, now) for key in keys}
        if moments != self._moments:
            self._moments = moments
            if self._file is not None:
                self._file.write(moments)
        return moments
