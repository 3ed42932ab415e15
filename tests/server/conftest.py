"""A server for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.serving import Running


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that others may enter, with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="osctl-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(directory: Path) -> Iterator[Running]:
    running = Running(directory / "s")
    running.start()
    yield running
    running.stop()
