"""An interface as commands of `ip`, which change nothing where all is as wanted: for tools that run commands."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles

#: Where `ip` is looked for, in the order of PATH.
IP_PROGRAMS = ("/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip", "/bin/ip")


def has_busybox_ip(found: FoundFiles) -> bool:
    """Whether the `ip` inside is that of busybox, which does not know `nodad` (1.35)."""
    return next((found.programs[each] for each in IP_PROGRAMS if each in found.programs), "") == "busybox"


def ip_commands(interface: GuestInterface, *, is_busybox: bool) -> Iterator[str]:
    """`replace` rather than `add`: what is there already is no error.

    An address that is there is not detected again although nothing says `nodad`: that is done when one is added.
    """
    name = interface.name
    mtu = f" mtu {interface.mtu}" if interface.mtu is not None else ""
    yield f"ip link set dev {name} up{mtu}"
    for each in interface.addresses:
        broadcast = " brd +" if each.broadcast is not None else ""
        if each.address.version == 4:
            scope = "" if each.is_source else " scope link"
        else:
            scope = ("" if is_busybox else " nodad") + ("" if each.is_source else " preferred_lft 0")
        yield f"ip addr replace {each.address}{broadcast} dev {name}{scope}"
    for route in interface.defaults:
        family = " -6" if route.version == 6 else ""
        metric = f" metric {route.metric}" if route.metric else ""
        yield (
            f"ip{family} route replace default via {route.gateway} dev {name} proto static src {route.source}{metric}"
        )
