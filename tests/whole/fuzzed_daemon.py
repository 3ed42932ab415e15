"""osctld with containers that are bare network namespaces, in which no program of the host is ever run: whatever words
are made up for `ct exec`, the machine stays as it is."""

from __future__ import annotations

if __name__ == "__main__":
    # The program's own start, which sees to its memory before anything else is loaded.
    import osctld.__main__  # noqa: F401 - for what it does

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osctld import service

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent.parent))

from whole import bare_daemon

#: What to give to `Topology(program=...)`.
FUZZED = (sys.executable, __file__)


class FuzzedEngine(bare_daemon.BareEngine):
    def about(self) -> dict[str, Any]:
        directories = dict.fromkeys(("cpu", "cpuacct", "memory", "blkio", "pids"), "/nonexistent")
        return {"lxc_path": "/nonexistent", "cgroup_prefix": "", "cgroup_directories": directories}

    async def execute(
        self, life: bare_daemon.BareLife, command: Sequence[str], *, stdin: int, stdout: int, stderr: int, **more: Any
    ) -> int:
        words = ["true"] if command[0] == "true" else ["sh", "-c", "exit 127"]
        return await super().execute(life, words, stdin=stdin, stdout=stdout, stderr=stderr, **more)


if __name__ == "__main__":
    service.LxcEngine = FuzzedEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = bare_daemon.BareRootDirectories  # type: ignore[attr-defined]
    sys.exit(service.main())
