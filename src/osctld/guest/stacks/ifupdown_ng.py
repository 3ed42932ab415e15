"""ifupdown-ng, that of Alpine. With `auto`, `ifdown -a` would take the link down, and `ifup -a` would leave it so."""

from __future__ import annotations

from osctld.core.root_files import FoundFiles
from osctld.guest.interfaces_file import DEBIAN, InterfacesFile


class IfupdownNg(InterfacesFile):
    name = "ifupdown_ng"
    distributions = DEBIAN | {"alpine", "chimera"}
    evidence = (("/etc/network/ifupdown-ng.conf", "/usr/sbin/ifup-ng", "/sbin/ifup"),)
    instead_of = frozenset({"ifupdown", "busybox_ifupdown"})

    def is_installed(self, found: FoundFiles) -> bool:
        # /sbin/ifup is a link to one program for all of its commands, which other tools do not call so.
        is_its_own = {"/etc/network/ifupdown-ng.conf", "/usr/sbin/ifup-ng"} & found.programs.keys()
        return bool(is_its_own) or found.programs.get("/sbin/ifup") == "ifupdown"


STACK = IfupdownNg()
