"""What is ours: the one place that says by which marks a restarted daemon knows its own objects.

On the host: links by their group, or by recorded name and address; by prefix and group those that nobody records any
more; everything on such a link, except routes of other protocols, which somebody else put there. In a guest: what the
saved configuration names, and nothing else; all other things there are the tenant's, and so is a link with the name of
ours that is not the other end of ours, with all that is on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from osctld.core.config.settings import Settings
from osctld.core.plan.changes import RenameLink
from osctld.core.plan.kernel_model import on_renamed, peer_of
from osctld.core.plan.kernel_state import (
    HOST,
    LINK_PREFIX,
    AssignedAddress,
    KernelObject,
    KernelState,
    Link,
    Master,
    Neighbour,
    PermittedSource,
    PrivateNetwork,
    Route,
    Routes,
    SiblingLinks,
    Sysctl,
    Veth,
    Way,
    alike,
)


def is_abandoned_link(each: KernelObject, *, settings: Settings, recorded: Iterable[str]) -> bool:
    """Whether a host link is one that we created and that no interface records any longer."""
    return (
        isinstance(each, Veth)
        and each.name.startswith(LINK_PREFIX)
        and each.group in settings.host.link_groups
        and each.name not in recorded
    )


def strayed_links(observed: KernelState, wanted: Iterable[Veth]) -> Iterator[RenameLink]:
    """Links of our groups that somebody renamed, with their current names: they are recognised by their address."""
    missing = {each.mac: each.name for each in wanted if each.key not in observed}
    for each in observed.objects:
        if isinstance(each, Veth) and each.mac in missing:
            there = Link(each.namespace, each.name, each.mac, each.mtu, each.is_up)
            yield RenameLink(there, msgspec.structs.replace(there, name=missing.pop(each.mac)))


def split(observed: KernelState, *, saved: KernelState, settings: Settings) -> tuple[KernelState, KernelState]:
    """Part what was observed into ours and the rest. `saved` is what the saved configuration asks for."""
    observed = _without_tolerated_masters(observed, saved, settings)
    links = [each for each in observed.others.values() if isinstance(each, Veth | Link)]
    others_links = {
        each.name for each in links if each.namespace == HOST and not _is_ours_on_host(each, saved, settings)
    }
    peers = {
        (each.peer_namespace, each.peer_name)
        for each in links
        if isinstance(each, Veth) and each.name not in others_links
    }
    tenants_links = {
        (each.namespace, each.name)
        for each in links
        if each.namespace != HOST and (each.namespace, each.name) not in peers
    }
    ours: list[KernelObject | Routes] = []
    foreign: list[KernelObject | Routes] = []
    for place, table in observed.routes.items():
        namespace, known = place[0], saved.routes.get(place, {})
        for routes in alike(table):
            if namespace == HOST:
                mine = _is_ours_on_host(routes.way, saved, settings) and routes.way.link not in others_links
                (ours if mine else foreign).append(routes)
            elif (namespace, routes.way.link) in tenants_links:
                foreign.append(routes)
            else:
                ours.append(Routes(routes.way, [each for each in routes.networks if each in known]))
                foreign.append(Routes(routes.way, [each for each in routes.networks if each not in known]))
    for key, each in observed.others.items():
        if each.namespace == HOST:
            mine = _is_ours_on_host(each, saved, settings) and _link_of(each) not in others_links
        else:
            link = each.name if isinstance(each, Link) else _link_of(each)
            # Whatever the value of a wanted setting is, it has to be ours: a tenant who set it has changed ours.
            is_setting = isinstance(each, Sysctl) and not _says_ipv6_is_off(each)
            mine = (key in saved or is_setting) and (each.namespace, link) not in tenants_links
        (ours if mine else foreign).append(each)
    return KernelState(ours), KernelState(foreign)


def _without_tolerated_masters(observed: KernelState, saved: KernelState, settings: Settings) -> KernelState:
    """The same without masters that a link of ours is left to: those are reported, and no plan changes them."""
    left = [
        msgspec.structs.replace(each, master=None)
        for each in observed.others.values()
        if isinstance(each, Veth)
        and each.master is not None
        and is_tolerated(each.master, settings)
        and not _belongs_to_a_bridge(each, saved, settings)
    ]
    return observed.with_objects(left) if left else observed


def _belongs_to_a_bridge(link: Veth, saved: KernelState, settings: Settings) -> bool:
    """Whether a link is to be a port of one bridge, and is not left to any other master."""
    recorded = saved.get(link.key)
    return link.group == settings.host.bridge_link_group or (isinstance(recorded, Veth) and recorded.master is not None)


def is_tolerated(master: Master, settings: Settings) -> bool:
    """Whether a link of ours is left to somebody who made it a port.

    That of a VRF is: its routes have moved to another table with it, and who does that has arranged the host so.
    """
    return settings.host.foreign_master == "report" or master.kind == "vrf"


def reclaim(
    have: KernelState, foreign: KernelState, *, saved: KernelState, want: KernelState, aim: KernelState
) -> tuple[KernelState, KernelState]:
    """`have` and `foreign`, with what the tenant gave another name to, together with its link, among ours: all of it
    where the plan's `aim` gives that its name back, else what was `saved` and is no longer wanted."""
    ours: list[KernelObject] = []
    for key, present in have.others.items():
        # Among the others: to ask for any object makes one of each route, of which there may be very many.
        before, after = saved.others.get(key), aim.others.get(key)
        if not isinstance(present, Veth) or not isinstance(before, Veth) or present.peer_name == before.peer_name:
            continue
        peer = peer_of(present).key
        link = foreign.get(peer) or have.get(peer)  # ours by the name, where that is of another link of ours
        if not isinstance(link, Link):
            continue
        new_name = after.peer_name if isinstance(after, Veth) else ""
        is_named = new_name not in ("", link.name)
        for each in foreign.others.values():
            if (each.namespace, each.name if isinstance(each, Link) else _link_of(each)) != (link.namespace, link.name):
                continue
            known = on_renamed(each, link, before.peer_name).key
            is_wanted = is_named and on_renamed(each, link, new_name).key in aim
            is_to_go = known in saved and (is_named or (known not in want and not isinstance(each, Link)))
            if is_wanted or is_to_go:
                ours.append(each)
    if not ours:
        return have, foreign
    return have.with_objects(ours), foreign.without_keys(each.key for each in ours)


