"""Whom it concerns when the kernel tells of a change."""

from __future__ import annotations

import msgspec
import pytest

from osctld.core.address.addresses import Network
from osctld.core.address.via import Via
from osctld.core.config.host import Host
from osctld.core.config.settings import HostSettings, Settings
from osctld.core.plan.kernel_state import HostFacts, Uplink
from osctld.core.reconcile import kernel_events
from osctld.core.reconcile.kernel_events import ALL_LINKS, Concerned, Heard, LinkNews
from osctld.netif.routed.interface import RoutedNetwork, new_interface
from osctld.netif.routed.networks import RoutedNetworks
from pure.surrounded import claims_of

GROUP = Settings().host.link_group
UPLINK = Uplink(name="up0", mtu=1500, has_ipv4_forwarding=True)
FACTS = HostFacts(uplinks=(UPLINK,), has_ipv6_forwarding=True)
NOBODY = Concerned(frozenset(), everything=False)
FORWARDING = Concerned(frozenset(), everything=False, forwarding=True)
EVERYTHING = Concerned(frozenset(), everything=True)
EVERYTHING_AND_FORWARDING = Concerned(frozenset(), everything=True, forwarding=True)
WEB, DB = (Concerned(frozenset({each}), everything=False) for each in ("web", "db"))


def host(settings: Settings | None = None) -> Host:
    """web with 1.2.3.4 behind osweb-eth0, db with 10.5.5.0/24 behind osdb-eth0."""
    made = Host(uuid="2b6a77c4-0b58-4d8e-9a5f-0f3e7f4f2a11", settings=settings or Settings())
    for name, via, network in (("web", "10.100.10.100/30", "1.2.3.4/32"), ("db", "10.100.10.96/30", "10.5.5.0/24")):
        made = made.with_new_container(name, user=None, distribution="busybox", version="1")
        container = made.container(name)
        interface = new_interface(made, container, "eth0", vias={4: Via.make(Network.parse(via))})
        route = RoutedNetwork(Network.parse(network), is_automatic=False)
        interface = msgspec.structs.replace(interface, routes=RoutedNetworks.of([route]))
        made = made.with_container(container.with_new_interface(interface))
    return made


def concerned_by(heard: Heard, host: Host, *, facts: HostFacts) -> Concerned:
    return kernel_events.concerned_by(heard, host, claims_of(host), facts=facts)


def link(
    name: str, *, index: int = 7, group: int = GROUP, mtu: int = 1500, is_up: bool = True, is_gone: bool = False
) -> Heard:
    news = LinkNews(index=index, name=name, group=group, mtu=mtu, is_up=is_up, is_gone=is_gone)
    return Heard(links=frozenset({news}))


def both(one: Heard, other: Heard) -> Heard:
    return Heard(links=one.links | other.links)


@pytest.mark.parametrize(
    ("heard", "concerned"),
    [
        (Heard(), NOBODY),
        (Heard(was_lost=True), EVERYTHING),
        (Heard(is_filter_changed=True), EVERYTHING),
        (Heard(changed_on=frozenset({"osweb-eth0"})), WEB),
        (Heard(settings_of=frozenset({"osdb-eth0"})), DB),
        # Who sets accept_ra, which nobody tells, does something else on that link as well.
        (Heard(changed_on=frozenset({"up0"})), FORWARDING),
        (Heard(changed_on=frozenset({"docker0"})), FORWARDING),
        (Heard(settings_of=frozenset({"docker0"})), FORWARDING),
        (Heard(settings_of=frozenset({"up0"})), EVERYTHING_AND_FORWARDING),
        (Heard(settings_of=frozenset({ALL_LINKS})), EVERYTHING),
    ],
)
def test_what_changed_on_a_link_concerns_whose_link_it_is(heard: Heard, concerned: Concerned) -> None:
    assert concerned_by(heard, host(), facts=FACTS) == concerned


@pytest.mark.parametrize(
    ("heard", "concerned"),
    [
        (link("osweb-eth0"), WEB),
        (link("osweb-eth0", is_gone=True), WEB),
        # Under our name and in no group: somebody made it anew, or took it out of the group.
        (link("osweb-eth0", group=0, index=99), WEB),
        (link("docker0", group=0), FORWARDING),
        (link("docker0", group=0, is_gone=True), NOBODY),
        # In our group under a name that nobody has: renamed, or left behind.
        (link("mine"), EVERYTHING),
        (link("mine", is_gone=True), NOBODY),
        (both(link("mine", is_up=False), link("mine", is_up=False, is_gone=True)), NOBODY),
        (both(link("osweb-eth0"), link("mine")), Concerned(frozenset({"web"}), everything=True)),
    ],
)
def test_a_link_is_known_by_its_name_and_without_one_by_its_group(heard: Heard, concerned: Concerned) -> None:
    assert concerned_by(heard, host(), facts=FACTS) == concerned


@pytest.mark.parametrize(
    ("heard", "concerned"),
    [
        (link("up0", group=0), FORWARDING),
        (link("up0", group=0, mtu=9000), EVERYTHING_AND_FORWARDING),
        (link("up0", group=0, is_up=False), EVERYTHING_AND_FORWARDING),
        (link("up0", group=0, is_gone=True), EVERYTHING),
    ],
)
def test_an_uplink_concerns_everything_when_it_is_another_than_it_was(heard: Heard, concerned: Concerned) -> None:
    assert concerned_by(heard, host(), facts=FACTS) == concerned


@pytest.mark.parametrize(
    ("network", "concerned"),
    [
        ("1.2.3.4/32", WEB),
        ("10.5.5.0/24", DB),
        ("10.5.5.7/32", DB),
        ("10.100.10.102/32", WEB),
        # Wider than ours: ours are more specific, and untouched by it.
        ("1.2.3.0/24", NOBODY),
        ("10.0.0.0/8", NOBODY),
        ("198.51.100.0/24", NOBODY),
        ("0.0.0.0/0", EVERYTHING),
        ("::/0", EVERYTHING),
    ],
)
def test_a_route_concerns_who_holds_its_destination(network: str, concerned: Concerned) -> None:
    heard = Heard(networks=frozenset({Network.parse(network)}))

    assert concerned_by(heard, host(), facts=FACTS) == concerned


def test_forwarding_concerns_nobody_where_it_is_not_ours_to_manage() -> None:
    unmanaged = Settings(host=HostSettings(manage_forwarding=False))
    heard = Heard(settings_of=frozenset({ALL_LINKS, "up0"}), changed_on=frozenset({"up0"}))

    assert concerned_by(heard, host(unmanaged), facts=FACTS) == NOBODY


def test_links_of_others_concern_nobody_where_there_are_no_containers() -> None:
    empty = Host(uuid="2b6a77c4-0b58-4d8e-9a5f-0f3e7f4f2a11", settings=Settings())

    assert concerned_by(both(link("docker0", group=0), link("eth1", group=0)), empty, facts=FACTS) == NOBODY
