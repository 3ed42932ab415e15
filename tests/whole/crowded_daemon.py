"""osctld itself, on a host with so many containers that its descriptors are more than select(2) takes.

They are opened where it would begin to hold running containers, one for each.
"""

from __future__ import annotations

import os
import resource
import sys

from osctld import service as osctld
from osctld.daemon.perform import Daemon

#: What to give to `Topology(program=...)`.
CROWDED = (sys.executable, __file__)
#: glibc, sys/select.h.
FD_SETSIZE = 1024

_bring_up = osctld.bring_up


async def bring_up(daemon: Daemon, *, is_new_boot: bool) -> None:
    for _ in range(FD_SETSIZE):
        os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    await _bring_up(daemon, is_new_boot=is_new_boot)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * FD_SETSIZE), most))
    osctld.bring_up = bring_up
    sys.exit(osctld.main())
