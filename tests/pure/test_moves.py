"""Addresses that go from one interface to another: what goes along, what stays, and that nothing gets lost."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.errors import Refused
from osctld.netif.routed.interface import RoutedInterface
from osctld.netif.routed.move import movable, move
from pure.generated import interface, routed_interfaces
from pure.interface_steps import with_address, with_operator_route

TARGET = interface(via=["172.31.0.0/30", "fd00:77::/126"], name="eth9", container="db")


@given(routed_interfaces(), st.data())
def test_what_moves_is_reached_there_as_it_was_here_and_what_stays_stays(
    source: RoutedInterface, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(movable(source)), unique=True)) if movable(source) else []
    try:
        moved = move(source, TARGET, chosen, is_forced=False)
    except Refused:
        return
    left, there = moved.source, moved.target

    assert [each for each in source.addresses if each in chosen] == list(there.addresses), "in their order"
    assert [each for each in source.addresses if each not in chosen] == list(left.addresses)
    assert {each.packed for each in there.addresses if there.is_routed(each)} == {
        each.packed for each in chosen if source.is_routed(each)
    }
    assert all(left.is_routed(each) for each in left.addresses if source.is_routed(each))
    # Each route is where it was, or there: none twice, none lost but those by which nobody was reached any more.
    before = {each.network: each.is_automatic for each in source.routes}
    here, gone = {each.network for each in left.routes}, {each.network for each in there.routes}
    assert here.isdisjoint(gone)
    assert all(before[each.network] == each.is_automatic for each in there.routes if each.network in before)
    assert all(before[each] for each in before.keys() - here - gone)
    held = [[each.network for claims in one.claims("any") for each in claims] for one in (left, there)]
    assert not [(one, other) for one in held[0] for other in held[1] if one.overlaps(other)], "held once"
    assert {each.next_hop for each in there.routes} <= {None, *(each.address for each in there.addresses)}
    assert {each.next_hop for each in left.routes} <= {None, *(each.address for each in left.addresses)}


@given(routed_interfaces())
def test_all_that_moves_and_comes_back_is_as_it_was(source: RoutedInterface) -> None:
    everything = movable(source)
    assume(len(everything) == len(source.addresses))
    try:
        moved = move(source, TARGET, everything, is_forced=False)
        back = move(moved.target, moved.source, movable(moved.target), is_forced=False)
    except Refused:
        return

    assert back.source == TARGET
    assert back.target.addresses == source.addresses
    # A route that another one of the interface included was no way of its own.
    wide = [each.network for each in back.target.routes]
    assert all(any(around.includes(each.network) for around in wide) for each in source.routes)


def added(*addresses: str, routes: tuple[str, ...] = ()) -> RoutedInterface:
    made = interface()
    for text in routes:
        made = with_operator_route(made, Network.parse(text), typed=text)
    for text in addresses:
        made = with_address(made, InterfaceAddress.parse(text))
    return made


@pytest.mark.parametrize(
    ("source", "chosen", "says"),
    [
        (added("10.5.5.1/24", "10.5.5.2"), "10.5.5.1/24", "10.5.5.1/24: inside 10.5.5.0/24, which stays with eth0"),
        (added("10.5.5.1", "10.5.5.2", routes=("10.5.5.0/24",)), "10.5.5.2", "for 10.5.5.1; --delegate routes it"),
        (added("10.100.10.102"), "10.100.10.102/30", "10.100.10.102 is an end of 10.100.10.100/30"),
    ],
)
def test_what_another_address_needs_stays_unless_forced(source: RoutedInterface, chosen: str, says: str) -> None:
    address = InterfaceAddress.parse(chosen)

    with pytest.raises(Refused) as refused:
        move(source, TARGET, [address], is_forced=False)
    assert says in refused.value.message
    if "end of" in says:
        with pytest.raises(Refused):
            move(source, TARGET, [address], is_forced=True)
        return
    moved = move(source, TARGET, [address], is_forced=True)
    assert [str(each.network) for each in moved.target.routes] == [f"{address.address}/32"]
    assert [str(each.network) for each in moved.source.routes] == ["10.5.5.0/24"]


def test_a_target_without_that_ip_version_refuses() -> None:
    source = with_address(interface(via=["10.100.10.100/30", "fd00:1::/126"]), InterfaceAddress.parse("2001:db8::5"))

    with pytest.raises(Refused, match="not configured for IPv6"):
        move(source, interface(via=["172.31.0.0/30"], name="eth9"), movable(source), is_forced=False)


def test_a_route_goes_with_its_next_hop() -> None:
    source = with_operator_route(
        added("1.2.3.4"), Network.parse("10.7.0.0/16"), typed="x", next_hop=InterfaceAddress.parse("1.2.3.4")
    )

    moved = move(source, TARGET, movable(source), is_forced=False)

    assert [(str(each.network), str(each.next_hop)) for each in moved.target.routes] == [
        ("1.2.3.4/32", "None"), ("10.7.0.0/16", "1.2.3.4"),
    ]  # fmt: skip
    assert len(moved.source.routes) == 0


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_next_hop_stays_whose_network_has_an_address_that_stays(is_forced: bool) -> None:
    # Else the target would route what the source has assigned: two holders of one address.
    source = with_operator_route(
        added("1.2.3.4", "1.2.3.9"), Network.parse("1.2.3.8/29"), typed="x", next_hop=InterfaceAddress.parse("1.2.3.4")
    )

    with pytest.raises(Refused) as refused:
        move(source, TARGET, [InterfaceAddress.parse("1.2.3.4")], is_forced=is_forced)

    assert refused.value.message == ("1.2.3.4: the next hop of 1.2.3.8/29, which stays with eth0 for 1.2.3.9")
    assert len(move(source, TARGET, movable(source), is_forced=is_forced).source.routes) == 0
