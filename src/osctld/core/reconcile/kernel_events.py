"""Notifications of the kernel about changes, and which containers they concern.

A notification says where something changed, never the current state, which is then observed. So notifications may come
late, twice, or of things that are gone.
"""

from __future__ import annotations

import msgspec

from osctld.core.address.addresses import Network
from osctld.core.authority.rules import Holdings
from osctld.core.config.host import Host
from osctld.core.plan.kernel_state import HostFacts

#: In `Heard.settings_of`, for the settings of all links at once: ipv6/conf/all/forwarding.
ALL_LINKS = "all"


class LinkNews(msgspec.Struct, frozen=True):
    """A link of the host came, changed or went, and was this at that moment. `mtu` is in bytes."""

    index: int
    name: str
    group: int
    mtu: int
    is_up: bool
    is_gone: bool


class Heard(msgspec.Struct, frozen=True):
    """What changed on the host since somebody last listened. Links go by their names."""

    links: frozenset[LinkNews] = frozenset()
    #: Links on which addresses, routes or neighbours came, changed or went.
    changed_on: frozenset[str] = frozenset()
    #: Links of which a setting changed.
    settings_of: frozenset[str] = frozenset()
    #: Destinations of routes that came, went or were replaced by another's.
    networks: frozenset[Network] = frozenset()
    #: Somebody changed the packet filter's tables.
    is_filter_changed: bool = False
    #: Routing rules came or went.
    are_rules_changed: bool = False
    #: There was more than could be kept, and it is not known what.
    was_lost: bool = False


class Concerned(msgspec.Struct, frozen=True):
    """What has to be observed: these containers, forwarding, or everything, the host level first."""

    containers: frozenset[str]
    everything: bool
    forwarding: bool = False
    #: Bridges of containers that may have changed.
    bridges: frozenset[str] = frozenset()


def concerned_by(heard: Heard, host: Host, holdings: Holdings, *, facts: HostFacts) -> Concerned:
    """Return which containers notifications concern. `facts` is the last observed state of the uplinks."""
    containers = {each.link: name for name, one in host.containers.items() for each in one.interfaces}
    bridges = frozenset().union(*(one.bridges for one in host.containers.values()))
    uplinks = {each.name: each for each in facts.uplinks}
    gone = {each.index for each in heard.links if each.is_gone}
    found = set()
    forwarding = False
    everything = heard.is_filter_changed or heard.are_rules_changed or heard.was_lost
    for link in heard.links:
        uplink = uplinks.get(link.name)
        if link.name in containers:
            found.add(containers[link.name])
        elif link.group in host.settings.host.link_groups and uplink is None:
            # One of ours was renamed, and nothing says whose it was; or it is a leftover.
            everything |= link.index not in gone
        else:
            # Our links take their MTU from the uplinks.
            everything |= uplink is not None and (link.is_gone or not link.is_up or link.mtu != uplink.mtu)
            forwarding |= not link.is_gone
    for name in heard.settings_of:
        everything |= host.settings.host.manage_forwarding and (name == ALL_LINKS or name in uplinks)
    for network in heard.networks:
        if network.length == 0:
            everything = True  # which links lead out
            continue
        everything |= any(each.network == network for each in host.blocks)
        for claim in holdings.overlapping(network):
            if claim.network.length > network.length:
                break  # what lies inside has routes of its own
            found.add(claim.holder.container)
    named = heard.changed_on | heard.settings_of - {ALL_LINKS}
    found.update(containers[name] for name in named if name in containers)
    # There is no notification when accept_ra of a link is set; a tool that does so also changes something else of the
    # link.
    forwarding |= any(name not in containers for name in named)
    is_ours_to_manage = host.settings.host.manage_forwarding and bool(host.containers)
    about = bridges & {*named, *(each.name for each in heard.links)} if bridges else bridges
    return Concerned(frozenset(found), everything, forwarding and is_ours_to_manage, about)
