"""osctld itself, told that the kernel does not rename a link that is up, as those before 6.2: it goes the long way."""

from __future__ import annotations

import sys

from osctld import service as osctld
from osctld.shell.kernel.port import Kernel

#: What to give to `Topology(program=...)`.
OLD_KERNEL = (sys.executable, __file__)


class OldKernel(Kernel):
    def __init__(self) -> None:
        super().__init__(renames_while_up=False)


if __name__ == "__main__":
    osctld.Kernel = OldKernel  # type: ignore[attr-defined,assignment]
    sys.exit(osctld.main())
