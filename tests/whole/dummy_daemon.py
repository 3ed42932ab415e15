"""osctld itself with bare containers, and with the type of interface of tests/interface_types beside its own.

With `--manual` it writes pages of the manual instead, as such a program has them.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: What to give to `Topology(program=...)`.
WITH_DUMMY = (sys.executable, __file__)

if __name__ == "__main__":
    import osctld.netif

    # Before anything asks which types there are.
    osctld.netif.__path__.append(str(Path(__file__).parents[1] / "interface_types"))
    import osctld.__main__

    sys.path.insert(0, str(Path(__file__).parents[1]))

    from osctld import service
    from osctld.cli.manual import pages
    from whole.bare_daemon import BareEngine, BareRootDirectories

    if sys.argv[1:] == ["--manual"]:
        print(*(pages()[name] for name in ("osctl-ct-netif-new.8", "osctl-ct-netif.8")))
        sys.exit(0)
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    sys.exit(service.main())
