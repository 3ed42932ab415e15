"""Laws of plans, over what the model itself asks for and over plain kernel states."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import assume, given, settings

from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.config.host import Container
from osctld.core.errors import Conflict
from osctld.core.plan.changes import Change, Remove, Restore, subject_of
from osctld.core.plan.kernel_model import pretend
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    KernelObject,
    KernelState,
    Link,
    Neighbour,
    Outcome,
    PermittedSource,
    PrivateNetwork,
    Route,
    SiblingLinks,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.plan.order import stage_of_route_absence, stage_of_route_presence
from osctld.core.plan.planner import plan_changes
from osctld.core.plan.text import describe
from osctld.netif.routed.interface import RoutedInterface
from pure.edited_states import desired, edits, has_order, order_in_guest, with_same_settings
from pure.generated import (
    container_without_interfaces,
    containers,
    interface,
    near_addresses,
    networks,
    rearranged_containers,
    versions,
)
from pure.interface_steps import with_address, with_vias, without_address
from pure.strict_kernel import StrictKernel

GUEST = guest("web01")


# --- what is generated -------------------------------------------------------------------------------------------


@st.composite
def drifts(draw: st.DrawFn) -> tuple[KernelState, KernelState]:
    """What is wanted, and that after somebody removed and changed parts of it."""
    want = desired(draw(containers()))
    kernel = StrictKernel(want, harsh=True)
    for each in want.objects:
        if draw(st.integers(0, 4)):
            continue
        match each:
            case AssignedAddress() | Route() | Neighbour() | SiblingLinks() | PermittedSource():
                kernel.perform(Remove(each))
            case Sysctl():
                kernel.perform(Restore(msgspec.structs.replace(each, value="7")))
            case Link():
                kernel.perform(Restore(msgspec.structs.replace(each, mtu=1400, mac="02:00:00:00:00:99")))
    kernel.remove_what_could_not_be_added()
    for each in kernel.state.objects:
        if draw(st.integers(0, 4)):
            continue
        match each:
            case Neighbour():
                kernel.perform(Restore(msgspec.structs.replace(each, mac="02:00:00:00:00:99")))
            case Route(gateway=Address()):
                kernel.perform(Restore(msgspec.structs.replace(each, source=None, protocol=4)))
            case AssignedAddress(has_prefix_route=True) if not kernel.is_needed(each):
                kernel.perform(Restore(msgspec.structs.replace(each, broadcast=None, has_prefix_route=False)))
    return kernel.state, want


#: The host links and guest links of plain states: two pairs.
_PAIRS = (("osa", "eth0"), ("osb", "eth1"))

macs = st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"])
mtus = st.sampled_from([1280, 1500])


@st.composite
def plain_states(draw: st.DrawFn) -> KernelState:
    """Any consistent state: objects only on links that are there, whether or not a kernel could be led to it."""
    objects: list[KernelObject] = []
    places = []
    sources: dict[Any, bool] = {}
    for host_link, guest_link in _PAIRS:
        if draw(st.booleans()):
            mac, mtu = draw(macs), draw(mtus)
            objects.append(Veth(HOST, host_link, mac, mtu, 111, draw(st.booleans()), GUEST, guest_link, mac))
            objects.append(Link(GUEST, guest_link, mac, draw(mtus), draw(st.booleans())))
            places += [(HOST, host_link), (GUEST, guest_link)]
    for namespace, link in places:
        for _ in range(draw(st.integers(0, 5))):
            version = draw(versions)
            address = draw(near_addresses(version))
            length = draw(st.sampled_from([{4: 32, 6: 128}[version], {4: 24, 6: 64}[version]]))
            match draw(st.sampled_from(["address", "route", "neighbour", "sysctl", "siblings"])):
                case "address":
                    assigned = address.with_length(length)
                    # Those of one IPv4 subnet have one scope.
                    is_source = sources.setdefault((namespace, link, assigned.network), draw(st.booleans()))
                    if version == 6:
                        is_source = draw(st.booleans())
                    objects.append(
                        AssignedAddress(namespace, link, assigned, None, draw(st.booleans()), is_source=is_source)
                    )
                case "route":
                    gateway = draw(st.none() | near_addresses(version))
                    source = draw(st.none() | near_addresses(version))
                    metric = draw(st.sampled_from([0, 8]) if version == 4 else st.sampled_from([8, 1024]))
                    objects.append(Route(namespace, draw(networks(version)), link, gateway, 111, metric, source))
                case "neighbour":
                    objects.append(Neighbour(namespace, link, address, draw(macs)))
                case "sysctl":
                    path = f"ipv4/conf/{link}/forwarding"
                    objects.append(Sysctl(namespace, path, draw(st.sampled_from("01")), link=link))
                case _:
                    if len(places) == 4:
                        objects.append(SiblingLinks(HOST, "osa", "osb"))
    return KernelState(objects)


rearrangements = rearranged_containers().map(lambda pair: (desired(pair[0]), desired(pair[1])))

pairs_of_states = st.one_of(
    edits(),
    rearrangements,
    drifts(),
    st.tuples(containers().map(desired), containers().map(desired)),
    st.tuples(plain_states(), plain_states()),
)


# --- laws --------------------------------------------------------------------------------------------------------


@given(pairs_of_states)
def test_a_plan_reaches_what_we_want_and_its_undo_returns(pair: tuple[KernelState, KernelState]) -> None:
    have, want = with_same_settings(*pair)

    plan = plan_changes(want, have)

    assert pretend(have, plan.changes) == want
    assert pretend(want, plan.undo().changes) == have
    if have != want:
        assert plan
    elif order_in_guest(have) == order_in_guest(want):
        assert not plan


@given(pairs_of_states)
def test_there_is_nothing_to_do_when_all_is_as_wanted(pair: tuple[KernelState, KernelState]) -> None:
    for state in pair:
        assert not plan_changes(state, state)


def stage_of(change: Change) -> object:
    subject = subject_of(change)
    assert isinstance(subject, Route)
    return stage_of_route_absence(subject) if isinstance(change, Remove) else stage_of_route_presence(subject)


@given(edits(), st.data())
def test_routes_alone_are_planned_as_they_are_beside_other_changes(
    pair: tuple[KernelState, KernelState], data: st.DataObject
) -> None:
    want, _ = pair
    routes = [each for each in want.objects if isinstance(each, Route)]
    subsets = st.sets(st.sampled_from(routes)) if routes else st.just(set())
    have, foreign = (KernelState(each for each in want.objects if each not in data.draw(subsets)) for _ in range(2))
    want = want.without_keys(each.key for each in data.draw(subsets))
    foreign = KernelState(each for each in foreign.objects if isinstance(each, Route) and each.key not in have)

    other = Sysctl(HOST, "ipv4/conf/other0/forwarding", "1", link="other0")

    alone = plan_changes(want, have, foreign)
    beside = plan_changes(KernelState([*want.objects, other]), have, foreign)

    others = [each for each in beside.changes if subject_of(each) != other]
    # Among routes that neither need nor take along each other, the order is nobody's matter.
    assert Counter(alone.changes) == Counter(others)
    assert list(map(stage_of, alone.changes)) == list(map(stage_of, others))


@given(pairs_of_states, st.data())
def test_undoing_what_got_through_returns_wherever_it_stopped(
    pair: tuple[KernelState, KernelState], data: st.DataObject
) -> None:
    have, want = with_same_settings(*pair)
    plan = plan_changes(want, have)
    stop = data.draw(st.integers(0, len(plan.changes)))
    outcomes = [Outcome() if index < stop else Outcome(was_tried=False) for index in range(len(plan.changes))]
    if stop < len(plan.changes):
        outcomes[stop] = Outcome("No buffer space available", 105)

    reached = pretend(have, plan.changes[:stop])

    assert pretend(reached, plan.undo(outcomes).changes) == have


realistic = st.one_of(edits(), drifts(), rearrangements).map(lambda pair: with_same_settings(*pair))


@given(realistic, st.booleans(), st.booleans())
def test_every_change_finds_what_it_needs_in_a_strict_kernel(
    pair: tuple[KernelState, KernelState], harsh: bool, renames_while_up: bool
) -> None:
    have, want = pair
    kernel = StrictKernel(have, harsh=harsh, renames_while_up=renames_while_up)

    kernel.apply(plan_changes(want, have, renames_while_up=renames_while_up))

    assert kernel.state == want
    assert order_in_guest(kernel.state) == order_in_guest(want)


@given(realistic, st.booleans(), st.booleans(), st.data())
def test_undo_finds_what_it_needs_in_a_strict_kernel_wherever_the_plan_stopped(
    pair: tuple[KernelState, KernelState], harsh: bool, renames_while_up: bool, data: st.DataObject
) -> None:
    have, want = with_same_settings(*pair)
    plan = plan_changes(want, have, renames_while_up=renames_while_up)
    stop = data.draw(st.integers(0, len(plan.changes)))
    kernel = StrictKernel(have, harsh=harsh, renames_while_up=renames_while_up)
    for change in plan.changes[:stop]:
        kernel.perform(change)

    kernel.apply(plan.undo([Outcome(was_tried=index < stop) for index in range(len(plan.changes))]))

    assert kernel.state == have
    assert order_in_guest(kernel.state) == order_in_guest(have)


def test_an_mtu_too_small_for_ipv6_that_is_taken_back_brings_back_what_it_took_wherever_it_stopped() -> None:
    before = interface(via=["10.0.0.0/30"])
    have = desired(container_with(before))
    plan = plan_changes(desired(container_with(msgspec.structs.replace(before, mtu=1000))), have)
    for stop in range(len(plan.changes) + 1):
        kernel = StrictKernel(have, harsh=True)
        for change in plan.changes[:stop]:
            kernel.perform(change)

        kernel.apply(plan.undo([Outcome(was_tried=index < stop) for index in range(len(plan.changes))]))

        assert kernel.state == have


@given(edits(), st.booleans())
def test_a_container_is_configured_from_nothing_and_taken_down_again(
    pair: tuple[KernelState, KernelState], harsh: bool
) -> None:
    for want in pair:
        kernel = StrictKernel(KernelState(), harsh=harsh)

        kernel.apply(plan_changes(want, KernelState()))
        assert kernel.state == want
        assert order_in_guest(kernel.state) == order_in_guest(want)

        kernel.apply(plan_changes(KernelState(), want))
        assert kernel.state == KernelState()


@given(realistic)
def test_changes_of_one_namespace_stand_together(pair: tuple[KernelState, KernelState]) -> None:
    have, want = with_same_settings(*pair)
    namespaces = [subject_of(each).namespace for each in plan_changes(want, have).changes]

    switches = sum(one != other for one, other in pairwise(namespaces))

    # Each switch is a send: early removals, links and the host's own, the guest, the host, the guest, the host, and
    # the same again for what is put back.
    assert switches <= 8


@given(pairs_of_states)
def test_order_carries_no_meaning_but_that_of_a_guests_ipv4_addresses_in_their_subnets(
    pair: tuple[KernelState, KernelState],
) -> None:
    have, want = with_same_settings(*pair)
    backwards = KernelState(reversed(list(want.objects)))

    assert backwards == want
    assert hash(backwards) == hash(want)
    assert pretend(have, plan_changes(backwards, have).changes) == want
    assert bool(plan_changes(backwards, want)) == (order_in_guest(backwards) != order_in_guest(want))
    ordered = {key for key, each in want.items() if has_order(each)}
    partly = KernelState([*backwards.without_keys(ordered).objects, *(want[key] for key in want if key in ordered)])
    assert not plan_changes(partly, want)


# --- single cases of the laws that are easy to get wrong -----------------------------------------------------------


def container_with(*interfaces: RoutedInterface) -> Container:
    container = container_without_interfaces()
    for each in interfaces:
        container = container.with_new_interface(each)
    return container


def parsed(text: str) -> InterfaceAddress:
    return InterfaceAddress.parse(text)


@pytest.mark.parametrize("harsh", [True, False])
@pytest.mark.parametrize(
    "network", ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/24", "fd00::/126", "fd00::/127", "fd00::/64"]
)
def test_the_two_ends_of_a_live_via_can_change_places(network: str, harsh: bool) -> None:
    before = interface(via=[network])
    (via,) = before.vias.values()
    swapped = via.with_ends(host_end=via.container_end, container_end=via.host_end)
    have = desired(container_with(before))
    want = desired(container_with(with_vias(before, {via.version: swapped})))
    kernel = StrictKernel(have, harsh=harsh)

    kernel.apply(plan_changes(want, have))
    assert kernel.state == want

    kernel.apply(plan_changes(want, have).undo())
    assert kernel.state == have


def in_order(*addresses: InterfaceAddress) -> KernelState:
    return desired(container_with(functools.reduce(with_address, addresses, interface())))


def test_addresses_go_and_come_again_from_the_first_one_that_is_out_of_order() -> None:
    one, two, three = (parsed(f"198.51.100.{number}/28") for number in (1, 2, 3))

    plan = plan_changes(in_order(one, three, two), in_order(one, two, three))

    assert (
        plan.text()
        == """# in container web01
