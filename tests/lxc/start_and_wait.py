"""A daemon that starts one container when it is told to; it is there to be killed in the middle."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from osctld.core.config.life import ContainerSpec, IdMap
from osctld.shell.lxc.engine import LxcEngine


async def main(base: Path, offset: int) -> None:
    engine = LxcEngine(state_dir=base / "state", run_dir=base / "run")
    spec = ContainerSpec(container="web", root_directory=str(base / "web"), id_map=IdMap(offset=offset), hostname="web")
    print("ready", flush=True)
    sys.stdin.readline()
    await engine.launch(spec, await engine.make_namespaces(spec))
    print("launched", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
