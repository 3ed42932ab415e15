"""osctld itself with bare containers, whose checks of the host and looks into the history take as long as a test likes.

The first argument names a file. It holds how many of these looks may end; others wait, in their thread, until it holds
more. One that has begun is told by a line in a second file, with `.begun` behind its name. Without the file none waits.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

if __name__ == "__main__":
    import osctld.__main__  # noqa: F401 - for what it does

from osctld import service
from osctld.daemon import actions
from osctld.shell.store.database import Store

sys.path.insert(0, str(Path(__file__).parent.parent))

from whole.bare_daemon import BareEngine, BareRootDirectories

P = ParamSpec("P")
T = TypeVar("T")

#: What to give to `Topology(program=...)`, with the file behind it.
SLOW = (sys.executable, __file__)


def slow(file: Path, look: Callable[P, T]) -> Callable[P, T]:
    begun = 0
    counting = threading.Lock()

    def wait_and_look(*args: P.args, **options: P.kwargs) -> T:
        nonlocal begun
        if file.exists():
            with counting:
                begun += 1
                mine = begun
                with file.with_name(f"{file.name}.begun").open("a") as told:
                    told.write(f"{mine}\n")
            with contextlib.suppress(FileNotFoundError):  # nobody waits any more
                while int(file.read_text() or 0) < mine:
                    time.sleep(0.01)
        return look(*args, **options)

    return wait_and_look


if __name__ == "__main__":
    named = Path(sys.argv.pop(1))
    actions.gather_facts = slow(named, actions.gather_facts)  # type: ignore[attr-defined]
    Store.history = slow(named, Store.history)  # type: ignore[method-assign]
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    sys.exit(service.main())