ip addr del 198.51.100.2/28 dev eth0
ip addr del 198.51.100.3/28 dev eth0
ip addr replace 198.51.100.3/28 brd 198.51.100.15 dev eth0
ip addr replace 198.51.100.2/28 brd 198.51.100.15 dev eth0
ip addr replace 198.51.100.1/28 brd 198.51.100.15 dev eth0
ip route replace default via 10.100.10.101 dev eth0 proto static src 198.51.100.1
"""
    )


def test_what_the_tenant_speaks_from_an_address_comes_back_when_that_is_moved() -> None:
    one, two = (parsed(f"198.51.100.{number}/28") for number in (1, 2))
    have, want = in_order(one, two), in_order(two, one)
    own = Route(GUEST, Network.parse("203.0.113.0/24"), "eth0", Address.parse("10.100.10.101"), 3, 0, one.address)

    plan = plan_changes(want, have, KernelState([own]))

    assert Restore(own) in plan.changes
    kernel = StrictKernel(have.with_objects([own]), harsh=True)
    kernel.apply(plan)
    assert kernel.state == want.with_objects([own])
    assert order_in_guest(kernel.state)[("eth0", "198.51.100.0/28")] == [str(two), str(one)]


@pytest.mark.parametrize("harsh", [True, False])
def test_a_pair_whose_peer_is_elsewhere_is_made_anew(harsh: bool) -> None:
    want = desired(container_with(with_address(interface(), parsed("1.2.3.4/32"))))
    have = KernelState(
        msgspec.structs.replace(each, peer_name="old") if isinstance(each, Veth)
        else msgspec.structs.replace(each, name="old") if isinstance(each, Link)
        else each
        for each in want.objects
        if each.namespace == HOST or isinstance(each, Link)
    )  # fmt: skip
    kernel = StrictKernel(have, harsh=harsh)

    plan = plan_changes(want, have)
    kernel.apply(plan)
    assert kernel.state == want == pretend(have, plan.changes)

    kernel.apply(plan.undo())
    assert kernel.state == have


@pytest.mark.parametrize("harsh", [True, False])
def test_an_interface_takes_the_place_of_another_of_the_same_name(harsh: bool) -> None:
    one = interface()
    have = desired(container_with(one))
    want = desired(container_with(msgspec.structs.replace(one, link="osother-eth0")))
    kernel = StrictKernel(have, harsh=harsh)

    plan = plan_changes(want, have)
    kernel.apply(plan)

    assert kernel.state == want == pretend(have, plan.changes)


def test_the_guest_knows_an_address_before_the_host_sends_packets_for_it() -> None:
    one = interface()
    two = with_address(one, parsed("1.2.3.4/32"))
    have, want = desired(container_with(one)), desired(container_with(two))

    coming = [describe(subject_of(each)) for each in plan_changes(want, have).changes]
    going = [describe(subject_of(each)) for each in plan_changes(have, want).changes]

    assert coming == [
        "addr 1.2.3.4/32 dev eth0",
        "route default via 10.100.10.101 dev eth0 proto static src 1.2.3.4",
        "addr 10.100.10.102/30 dev eth0 scope link",
        "route 1.2.3.4/32 via 10.100.10.102 dev osweb01-eth0 proto 111",
        "route default via 10.100.10.101 dev eth0 proto static src 1.2.3.4",  # gone in the worst case
    ]
    assert going == [
        "addr 10.100.10.102/30 dev eth0",
        "route default via 10.100.10.101 dev eth0 proto static src 10.100.10.102",
        "route 1.2.3.4/32 via 10.100.10.102 dev osweb01-eth0 proto 111",
        "addr 1.2.3.4/32 dev eth0",
    ]


def test_with_the_last_ipv4_address_of_a_link_go_all_ipv4_routes_and_neighbours_on_it() -> None:
    gone = AssignedAddress(HOST, "osa", parsed("10.0.0.1/32"))
    other = AssignedAddress(HOST, "osa", parsed("10.9.9.9/32"))
    route = Route(HOST, Network.parse("10.1.0.0/16"), "osa", None, 111, 0)
    neighbour = Neighbour(HOST, "osa", Address.parse("10.0.0.2"), "02:00:00:00:00:01")
    ipv6 = Route(HOST, Network.parse("fd00::/64"), "osa", None, 111, 8)

    last = pretend(KernelState([gone, route, neighbour, ipv6]), [Remove(gone)])
    not_last = pretend(KernelState([gone, other, route, neighbour, ipv6]), [Remove(gone)])

    assert last == KernelState([ipv6])
    assert not_last == KernelState([other, route, neighbour, ipv6])


# --- what is not ours --------------------------------------------------------------------------------------------


@given(containers(), st.data())
def test_equal_objects_of_others_are_adopted(container: Container, data: st.DataObject) -> None:
    want = desired(container)
    there = [
        key for key, each in want.items() if not isinstance(each, Veth | Link) and data.draw(st.integers(0, 3)) == 0
    ]
    foreign = KernelState(want[key] for key in there)
    have = want.without_keys(there)

    assert not plan_changes(want, have, foreign)


@given(containers(), st.data())
def test_a_different_object_in_the_way_is_a_conflict_that_names_both(container: Container, data: st.DataObject) -> None:
    want = desired(container)
    routes = [each for each in want.objects if isinstance(each, Route)]
    assume(routes)
    ours = data.draw(st.sampled_from(routes))
    theirs = msgspec.structs.replace(ours, protocol=3)

    with pytest.raises(Conflict) as conflict:
        plan_changes(want, want.without_keys([ours.key]), KernelState([theirs]))

    assert describe(ours) in conflict.value.message
    assert describe(theirs) in conflict.value.message
    assert ("container web01" if ours.namespace == GUEST else "the host") in conflict.value.message
    assert (conflict.value.subject, conflict.value.holder) == (describe(ours), describe(theirs))


def test_a_link_of_others_in_the_way_is_a_conflict() -> None:
    want = desired(container_with(interface()))
    for taken in (
        Link(HOST, "osweb01-eth0", "02:00:00:00:00:01", 1500, is_up=True),
        Link(GUEST, "eth0", "02:00:00:00:00:01", 1500, is_up=True),
    ):
        with pytest.raises(Conflict, match=f"link {taken.name}: .* already has link {taken.name}, which is foreign"):
            plan_changes(want, KernelState(), KernelState([taken]))


@pytest.mark.parametrize("harsh", [True, False])
def test_an_address_that_the_tenant_added_survives_the_deletion_of_ours_on_its_subnet(harsh: bool) -> None:
    one = interface()
    two = with_address(one, parsed("10.5.5.1/24"))
    their_address = AssignedAddress(GUEST, "eth0", parsed("10.5.5.77/24"))
    gateway, source = Address.parse("10.5.5.8"), Address.parse("10.5.5.77")
    their_route = Route(GUEST, Network.parse("10.77.0.0/16"), "eth0", gateway, 3, 0, source)
    theirs = KernelState([their_address, their_route])
    have, want = desired(container_with(two)), desired(container_with(one))
    kernel = StrictKernel(have.with_objects(theirs.objects), harsh=harsh)

    plan = plan_changes(want, have, theirs)
    kernel.apply(plan)
    assert kernel.state == want.with_objects(theirs.objects)

    kernel.apply(plan.undo())
    assert kernel.state == have.with_objects(theirs.objects)


def test_a_tenant_s_route_that_has_lost_its_gateway_is_not_forced_back() -> None:
    one = interface()
    two = with_vias(one, {4: interface(via=["10.9.0.0/30"]).vias[4]})
    theirs = KernelState([Route(HOST, Network.parse("10.77.0.0/16"), one.link, Address.parse("10.100.10.102"), 3, 0)])

    plan = plan_changes(desired(container_with(two)), desired(container_with(one)), theirs)

    assert not any(subject_of(each) in theirs.objects for each in plan.changes)


# --- many --------------------------------------------------------------------------------------------------------


def with_addresses(count: int) -> KernelState:
    draft = interface(via=["10.100.10.100/30", "fd00:1::/126"]).draft()
    for number in range(count):
        draft.assign(InterfaceAddress(4, 0x0102_0000 + number, 32))
    return desired(container_with(interface(via=["10.100.10.100/30", "fd00:1::/126"]).with_draft(draft)))


def calls_in(work: Callable[[], object]) -> int:
    """How many functions are called: a measure of work that no clock disturbs."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("case", ["assign all", "take all", "make the interface", "take it away"])
