"""One look at the host's namespace, and which links lead out by it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from osctld.core.authority.uplinks import HostSight, asks_for_addresses, with_uplinks
from osctld.core.config.settings import Settings
from osctld.core.plan.kernel_state import HostFacts


class SeesHost(Protocol):
    """What of the kernel port a look needs."""

    def see_host(self, *, link_group: int, bridge_link_group: int, own_protocols: Collection[int]) -> HostSight: ...
    def links_with_global_address(self) -> Collection[str]: ...


def look_at_host(kernel: SeesHost, settings: Settings) -> HostFacts:
    """The uplinks, forwarding, and who takes router advertisements. Raises Unavailable."""
    named, routes = settings.host.uplinks, settings.routes
    own = (routes.announce_protocol, routes.present_protocol)
    sight = kernel.see_host(
        link_group=settings.host.link_group, bridge_link_group=settings.host.bridge_link_group, own_protocols=own
    )
    # Most hosts have a default route, and nobody need look at all addresses.
    addressed = kernel.links_with_global_address() if asks_for_addresses(sight, named=named) else ()
    return with_uplinks(sight, named=named, with_global_address=addressed)
