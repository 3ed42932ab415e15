"""osctld itself, whose event loop hangs for good when it gets a SIGUSR2."""

from __future__ import annotations

if __name__ == "__main__":
    import osctld.__main__  # noqa: F401 - what the program itself begins with

import signal
import sys
import threading

from osctld import service

#: What to give to `Topology(program=...)`.
HANGING = (sys.executable, __file__)


def _hang(*_: object) -> None:
    threading.Event().wait()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, _hang)
    sys.exit(service.main())