def test_planning_and_undoing_cost_the_same_for_each_of_many_addresses(case: str) -> None:
    def cost(count: int) -> float:
        many, none = with_addresses(count), with_addresses(0)
        want, have = {
            "assign all": (many, none),
            "take all": (none, many),
            "make the interface": (many, KernelState()),
            "take it away": (KernelState(), many),
        }[case]
        return calls_in(lambda: plan_changes(want, have).undo()) / count

    assert cost(2000) < 1.5 * cost(100)


# --- names -------------------------------------------------------------------------------------------------------


def renamed_pair() -> tuple[KernelState, KernelState]:
    before = container_with(with_address(interface(via=["10.100.10.100/30", "fd00:1::/126"]), parsed("1.2.3.4/32")))
    return desired(before), desired(before.with_renamed_interface("eth0", "lan0"))


def test_a_link_that_is_up_is_renamed_with_all_that_is_on_it() -> None:
    have, want = renamed_pair()

    plan = plan_changes(want, have)

    assert list(plan.lines()) == [(GUEST, "ip link set dev eth0 name lan0")]
    assert list(plan.undo().lines()) == [(GUEST, "ip link set dev lan0 name eth0")]


def test_where_the_kernel_refuses_that_the_link_goes_down_and_gets_back_what_it_lost() -> None:
    have, want = renamed_pair()

    plan = plan_changes(want, have, renames_while_up=False)

    lines = [line for namespace, line in plan.lines() if namespace == GUEST]
    assert len(lines) == len(list(plan.lines()))
    assert lines[:3] == ["ip link set dev eth0 down", "ip link set dev eth0 name lan0", "ip link set dev lan0 up"]
    default = "ip route replace default via 10.100.10.101 dev lan0 proto static src 1.2.3.4"
    assert default in lines[3:]
    assert not any("eth0" in line for line in lines[3:])
    back = [line for _, line in plan.undo().lines()]
    assert back[:3] == ["ip link set dev lan0 down", "ip link set dev lan0 name eth0", "ip link set dev eth0 up"]


