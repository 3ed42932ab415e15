"""What the host's namespace shall hold beside the interfaces of containers: forwarding and the packet filter."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.kernel_state import HOST, HostFacts, KernelObject, KernelState, Sysctl
from osctld.core.packet_filter import packet_filter
from osctld.core.settings import Settings

#: MTU of our links when there is no uplink to take it from: that of Ethernet.
FALLBACK_MTU = 1500


def desired_host_level(settings: Settings, facts: HostFacts) -> KernelState:
    """The packet filter, and forwarding if we manage it. The order of the settings matters; a plan keeps it."""
    objects: list[KernelObject] = [packet_filter(settings.host.link_group)]
    if settings.host.manage_forwarding:
        objects.extend(_forwarding(facts))
    return KernelState(objects)


def default_mtu(facts: HostFacts) -> int:
    """The smallest MTU among the uplinks, so that what leaves a container fits through any of them."""
    return min((each.mtu for each in facts.uplinks), default=FALLBACK_MTU)


def forwarding_warnings(settings: Settings, facts: HostFacts) -> tuple[str, ...]:
    """What stands in the way of packets when forwarding is not ours to manage: one line each, with the command."""
    if settings.host.manage_forwarding:
        return ()
    present = {f"ipv4/conf/{each.name}/forwarding": each.has_ipv4_forwarding for each in facts.uplinks}
    present["ipv6/conf/all/forwarding"] = facts.has_ipv6_forwarding
    commands = (
        f"sysctl -w net.{each.path.replace('/', '.')}={each.value}"
        for each in _forwarding(facts)
        if not present.get(each.path, False)
    )
    return tuple(f"warning: manage_forwarding is off, and so is forwarding: {command}" for command in commands)


def _forwarding(facts: HostFacts) -> Iterator[Sysctl]:
    for uplink in facts.uplinks:
        # IPv4 forwards packets that come in by a link whose own setting says so: ours, and these.
        yield Sysctl(HOST, f"ipv4/conf/{uplink.name}/forwarding", "1", link=uplink.name)
    if not facts.has_ipv6:
        return
    if not facts.has_ipv6_forwarding:
        # Kernels before 6.17 forward IPv6 for all links or none. Switching it on makes a link with accept_ra=1
        # forget the default route that it learned; with 2 it keeps it.
        for uplink in facts.uplinks:
            if uplink.has_default_route_from_advertisement and uplink.accept_ra < 2:
                yield Sysctl(HOST, f"ipv6/conf/{uplink.name}/accept_ra", "2", link=uplink.name)
    yield Sysctl(HOST, "ipv6/conf/all/forwarding", "1")
