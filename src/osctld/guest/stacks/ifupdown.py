"""ifupdown of Debian, under whatever init.

`auto` has it configure the interface again when networking is started; without `no-auto-down`, stopping it would take
the addresses away for good, and restarting it for a moment.
"""

from __future__ import annotations

from osctld.guest.interfaces_file import DEBIAN, InterfacesFile


class Ifupdown(InterfacesFile):
    name = "ifupdown"
    distributions = DEBIAN
    evidence = (("/sbin/ifup", "/usr/sbin/ifup"), ("/etc/network",))
    is_automatic = True
    stays_up = True


STACK = Ifupdown()
