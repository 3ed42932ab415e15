"""What the host's namespace should hold beside the interfaces of containers: forwarding and the packet filter.

A host without containers does not need forwarding and is left as it is. Before kernel 6.17 IPv6 is forwarded by all
links or by none, and a link that forwards takes router advertisements no more, unless its accept_ra is 2: switched on,
it takes from the host the default routes that it has, and those that it would have. Where we are who does that, every
link that takes advertisements is set to 2 before, and so is what links that appear take over; and again, whoever sets
them back. If others did it, they have prepared the host for it: nothing is changed, and `self check` reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from osctld.core.config.settings import Settings
from osctld.core.plan.kernel_state import HOST, ForeignLink, HostFacts, KernelObject, KernelState, Sysctl, Uplink
from osctld.core.plan.packet_filter import packet_filter

#: MTU of our links if there is no uplink to derive it from: that of Ethernet.
FALLBACK_MTU = 1500

#: Whether IPv6 is forwarded at all.
IPV6_FORWARDING = "ipv6/conf/all/forwarding"
_ACCEPT_RA = "/accept_ra"
#: Of accept_ra: take router advertisements whether the link forwards or not.
_ALWAYS = 2


def desired_host_level(
    settings: Settings, facts: HostFacts, *, has_containers: bool, is_ours: bool, was_changed: bool = False
) -> KernelState:
    """The packet filter, and forwarding as `desired_forwarding` has it. `was_changed`: we have switched something on
    for containers on this boot, which stays when the last one goes."""
    forwarding = desired_forwarding(settings, facts, has_containers=has_containers, is_ours=is_ours)
    no_transit = tuple(_no_transit(settings, facts, forwards=has_containers or was_changed, is_ours=is_ours))
    groups = settings.host
    table = packet_filter(groups.link_group, bridge_group=groups.bridge_link_group, no_transit=no_transit)
    return KernelState([table, *forwarding.objects])


def _no_transit(settings: Settings, facts: HostFacts, *, forwards: bool, is_ours: bool) -> Iterator[int]:
    """The IP versions that the host must not forward between links that are not ours.

    Of IPv4, osctld switches forwarding on link by link: as long as nobody has done so for all of them, as docker,
    libvirt and routers do, what the host forwards is for containers alone. IPv6 is forwarded by all links or none, and
    who switched that on is noted.
    """
    if settings.host.transit == "reject":
        yield from (4, 6)
    elif settings.host.transit == "auto" and settings.host.manage_forwarding and forwards:
        if not facts.has_ipv4_forwarding:
            yield 4
        if facts.has_ipv6 and (is_ours or not facts.has_ipv6_forwarding):
            yield 6


def desired_forwarding(settings: Settings, facts: HostFacts, *, has_containers: bool, is_ours: bool) -> KernelState:
    """Forwarding if we manage it and there is somebody to forward for. The order of the settings matters; a plan keeps
    it. `is_ours`: we were who switched IPv6 forwarding on; whoever does so now is."""
    objects: list[KernelObject] = []
    if settings.host.manage_forwarding and has_containers:
        keeps_advertisements = is_ours or not facts.has_ipv6_forwarding
        objects.extend(_ipv4_forwarding(facts.uplinks))
        objects.extend(_ipv6_forwarding(facts, keeps_advertisements=keeps_advertisements))
    return KernelState(objects)


def without_decided(want: KernelState, have: KernelState) -> KernelState:
    """What is wanted, without accept_ra of links where somebody else has decided meanwhile, as `have` shows.

    A program that processes advertisements for a new link sets 0 at the same time as we are notified.
    """
    present = {each.path: each.value for each in have.objects if isinstance(each, Sysctl)}
    return KernelState(
        each
        for each in want.objects
        if not isinstance(each, Sysctl)
        or not each.path.endswith(_ACCEPT_RA)
        or takes_advertisements_unless_forwarding(int(present.get(each.path, 0)))
    )


def default_mtu(facts: HostFacts) -> int:
    """The smallest MTU among the uplinks, so that what leaves a container fits through any of them."""
    return min((each.mtu for each in facts.uplinks), default=FALLBACK_MTU)


def links_to_ask_on(before: HostFacts, changed: KernelState) -> tuple[str, ...]:
    """Links on which routers are to be asked by us, since these settings were changed.

    The kernel asks when a link comes up, if it would take the answer. One that was up by then has missed that, or has
    dropped what was advertised.
    """
    late = {each.link for each in changed.objects if isinstance(each, Sysctl) and each.path.endswith(_ACCEPT_RA)}
    return tuple(each.name for each in before.links if each.name in late and each.has_ipv6_forwarding and each.is_ready)


def links_without_default(facts: HostFacts) -> tuple[str, ...]:
    """Links that would take an advertisement, have no default route by one, and on which the kernel asks no more."""
    return tuple(
        each.name
        for each in facts.links
        if each.is_ready
        and each.accept_ra == _ALWAYS
        and each.has_ipv6_forwarding
        and not each.has_advertised_default
        and not _is_being_asked_on(each)
    )


def _is_being_asked_on(link: ForeignLink) -> bool:
    return link.has_asked and not link.was_answered


def ipv6_forwarding_commands(facts: HostFacts) -> tuple[str, ...]:
    """Commands that enable IPv6 forwarding without losing what routers advertised to the host."""
    return tuple(map(_command, _ipv6_forwarding(facts, keeps_advertisements=True)))


def forwarding_warnings(settings: Settings, facts: HostFacts) -> tuple[str, ...]:
    """What hinders packets when forwarding is not ours to manage: one line each, with the command."""
    if settings.host.manage_forwarding:
        return ()
    missing = list(_ipv4_forwarding(each for each in facts.uplinks if not each.has_ipv4_forwarding))
    if not facts.has_ipv6_forwarding:
        missing.extend(_ipv6_forwarding(facts, keeps_advertisements=True))
    return tuple(f"warning: forwarding is off, and so is manage_forwarding: {_command(each)}" for each in missing)


def takes_advertisements_unless_forwarding(accept_ra: int) -> bool:
    """Whether this value of accept_ra lets a link take router advertisements only while it does not forward."""
    return accept_ra not in (0, _ALWAYS)


def _ipv4_forwarding(uplinks: Iterable[Uplink]) -> Iterator[Sysctl]:
    for uplink in uplinks:
        # IPv4 forwards packets that come in by a link whose own setting says so: ours, and these.
        yield Sysctl(HOST, f"ipv4/conf/{uplink.name}/forwarding", "1", link=uplink.name)


def _ipv6_forwarding(facts: HostFacts, *, keeps_advertisements: bool) -> Iterator[Sysctl]:
    if not facts.has_ipv6:
        return
    if keeps_advertisements:
        # What links inherit comes first: a link that appears from now on has it.
        if takes_advertisements_unless_forwarding(facts.default_accept_ra):
            yield Sysctl(HOST, "ipv6/conf/default/accept_ra", str(_ALWAYS))
        for link in facts.links:
            if takes_advertisements_unless_forwarding(link.accept_ra):
                yield Sysctl(HOST, f"ipv6/conf/{link.name}/accept_ra", str(_ALWAYS), link=link.name)
    yield Sysctl(HOST, IPV6_FORWARDING, "1")


def _command(each: Sysctl) -> str:
    """For sysctl(8), also where the name of a link has dots."""
    name = f"net/{each.path}" if "." in each.path else f"net.{each.path.replace('/', '.')}"
    return f"sysctl -w {name}={each.value}"
