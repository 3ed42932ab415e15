"""By which marks our own objects are known, on the host and in a guest."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from osctld.core.address.addresses import InterfaceAddress
from osctld.core.config.host import Container
from osctld.core.config.settings import HostSettings, RouteSettings, Settings
from osctld.core.plan.changes import RenameLink
from osctld.core.plan.kernel_model import pretend
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    KernelObject,
    KernelState,
    Link,
    Master,
    Namespace,
    Route,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.plan.planner import plan_changes
from osctld.core.reconcile.ownership import (
    is_abandoned_link,
    is_tolerated,
    reclaim,
    split,
    strayed_links,
    without_ipv6,
)
from pure.generated import container_without_interfaces, containers, interface
from pure.interface_steps import with_address

GUEST = guest("web01")
SETTINGS = Settings()


def desired(container: Container) -> KernelState:
    return container.desired(SETTINGS, default_mtu=1500)


SAVED = desired(
    container_without_interfaces().with_new_interface(with_address(interface(), InterfaceAddress.parse("1.2.3.4")))
)


def only(kind: type[KernelObject], *, on: str) -> list[KernelObject]:
    return [each for each in SAVED.objects if isinstance(each, kind) and each.namespace == on]


@given(containers())
def test_all_that_we_asked_for_is_ours(container: Container) -> None:
    saved = desired(container)

    ours, foreign = split(saved, saved=saved, settings=SETTINGS)

    assert (ours, foreign) == (saved, KernelState())


@given(containers(), containers())
def test_each_object_is_either_ours_or_not(one: Container, other: Container) -> None:
    observed = desired(one)

    ours, foreign = split(observed, saved=desired(other), settings=SETTINGS)

    assert ours.with_objects(foreign.objects) == observed
    assert len(ours) + len(foreign) == len(observed)


@given(containers())
def test_links_that_a_tenant_renamed_need_nothing_but_their_names_back(container: Container) -> None:
    saved = desired(container)
    links = [each for each in saved.objects if isinstance(each, Link)]
    renames = [RenameLink(each, msgspec.structs.replace(each, name=f"mine{each.name}")) for each in links]
    ours, foreign = split(pretend(saved, renames), saved=saved, settings=SETTINGS)

    have, rest = reclaim(ours, foreign, saved=saved, want=saved, aim=saved)

    assert rest == KernelState()
    assert {type(each) for each in plan_changes(saved, have, rest).changes} <= {RenameLink}
    assert reclaim(ours, foreign, saved=saved, want=saved, aim=have) == (ours, foreign)


def renamed_inside(name: str) -> tuple[KernelState, KernelState]:
    """What is ours and what is not after a tenant gave eth0 another name."""
    (link,) = (each for each in SAVED.objects if isinstance(each, Link))
    there = pretend(SAVED, [RenameLink(link, msgspec.structs.replace(link, name=name))])
    return split(there, saved=SAVED, settings=SETTINGS)


@pytest.mark.parametrize("link", ["aaa", "zzz"])
def test_what_is_on_another_link_stays_the_tenants_though_it_is_as_ours_was(link: str) -> None:
    ours, foreign = renamed_inside("lan0")
    addresses = (each for each in only(AssignedAddress, on=GUEST) if isinstance(each, AssignedAddress))
    (address,) = (each for each in addresses if str(each.address) == "1.2.3.4/32")
    theirs = msgspec.structs.replace(address, link=link)

    have, rest = reclaim(ours, foreign.with_objects([theirs]), saved=SAVED, want=SAVED, aim=SAVED)

    assert list(rest.objects) == [theirs]
    assert theirs not in have.objects


def test_of_a_link_whose_name_the_tenant_keeps_what_is_wanted_no_more_is_ours() -> None:
    ours, foreign = renamed_inside("lan0")
    want = desired(container_without_interfaces().with_new_interface(interface()))

    taken = [
        each
        for each in foreign.objects
        if (isinstance(each, AssignedAddress) and str(each.address) == "1.2.3.4/32")
        or (isinstance(each, Route) and each.source is not None and str(each.source) == "1.2.3.4")
    ]

    have, rest = reclaim(ours, foreign, saved=SAVED, want=want, aim=ours)

    assert {str(each) for each in set(foreign.objects) - set(rest.objects)} == {str(each) for each in taken}
    assert set(taken) <= set(have.objects)


@pytest.mark.parametrize(
    ("protocol", "is_ours"), [(111, True), (112, True), (2, False), (3, False), (4, False), (186, False)]
)
def test_a_host_route_is_ours_by_its_protocol(protocol: int, is_ours: bool) -> None:
    (route,) = (each for each in only(Route, on=HOST))
    assert isinstance(route, Route)
    seen = msgspec.structs.replace(route, protocol=protocol)

    ours, foreign = split(KernelState([seen]), saved=SAVED, settings=SETTINGS)

    assert (seen in ours.objects, seen in foreign.objects) == (is_ours, not is_ours)


def test_the_protocols_are_those_of_the_settings() -> None:
    (route,) = (each for each in only(Route, on=HOST))
    settings = Settings(routes=RouteSettings(201, 202))

    _, foreign = split(KernelState([route]), saved=SAVED, settings=settings)

    assert list(foreign.objects) == [route]


def test_in_a_guest_only_what_was_saved_is_ours_whatever_its_present_value() -> None:
    vip = AssignedAddress(GUEST, "eth0", InterfaceAddress.parse("1.2.3.99/32"))
    changed = [
        msgspec.structs.replace(each, metric=0, protocol=3) for each in only(Route, on=GUEST) if isinstance(each, Route)
    ]

    ours, foreign = split(KernelState([vip, *changed]), saved=SAVED, settings=SETTINGS)

    assert list(foreign.objects) == [vip]
    assert list(ours.objects) == changed


@pytest.mark.parametrize("is_pair_there", [True, False])
def test_a_link_in_a_guest_that_is_not_the_other_end_of_ours_is_the_tenants_with_all_on_it(is_pair_there: bool) -> None:
    (pair,) = only(Veth, on=HOST)
    assert isinstance(pair, Veth)
    without_peer = msgspec.structs.replace(pair, peer_namespace=Namespace(""), peer_name="", peer_mac="")
    inside = [each for each in SAVED.objects if each.namespace == GUEST]

    ours, foreign = split(
        KernelState([*([without_peer] if is_pair_there else []), *inside]), saved=SAVED, settings=SETTINGS
    )

    assert list(ours.objects) == ([without_peer] if is_pair_there else [])
    assert foreign == KernelState(inside)
    assert split(KernelState([pair, *inside]), saved=SAVED, settings=SETTINGS)[1] == KernelState()


def test_addresses_on_our_host_links_are_ours_whoever_added_them() -> None:
    added = AssignedAddress(HOST, "osweb01-eth0", InterfaceAddress.parse("9.9.9.9/32"))

    ours, _ = split(KernelState([added]), saved=SAVED, settings=SETTINGS)

    assert list(ours.objects) == [added]


def test_a_link_of_another_kind_under_our_name_is_not_ours() -> None:
    taken = Link(HOST, "osweb01-eth0", "02:00:00:00:00:01", 1500, is_up=True)

    _, foreign = split(KernelState([taken]), saved=SAVED, settings=SETTINGS)

    assert list(foreign.objects) == [taken]


@pytest.mark.parametrize(
    ("group", "mac", "is_ours"), [(111, "02:00:00:00:00:01", True), (0, "", True), (0, "02:00:00:00:00:01", False)]
)
def test_a_pair_under_our_name_is_ours_by_its_group_or_address(group: int, mac: str, is_ours: bool) -> None:
    (veth,) = only(Veth, on=HOST)
    assert isinstance(veth, Veth)
    seen = msgspec.structs.replace(veth, group=group, mac=mac or veth.mac)
    address = AssignedAddress(HOST, veth.name, InterfaceAddress.parse("9.9.9.9/32"))
    setting = Sysctl(HOST, f"ipv4/conf/{veth.name}/forwarding", "0", link=veth.name)

    ours, foreign = split(KernelState([seen, address, setting]), saved=SAVED, settings=SETTINGS)

    assert list((ours if is_ours else foreign).objects) == [seen, address, setting]


def test_settings_of_our_links_are_ours_and_those_of_the_namespace_are_not() -> None:
    of_link = Sysctl(HOST, "ipv4/conf/osweb01-eth0/forwarding", "0", link="osweb01-eth0")
    of_all = Sysctl(HOST, "ipv6/conf/all/forwarding", "0")

    ours, foreign = split(KernelState([of_link, of_all]), saved=SAVED, settings=SETTINGS)

    assert (list(ours.objects), list(foreign.objects)) == ([of_link], [of_all])


@pytest.mark.parametrize(
    ("name", "group", "recorded", "is_abandoned"),
    [
        ("osold-eth0", 111, (), True),
        ("osold-eth0", 111, ("osold-eth0",), False),
        ("osold-eth0", 0, (), False),
        ("veth0", 111, (), False),
    ],
)
def test_a_link_is_abandoned_when_it_bears_both_marks_and_nobody_records_it(
    name: str, group: int, recorded: tuple[str, ...], is_abandoned: bool
) -> None:
    (veth,) = only(Veth, on=HOST)
    assert isinstance(veth, Veth)
    seen = msgspec.structs.replace(veth, name=name, group=group)

    assert is_abandoned_link(seen, settings=SETTINGS, recorded=recorded) == is_abandoned
    assert not is_abandoned_link(Link(HOST, "osold", "", 1500, is_up=True), settings=SETTINGS, recorded=())


def test_a_link_of_ours_under_another_name_is_told_by_its_address() -> None:
    (veth,) = (each for each in only(Veth, on=HOST) if isinstance(each, Veth))
    strayed = msgspec.structs.replace(veth, name="mine", peer_name="", peer_mac="")
    stranger = msgspec.structs.replace(strayed, name="other", mac="02:00:00:00:00:99")

    (found,) = strayed_links(KernelState([stranger, strayed]), [veth])

    assert (found.old.name, found.new.name) == ("mine", veth.name)
    assert list(strayed_links(KernelState([stranger]), [veth])) == []
    # The place is taken: there is nothing to be given back.
    assert list(strayed_links(KernelState([strayed, veth]), [veth])) == []


@pytest.mark.parametrize("kind", ["bridge", "bond", "team", "openvswitch", "vrf", "zzz"])
def test_a_port_of_a_vrf_is_left_to_it_and_of_all_else_only_if_that_is_asked_for(kind: str) -> None:
    released, reported = (
        msgspec.structs.replace(SETTINGS, host=HostSettings(foreign_master=wanted)) for wanted in ("release", "report")
    )

    assert is_tolerated(Master("master0", kind), released) is (kind == "vrf")
    assert is_tolerated(Master("master0", kind), reported)


def test_a_tenant_who_switches_ipv6_off_does_so_inside_and_on_one_link() -> None:
    off = [Sysctl(place, "ipv6/conf/eth0/disable_ipv6", "1", link="eth0") for place in (Namespace("aa"), GUEST, HOST)]
    other = Sysctl(GUEST, "ipv6/conf/eth1/accept_ra", "1", link="eth1")

    assert without_ipv6(KernelState([*off, other])) == frozenset({"eth0"})
    assert without_ipv6(KernelState([other])) == frozenset()
    assert without_ipv6(KernelState([each for each in off if each.namespace == HOST])) == frozenset()
    assert without_ipv6(KernelState([each for each in off if each.namespace == "aa"])) == frozenset({"eth0"})
