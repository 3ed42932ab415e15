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

    For busybox they need a shell. There, no address of the link is detected as a duplicate, because the default route
    that follows cannot have a tentative source address, which it is for a moment even so (addrconf_dad_start in
    linux/net/ipv6/addrconf.c runs later); and an address that is there keeps its flags only if nothing is said of it.
    """
    name = interface.name
    if is_busybox and any(each.address.version == 6 for each in interface.addresses):
        yield f"echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad"
    mtu = f" mtu {interface.mtu}" if interface.mtu is not None else ""
    yield f"ip link set dev {name} up{mtu}"
    for each in interface.addresses:
        broadcast = " brd +" if each.broadcast is not None else ""
        if each.address.version == 4:
            scope = "" if each.is_source else " scope link"
        else:
            scope = ("" if is_busybox else " nodad") + ("" if each.is_source else " preferred_lft 0")
        if is_busybox and each.address.version == 6:
            is_there = f"ip addr show dev {name} | grep -qF ' {each.address} '"
            yield f"{is_there} || ip addr add {each.address} dev {name}{scope}"
            continue
        yield f"ip addr replace {each.address}{broadcast} dev {name}{scope}"
    for route in interface.defaults:
        family = " -6" if route.version == 6 else ""
        metric = f" metric {route.metric}" if route.metric else ""
        replace = (
            f"ip{family} route replace default via {route.gateway} dev {name} proto static src {route.source}{metric}"
        )
        yield f"{replace} || {{ sleep 1; {replace}; }}" if is_busybox and route.version == 6 else replace
