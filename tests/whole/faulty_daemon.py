"""osctld itself, with a kernel port that fails when a test asks for it: what comes after is the same program.

The first argument names a file to which the test writes an order. `refuse N`: the N-th change of the next plan is
refused. `die N`: the daemon is killed in its place. `end N PID`: that process is killed and has ended before it. When
that has happened the file is gone; when it is still there, the plan had no such change.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import signal
import sys
from pathlib import Path

from osctld import service as osctld
from osctld.core.plan.changes import Change
from osctld.shell.kernel.netlink import Answer
from osctld.shell.kernel.port import Kernel

#: What to give to `Topology(program=...)`, with the file behind it.
FAULTY = (sys.executable, __file__)


def fault(order: Path, number: int, change: Change) -> Answer | None:
    try:
        what, at, *who = order.read_text().split()
    except FileNotFoundError:
        return None
    if number != int(at):
        return None
    order.unlink()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "end":
        _kill(int(who[0]))
        return None
    return Answer(errno.ENOMEM, f"refused by the test: {type(change).__name__}")


def _kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


if __name__ == "__main__":
    osctld.Kernel = functools.partial(Kernel, fault=functools.partial(fault, Path(sys.argv.pop(1))))  # type: ignore[attr-defined,assignment]
    sys.exit(osctld.main())