def test_what_a_tenant_put_on_a_link_survives_its_new_name() -> None:
    have, want = renamed_pair()
    theirs = KernelState(
        [
            AssignedAddress(GUEST, "eth0", parsed("2001:db8:77::1/64")),
            Route(GUEST, Network.parse("10.77.0.0/16"), "eth0", Address.parse("10.100.10.101"), 3, 0),
        ]
    )

    live = plan_changes(want, have, theirs)
    the_long_way = plan_changes(want, have, theirs, renames_while_up=False)

    assert len(live.changes) == 1
    both = have.with_objects(theirs.objects)
    on_new_name = [msgspec.structs.replace(each, link="lan0") for each in theirs.objects]
    for plan in (live, the_long_way):
        assert pretend(both, plan.changes) == want.with_objects(on_new_name)
        assert pretend(pretend(both, plan.changes), plan.undo().changes) == both


def test_a_name_that_becomes_free_by_another_renaming_is_taken_after_that() -> None:
    one = interface(via=["10.0.0.0/30"])
    two = msgspec.structs.replace(interface(via=["10.0.1.0/30"]), uuid="two", name="eth1", link="osweb01-eth1")
    before = container_with(one, two)
    after = before.with_renamed_interface("eth1", "eth2").with_renamed_interface("eth0", "eth1")

    lines = [line for _, line in plan_changes(desired(after), desired(before)).lines()]

    assert lines == ["ip link set dev eth1 name eth2", "ip link set dev eth0 name eth1"]


