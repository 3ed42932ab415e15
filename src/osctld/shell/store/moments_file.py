"""Moments by what they are of, as a file that a reboot takes away."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

log = logging.getLogger("osctld")


class MomentsFile:
    """Kept for eyes alone: what cannot be read or written is logged, and fails nobody."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> Mapping[str, float]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, float])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s: %s", self._file, error)
        return {}

    def write(self, moments: Mapping[str, float]) -> None:
        part = self._file.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(moments))
            os.replace(part, self._file)
        except OSError as error:
            log.warning("%s: %s", self._file, error)
