"""ifup and ifdown of busybox, where there is a directory of their configuration.

It does not know `no-auto-down`, and needs none: what is `manual` it takes nothing from.
"""

from __future__ import annotations

from osctld.core.root_files import FoundFiles
from osctld.guest.interfaces_file import InterfacesFile


class BusyboxIfupdown(InterfacesFile):
    name = "busybox_ifupdown"
    distributions = frozenset({"alpine", "busybox"})
    evidence = (("/sbin/ifup", "/usr/sbin/ifup"), ("/etc/network",))
    instead_of = frozenset({"ifupdown"})
    is_automatic = True

    def is_installed(self, found: FoundFiles) -> bool:
        programs = (found.programs.get(each) for each in self.evidence[0])
        return super().is_installed(found) and "busybox" in programs


STACK = BusyboxIfupdown()