# --- text --------------------------------------------------------------------------------------------------------

#: The commands that the documentation of routed veth gives for its example.
PAGE_ON_HOST = (
    "ip addr add 10.100.10.101/30 dev osweb01-eth0",
    "ip route add 1.2.3.4/32 via 10.100.10.102 dev osweb01-eth0",
)
PAGE_IN_CONTAINER = (
    "ip addr add 10.100.10.102/30 dev eth0",
    "ip addr add 1.2.3.4/32 dev eth0",
    "ip route add default via 10.100.10.101 src 1.2.3.4",
)


def are_words_of(line: str, longer: str) -> bool:
    words = iter(longer.split())
    return all(word in words for word in line.split())


def test_the_page_s_example_is_printed_in_its_own_words_and_order() -> None:
    want = desired(container_with(with_address(interface(), parsed("1.2.3.4/32"))))
    printed = list(plan_changes(want, KernelState()).lines())

    for namespace, page in ((HOST, PAGE_ON_HOST), (GUEST, PAGE_IN_CONTAINER)):
        lines = [line for place, line in printed if place == namespace]
        positions = [[at for at, line in enumerate(lines) if are_words_of(expected, line)] for expected in page]
        assert all(len(found) == 1 for found in positions), positions
        assert positions == sorted(positions)


