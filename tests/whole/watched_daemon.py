"""osctld itself with bare containers; it tells in which thread work on a container's whole configuration is done.

The first argument names a file. Each such piece of work is a line in it: what it was, and `loop` where it was done by
the thread that answers everybody, else `aside`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

if __name__ == "__main__":
    import osctld.__main__  # noqa: F401 - for what it does

from osctld import service
from osctld.commands import ct_netif_ip_add, ct_netif_route_add, ct_netif_route_del, ct_netif_route_ls, ct_netif_show
from osctld.core import who
from osctld.core.authority import authority
from osctld.daemon import perform
from osctld.netif.routed import draft
from osctld.server import command_line
from osctld.shell.kernel.port import Kernel
from osctld.sync import containers

sys.path.insert(0, str(Path(__file__).parent.parent))

from whole.bare_daemon import BareEngine, BareRootDirectories

P = ParamSpec("P")
T = TypeVar("T")

#: What to give to `Topology(program=...)`, with the file behind it.
WATCHED = (sys.executable, __file__)


def watched(file: Path, name: str, work: Callable[P, T]) -> Callable[P, T]:
    def tell_and_work(*args: P.args, **options: P.kwargs) -> T:
        where = "loop" if threading.current_thread() is threading.main_thread() else "aside"
        with file.open("a") as told:
            told.write(f"{name} {where}\n")
        return work(*args, **options)

    return tell_and_work


#: Name of the work, and who has it under which name.
WORK: tuple[tuple[str, Any, str], ...] = (
    ("view", ct_netif_route_ls.CtNetifRouteLs, "view"),
    ("view", ct_netif_show.CtNetifShow, "view"),
    ("edit", ct_netif_ip_add.CtNetifIpAdd, "edit"),
    ("edit", ct_netif_route_add.CtNetifRouteAdd, "edit"),
    ("edit", ct_netif_route_del.CtNetifRouteDel, "edit"),
    ("draft", draft.Draft, "route_all"),
    ("claim", authority, "check"),
    ("look", Kernel, "observe"),
    ("plan", containers, "plan_changes"),
    ("text", perform, "lines_of"),
    ("table", command_line, "show"),
    ("who", who, "who_now"),
)

if __name__ == "__main__":
    named = Path(sys.argv.pop(1))
    for name, owner, attribute in WORK:
        setattr(owner, attribute, watched(named, name, getattr(owner, attribute)))
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    sys.exit(service.main())
