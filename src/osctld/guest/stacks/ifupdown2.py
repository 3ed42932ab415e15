"""ifupdown2. With `auto` a restart would take the addresses off before it runs the commands that add them."""

from __future__ import annotations

from osctld.guest.interfaces_file import DEBIAN, InterfacesFile


class Ifupdown2(InterfacesFile):
    name = "ifupdown2"
    distributions = DEBIAN
    evidence = (("/usr/share/ifupdown2",),)
    instead_of = frozenset({"ifupdown", "busybox_ifupdown"})


STACK = Ifupdown2()