def test_a_new_interface_of_both_versions_is_printed_in_full() -> None:
    one = interface(via=["10.100.10.100/30", "fd00:1::/126"])
    one = with_address(with_address(one, parsed("1.2.3.4/32")), parsed("2001:db8::4/128"))
    one = msgspec.structs.replace(one, mac="02:00:00:00:00:02", host_mac="02:00:00:00:00:01")

    text = plan_changes(desired(container_with(one)), KernelState()).text()

    assert text.splitlines() == [
        "# on the host",
        (
            "ip link add osweb01-eth0 address 02:00:00:00:00:01 mtu 1500 group 111 type veth"
            " peer name eth0 address 02:00:00:00:00:02 mtu 1500 netns web01"
        ),
        "ip link set dev osweb01-eth0 group 111",
        "sysctl -w net.ipv4.conf.osweb01-eth0.forwarding=1",
        "sysctl -w net.ipv4.conf.osweb01-eth0.rp_filter=1",
        "sysctl -w net.ipv4.conf.osweb01-eth0.accept_redirects=0",
        "sysctl -w net.ipv4.conf.osweb01-eth0.send_redirects=0",
        "sysctl -w net.ipv4.conf.osweb01-eth0.promote_secondaries=1",
        "sysctl -w net.ipv6.conf.osweb01-eth0.disable_ipv6=0",
        "sysctl -w net.ipv6.conf.osweb01-eth0.addr_gen_mode=1",
        "sysctl -w net.ipv6.conf.osweb01-eth0.accept_ra=0",
        "sysctl -w net.ipv6.conf.osweb01-eth0.accept_redirects=0",
        "ip link set dev osweb01-eth0 up",
        "nft add element inet osctl private4 '{ 10.100.10.100/30 comment \"10.100.10.100/30 dev osweb01-eth0\" }'",
        "nft add element inet osctl private6 '{ fd00:1::/126 comment \"fd00:1::/126 dev osweb01-eth0\" }'",
        'nft add element inet osctl own \'{ "osweb01-eth0" . "osweb01-eth0" }\'',
        "# in container web01",
        "ip link set dev eth0 up",
        "ip addr add 10.100.10.102/30 brd 10.100.10.103 dev eth0 scope link",
        "ip addr add 1.2.3.4/32 dev eth0",
        "ip addr add fd00:1::2/126 dev eth0 nodad preferred_lft 0",
        "ip addr add 2001:db8::4/128 dev eth0 nodad",
        "ip neigh add 10.100.10.101 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
        "ip neigh add fd00:1::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
        "ip route add default via 10.100.10.101 dev eth0 proto static src 1.2.3.4",
        "ip -6 route add default via fd00:1::1 dev eth0 proto static src 2001:db8::4 metric 16",
        "# on the host",
        "ip addr add fe80::1/64 dev osweb01-eth0 nodad",
        "ip addr add 10.100.10.101/30 brd 10.100.10.103 dev osweb01-eth0",
        "ip addr add fd00:1::1/126 dev osweb01-eth0 nodad",
        "ip neigh add 10.100.10.102 lladdr 02:00:00:00:00:02 dev osweb01-eth0 nud permanent",
        "ip neigh add fd00:1::2 lladdr 02:00:00:00:00:02 dev osweb01-eth0 nud permanent",
        "ip route add 1.2.3.4/32 via 10.100.10.102 dev osweb01-eth0 proto 111",
        "ip -6 route add 2001:db8::4/128 via fd00:1::2 dev osweb01-eth0 proto 111 metric 8",
    ]
    assert text.endswith("\n")


