"""The version that client, daemon and help name, and the build: what exactly is installed."""

from __future__ import annotations

VERSION = "0.1.0"
#: What these files are, twelve digits that the installation makes from all that runs and writes here.
BUILD = "development"


def told(program: str, version: str = VERSION, build: str = BUILD) -> str:
    """A line for people: which program this is."""
    return f"{program} version {version}, build {build}"
