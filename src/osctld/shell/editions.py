"""Notes of how each running container was configured: in which edition, and what its bridges were like. They do not
survive a boot, like the containers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from osctld.core.config.edition import FIRST, LATEST
from osctld.core.plan.kernel_state import HostLink

log = logging.getLogger("osctld")

#: What the name of the file about bridges ends with: no container's name has a dot.
_OF_LINKS = ".links"


class Editions:
    """One or two small files for each life."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, int] = {}
        self._links: dict[str, Mapping[str, HostLink]] = {}

    def of(self, name: str) -> int:
        """The edition in which a container was configured; LATEST for what a later version did."""
        if name not in self._known:
            text = self._read(name).decode(errors="replace").strip()
            self._known[name] = min(int(text), LATEST) if text.isdigit() else FIRST
        return self._known[name]

    def links_of(self, name: str) -> Mapping[str, HostLink]:
        """The bridges that it is attached to, as they were when it was configured."""
        if name not in self._links:
            try:
                found = msgspec.json.decode(self._read(name + _OF_LINKS) or b"[]", type=tuple[HostLink, ...])
            except msgspec.DecodeError:
                found = ()
            self._links[name] = {each.name: each for each in found}
        return self._links[name]

    def note(self, name: str, links: Mapping[str, HostLink]) -> None:
        """It is configured as LATEST has it, beside these bridges. Where that cannot be written, the next daemon goes
        over it once more."""
        if self.of(name) != LATEST:
            self._known[name] = LATEST
            self._write(name, f"{LATEST}\n".encode())
        if self.links_of(name) != links:
            self._links[name] = dict(links)
            self._write(name + _OF_LINKS, msgspec.json.encode(tuple(links.values())) + b"\n")

    def forget(self, name: str) -> None:
        """The life has ended."""
        self._known.pop(name, None)
        self._links.pop(name, None)
        for file in (name, name + _OF_LINKS):
            (self._directory / file).unlink(missing_ok=True)

    def _read(self, file: str) -> bytes:
        try:
            return (self._directory / file).read_bytes()
        except OSError:
            return b""

    def _write(self, file: str, content: bytes) -> None:
        try:
            self._directory.mkdir(exist_ok=True)
            (self._directory / file).write_bytes(content)
        except OSError as error:
            log.error("%s: %s", self._directory / file, error.strerror or error)