def test_a_wide_via_is_printed_with_its_ends_on_link_and_the_rest_routed() -> None:
    want = desired(container_with(interface(via=["10.0.0.0/24"])))
    lines = [line for namespace, line in plan_changes(want, KernelState()).lines() if namespace == HOST]

    assert lines[-4:] == [
        "ip addr add 10.0.0.1/24 brd 10.0.0.255 dev osweb01-eth0 noprefixroute",
        f"ip neigh add 10.0.0.2 lladdr {interface().mac} dev osweb01-eth0 nud permanent",
        "ip route add 10.0.0.2/32 dev osweb01-eth0 proto 112 scope link",
        "ip route add 10.0.0.0/24 via 10.0.0.2 dev osweb01-eth0 proto 112",
    ]


def test_what_is_removed_and_replaced_is_printed_exactly() -> None:
    one = with_address(interface(), parsed("1.2.3.4/32"))
    have = desired(container_with(one))
    want = desired(container_with(without_address(one, one.addresses[0])))

    assert plan_changes(want, have).text() == (
        "# in container web01\n"
        "ip addr del 10.100.10.102/30 dev eth0\n"
        "ip addr add 10.100.10.102/30 brd 10.100.10.103 dev eth0\n"
        "ip route replace default via 10.100.10.101 dev eth0 proto static src 10.100.10.102\n"
        "# on the host\n"
        "ip route del 1.2.3.4/32 via 10.100.10.102 dev osweb01-eth0 proto 111\n"
        "# in container web01\n"
        "ip addr del 1.2.3.4/32 dev eth0\n"
    )


def test_a_setting_of_a_link_with_a_dot_in_its_name_is_printed_with_slashes() -> None:
    setting = Sysctl(HOST, "ipv4/conf/eth0.100/forwarding", "1", link="eth0.100")
    (change,) = plan_changes(KernelState([setting]), KernelState()).lines()

    assert change == (HOST, "sysctl -w net/ipv4/conf/eth0.100/forwarding=1")


def test_private_networks_that_overlap_make_way_for_each_other_before_anything_else() -> None:
    have = KernelState([private("10.0.0.0/30", "osweb01-eth0"), private("fd00::/127", "osweb01-eth0")])
    want = KernelState([private("10.0.0.0/24", "osweb01-eth0"), private("fd00::/127", "osweb01-eth1")])

    assert [line for _, line in plan_changes(want, have).lines()] == [
        "nft delete element inet osctl private4 '{ 10.0.0.0/30 }'",
        "nft add element inet osctl private4 '{ 10.0.0.0/24 comment \"10.0.0.0/24 dev osweb01-eth0\" }'",
        "nft delete element inet osctl private6 '{ fd00::/127 }'",
        "nft add element inet osctl private6 '{ fd00::/127 comment \"fd00::/127 dev osweb01-eth1\" }'",
    ]


