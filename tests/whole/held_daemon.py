"""osctld itself with bare containers, and a kernel port that can be held in the middle of a change.

The first argument names a file. While it exists, whoever makes a change waits before its first step, in its turn, and
a second file with `.held` behind its name says so; all else goes on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    import osctld.__main__  # noqa: F401 - for what it does

from osctld import service
from osctld.core.plan.changes import Change
from osctld.shell.kernel.netlink import Answer
from osctld.shell.kernel.port import Kernel

sys.path.insert(0, str(Path(__file__).parent.parent))

from whole.bare_daemon import BareEngine, BareRootDirectories

HOLD = Path(sys.argv.pop(1))
HELD = HOLD.with_name(f"{HOLD.name}.held")


def wait(number: int, _change: Change) -> Answer | None:
    if number == 0 and HOLD.exists():
        HELD.touch()
        while HOLD.exists():
            time.sleep(0.01)
        HELD.unlink()
    return None


class HeldKernel(Kernel):
    def __init__(self) -> None:
        super().__init__(fault=wait)


if __name__ == "__main__":
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    service.Kernel = HeldKernel  # type: ignore[attr-defined,assignment]
    sys.exit(service.main())
