"""Whether containers are wanted, and a host that goes down with them and comes up again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from whole.host import Topology, wait_until


def wanted(host: Topology, name: str) -> bool:
    return bool(host.osctl_json("ct", "show", name)["wanted"])


def state(host: Topology, name: str) -> str:
    return str(host.osctl_json("ct", "show", name)["state"])


def reboot(host: Topology, *running: str) -> None:
    """The host goes down with everything on it, and comes up with a fresh network namespace."""
    pids = [host.init_pid(name) for name in running]
    host.kill_daemon()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}/ns/net").exists(), "it is gone")  # type: ignore[misc]
    host.remove_network()
    host.make_network()
    host.start_daemon()
