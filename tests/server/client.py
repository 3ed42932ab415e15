"""The client as a process of its own: how it is called, and with what environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CLIENT = (sys.executable, "-m", "osctl")
SOURCES = str(Path(__file__).parents[2] / "src")


def environment(path: Path | None = None) -> dict[str, str]:
    """The client's: this checkout's program, and the daemon at that socket, or at the usual one."""
    plain = {key: value for key, value in os.environ.items() if key != "OSCTL_SOCKET"}
    return {**plain, "PYTHONPATH": SOURCES, **({"OSCTL_SOCKET": str(path)} if path else {})}
