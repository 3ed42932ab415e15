"""Root directories of Debian as archives, built once with mmdebstrap and kept below OSCTL_TEST_CACHE."""

from __future__ import annotations

import os
from pathlib import Path

from whole.host import run

IMAGES = Path(os.environ.get("OSCTL_TEST_CACHE") or Path(__file__).parents[2] / ".cache/images")


def debian_image(name: str, *packages: str) -> Path:
    """An archive with systemd and these packages, by a name for the whole."""
    image = IMAGES / f"debian-bookworm-{name}.tar.zst"
    if not image.exists():
        IMAGES.mkdir(parents=True, exist_ok=True)
        unfinished = IMAGES / f"unfinished-{os.getpid()}-{image.name}"
        include = ",".join(("systemd-sysv", "dbus", *packages))
        try:
            run("mmdebstrap", "--variant=minbase", f"--include={include}", "bookworm", str(unfinished), seconds=900)
            unfinished.rename(image)
        finally:
            unfinished.unlink(missing_ok=True)
    return image
