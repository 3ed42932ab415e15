"""The releases that machine tests boot, and whose turn it is when one has to do."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A release, by the name that people type."""

    name: str
    suite: str
    vendor: str
    kernel: str  # package
    other_packages: tuple[str, ...] = ()


RELEASES = {
    each.name: each
    for each in (
        Release("debian-12", "bookworm", "debian", "linux-image-cloud-amd64"),
        Release("debian-13", "trixie", "debian", "linux-image-cloud-amd64"),
        Release("ubuntu-24.04", "noble", "ubuntu", "linux-image-virtual", ("systemd-resolved",)),
    )
}
#: Those that a run without names takes: their archive can be had with the keys that each Debian has.
USUAL = ("debian-12", "debian-13")


def release_named(name: str) -> Release:
    """Raises ValueError, naming those that there are."""
    if name not in RELEASES:
        raise ValueError(f"no release {name!r}; there are {', '.join(RELEASES)}")
    return RELEASES[name]


def in_turn(now: float | None = None) -> Release:
    """One of the usual ones, another each day. `now` is in seconds since 1970."""
    day = int((time.time() if now is None else now) // 86400)
    return RELEASES[USUAL[day % len(USUAL)]]