def _link_of(each: KernelObject) -> str:
    """The link that an object is on; empty for links themselves, and for what is on none."""
    match each:
        case (
            AssignedAddress() | Route() | Neighbour() | Sysctl() | SiblingLinks() | PrivateNetwork() | PermittedSource()
        ):
            return each.link
        case _:
            return ""


def _is_ours_on_host(each: KernelObject | Way, saved: KernelState, settings: Settings) -> bool:
    match each:
        case Route() | Way():
            return each.protocol in (settings.routes.announce_protocol, settings.routes.present_protocol)
        case Veth():
            # The name alone is not proof: somebody else may have created a pair of that name while ours was absent. Our
            # address identifies our own link if its group was changed, manually or in the settings.
            recorded = saved.get(each.key)
            is_recorded = isinstance(recorded, Veth) and recorded.mac == each.mac
            return is_recorded or each.group in settings.host.link_groups
        case Link():
            # Under a name of ours but not created by us: a conflict, and not ours to change.
            return False
        case Sysctl():
            return bool(each.link)
        case _:
            return True


def without_ipv6(foreign: KernelState) -> frozenset[str]:
    """The links in a guest on which the tenant switched IPv6 off, from what was observed there and is not ours."""
    return frozenset(
        each.link
        for each in foreign.objects
        if isinstance(each, Sysctl) and each.namespace != HOST and _says_ipv6_is_off(each)
    )


def _says_ipv6_is_off(each: Sysctl) -> bool:
    return each.path.endswith("/disable_ipv6")
