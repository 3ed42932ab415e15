"""osctld itself with bare containers, and a kernel port that can be held in the middle of a change.

The first argument names a file. While it exists, whoever makes a change waits before its first step, in its turn, and
a second file with `.held` behind its name says so; all else goes on.
"""

from __future__ import annotations

import functools
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

#: What to give to `Topology(program=...)`, with the file behind it.
HELD = (sys.executable, __file__)


def wait(hold: Path, number: int, _change: Change) -> Answer | None:
    if number == 0 and hold.exists():
        held = hold.with_name(f"{hold.name}.held")
        held.touch()
        while hold.exists():
            time.sleep(0.01)
        held.unlink()
    return None


if __name__ == "__main__":
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    service.Kernel = functools.partial(Kernel, fault=functools.partial(wait, Path(sys.argv.pop(1))))  # type: ignore[attr-defined,assignment]
    sys.exit(service.main())