def private(network: str, link: str) -> PrivateNetwork:
    return PrivateNetwork(HOST, link, Network.parse(network))


@given(st.lists(st.tuples(networks(4), st.sampled_from(["os1", "os2"]))), st.lists(networks(4)))
def test_any_private_networks_become_any_others(before: list[tuple[Network, str]], after: list[Network]) -> None:
    have = KernelState(PrivateNetwork(HOST, link, each) for each, link in without_overlaps(before))
    want = KernelState(PrivateNetwork(HOST, "os1", each) for each, _ in without_overlaps((each, "") for each in after))
    kernel = StrictKernel(have, harsh=True)
    plan = plan_changes(want, have)

    kernel.apply(plan)
    assert kernel.state == want

    kernel.apply(plan.undo())
    assert kernel.state == have


#: What nft(8) takes for a source, whether it is the first one of its link or not.
ADDITION = (
    "add set inet osctl sources4_osweb01-eth0 { type ipv4_addr; flags interval; }; "
    "add chain inet osctl sources4_osweb01-eth0; flush chain inet osctl sources4_osweb01-eth0; "
    "add rule inet osctl sources4_osweb01-eth0 ip saddr @sources4_osweb01-eth0 goto permit; "
    'add element inet osctl sources4_by_link { "osweb01-eth0" : jump sources4_osweb01-eth0 }; '
    'add element inet osctl sources4_osweb01-eth0 { 198.51.100.0/24 comment "198.51.100.0/24 dev osweb01-eth0" }'
)


def test_a_source_is_permitted_by_an_element_and_without_the_kernel_s_own_check() -> None:
    before, after = container_with(interface()), container_with(permitting(interface(), "198.51.100.0/24"))

    assert plan_changes(desired(after), desired(before)).text() == (
        f"# on the host\nsysctl -w net.ipv4.conf.osweb01-eth0.rp_filter=0\nnft '{ADDITION}'\n"
    )
    assert plan_changes(desired(before), desired(after)).text() == (
        "# on the host\n"
        "sysctl -w net.ipv4.conf.osweb01-eth0.rp_filter=1\n"
        'nft \'delete element inet osctl sources4_by_link { "osweb01-eth0" }; '
        "flush chain inet osctl sources4_osweb01-eth0; delete chain inet osctl sources4_osweb01-eth0; "
        "delete set inet osctl sources4_osweb01-eth0'\n"
    )


def test_of_sources_inside_each_other_the_widest_is_permitted_in_one_step() -> None:
    narrow = permitting(interface(), "198.51.100.0/25", "203.0.113.0/24")
    wide = permitting(narrow, "198.51.100.0/24")

    plan = plan_changes(desired(container_with(wide)), desired(container_with(narrow)))

    assert [line for _, line in plan.lines()] == [
        "nft delete element inet osctl sources4_osweb01-eth0 '{ 198.51.100.0/25 }'",
        f"nft '{ADDITION}'",
    ]


def permitting(one: RoutedInterface, *networks: str) -> RoutedInterface:
    draft = one.draft()
    for each in networks:
        draft.permit(Network.parse(each), typed=each)
    return one.with_draft(draft)


@given(st.lists(st.tuples(networks(4), st.sampled_from(["os1", "os2"]))), st.lists(networks(4)))
def test_any_sources_become_any_others(before: list[tuple[Network, str]], after: list[Network]) -> None:
    """Two links may have the same ones, or parts of each other's."""
    have = KernelState(
        PermittedSource(HOST, link, each)
        for link in ("os1", "os2")
        for each, _ in without_overlaps(pair for pair in before if pair[1] == link)
    )
    want = KernelState(PermittedSource(HOST, "os1", each) for each, _ in without_overlaps((each, "") for each in after))
    kernel = StrictKernel(have, harsh=True)
    plan = plan_changes(want, have)

    kernel.apply(plan)
    assert kernel.state == want

    kernel.apply(plan.undo())
    assert kernel.state == have


def without_overlaps(chosen: Iterable[tuple[Network, str]]) -> list[tuple[Network, str]]:
    kept: list[tuple[Network, str]] = []
    for network, link in chosen:
        if not any(network.overlaps(other) for other, _ in kept):
            kept.append((network, link))
    return kept


@settings(max_examples=15)
@given(pairs_of_states)
def test_the_printed_text_is_a_shell_script(pair: tuple[KernelState, KernelState]) -> None:
    have, want = with_same_settings(*pair)
    plan = plan_changes(want, have)
    text = plan.text()

    checked = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)

    assert checked.returncode == 0, checked.stderr
    assert all(line.startswith(("# ", "ip ", "sysctl ", "nft ")) for line in text.splitlines())
    assert sum(not line.startswith("# ") for line in text.splitlines()) == len(list(plan.lines()))
