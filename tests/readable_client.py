"""The client for users other than root, who may not come to where this clone is: below /root, for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

import osctl
import osctld


def readable_client(directory: Path) -> tuple[str, ...]:
    """Put the client below a directory that everybody may enter; returns how to call it from there."""
    place = directory / "client"
    for package in (osctl, osctld, msgspec):  # the others for what it says without a daemon
        source = Path(package.__path__[0])
        shutil.copytree(source, place / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    interpreter = os.path.realpath(sys.executable)  # the system's, not the one of this clone's virtual environment
    return ("env", f"PYTHONPATH={place}", interpreter, "-B", "-m", "osctl")
