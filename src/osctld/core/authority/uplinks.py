"""Which of the host's links lead out: those that the settings name, else what the routes say."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from osctld.core.plan.kernel_state import HostFacts, OtherLink, Uplink


class SeenLink(msgspec.Struct, frozen=True):
    """A link of the host, other than loopback and ours, as it was found.

    `leads_out`: by a default route in whatever table, or by a route that a routing daemon learned.
    """

    name: str
    mtu: int
    is_up: bool
    has_ipv4_forwarding: bool
    leads_out: bool
    is_port: bool = False


class HostSight(msgspec.Struct, frozen=True):
    """What one look at the host's namespace finds: its links, and all facts but which of them are the uplinks."""

    links: tuple[SeenLink, ...]
    facts: HostFacts


def asks_for_addresses(sight: HostSight, *, named: Collection[str] | None) -> bool:
    """Whether the routes say nothing, so that addresses decide."""
    return named is None and not any(each.leads_out for each in sight.links)


def with_uplinks(
    sight: HostSight, *, named: Collection[str] | None, with_global_address: Collection[str] = ()
) -> HostFacts:
    """The facts with the uplinks: those named; else those that are up and lead out by their routes or, where none does,
    all that are up and have a global address. What else is up, and no port of another link, are the others."""
    if named is not None:
        chosen: Iterable[SeenLink] = (each for each in sight.links if each.name in named)
    elif any(each.leads_out for each in sight.links):
        chosen = (each for each in sight.links if each.leads_out and each.is_up)
    else:
        chosen = (each for each in sight.links if each.name in with_global_address and each.is_up)
    uplinks = {each.name: Uplink(each.name, each.mtu, each.has_ipv4_forwarding) for each in chosen}
    others = (
        OtherLink(each.name, each.has_ipv4_forwarding, each.leads_out)
        for each in sight.links
        if each.name not in uplinks and each.is_up and not each.is_port
    )
    return msgspec.structs.replace(
        sight.facts,
        uplinks=tuple(each for _, each in sorted(uplinks.items())),
        others=tuple(sorted(others, key=lambda each: each.name)),
    )
