"""What may be asked of a routed interface, and what the kernel shall hold for it."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from osctld.core.address.addresses import BITS, Address, InterfaceAddress, Network
from osctld.core.address.via import parse_vias
from osctld.core.authority.claims import ClaimKind
from osctld.core.config.settings import RouteSettings, Settings
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import HOST, AssignedAddress, Link, Neighbour, Route, Veth, guest
from osctld.netif.routed.interface import RoutedInterface
from pure.generated import container_without_interfaces, each_claim, interface, routed_interfaces
from pure.interface_steps import with_address, with_operator_route, with_vias, without_address, without_route

GUEST = guest("web01")


def assign(start: RoutedInterface, *texts: str, route: bool = True, route_as: str | None = None) -> RoutedInterface:
    for text in texts:
        network = Network.parse(route_as) if route_as else None
        start = with_address(start, InterfaceAddress.parse(text), route=route, route_as=network)
    return start


def take(start: RoutedInterface, text: str, *, keep_route: bool = False) -> RoutedInterface:
    return without_address(start, start.assigned(text), keep_route=keep_route)


def route(start: RoutedInterface, text: str) -> RoutedInterface:
    return with_operator_route(start, Network.parse(text), typed=text)


def routes(of: RoutedInterface) -> list[str]:
    return [f"{each.network}{'' if each.is_automatic else ' operator'}" for each in of.routes]


def addresses(of: RoutedInterface) -> list[str]:
    return [str(each) for each in of.addresses]


#: eth0 of web01 with 10.100.10.100/30, and with a wide public via.
NARROW = interface(via=["10.100.10.100/30", "fd00:1::/126"])
WIDE = interface(via=["10.0.0.0/24", "fd00:1::/64"])


# --- ip add ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "assigned", "routed"),
    [
        ("1.2.3.4", "1.2.3.4/32", "1.2.3.4/32"),
        ("1.2.3.4/32", "1.2.3.4/32", "1.2.3.4/32"),
        ("10.5.5.1/24", "10.5.5.1/24", "10.5.5.0/24"),
        ("2001:db8::4", "2001:db8::4/128", "2001:db8::4/128"),
        ("2001:db8::4/64", "2001:db8::4/64", "2001:db8::/64"),
    ],
)
def test_an_address_gets_a_route_for_its_network(address: str, assigned: str, routed: str) -> None:
    after = assign(NARROW, address)

    assert (addresses(after), routes(after)) == ([assigned], [routed])


@pytest.mark.parametrize("present", ["10.5.5.0/24", "10.5.0.0/16"])
def test_an_address_whose_network_is_routed_here_already_gets_no_route(present: str) -> None:
    assert routes(assign(route(NARROW, present), "10.5.5.1/24")) == [f"{present} operator"]
    assert routes(assign(route(NARROW, present), "10.5.5.1", "10.5.5.2")) == [f"{present} operator"]


def test_a_route_that_includes_the_address_but_not_its_network_is_not_enough() -> None:
    assert routes(assign(route(NARROW, "10.5.5.0/28"), "10.5.5.1/24")) == ["10.5.5.0/28 operator", "10.5.5.0/24"]


def test_an_address_of_the_own_via_needs_no_route() -> None:
    after = assign(WIDE, "10.0.0.7", "10.0.0.8/24", "fd00:1::7")

    assert routes(after) == []
    assert all(after.is_routed(each) for each in after.addresses)


def test_without_a_route_an_address_is_unrouted() -> None:
    after = assign(NARROW, "1.2.3.4", route=False)

    assert routes(after) == []
    assert not after.is_routed(after.addresses[0])
    assert [str(each) for each in each_claim(after.claims("web01")) if each.kind is ClaimKind.ADDRESS] == [
        "1.2.3.4 is assigned to eth0 of web01"
    ]


def test_another_network_can_be_routed_instead() -> None:
    after = assign(NARROW, "10.5.5.1", route_as="10.5.5.0/29")

    assert (addresses(after), routes(after)) == (["10.5.5.1/32"], ["10.5.5.0/29"])
    assert routes(assign(after, "10.5.5.2", route_as="10.5.5.0/30")) == ["10.5.5.0/29"]
    assert routes(assign(NARROW, "10.5.5.1", route=False, route_as="10.5.5.0/29")) == ["10.5.5.0/29"]


REFUSED_ADDRESSES = [
    ("0.0.0.0", None, "unspecified"),
    ("127.0.0.1", None, "loopback"),
    ("224.0.0.1", None, "multicast"),
    ("255.255.255.255", None, "broadcast"),
    ("::", None, "unspecified"),
    ("::1", None, "loopback"),
    ("ff02::1", None, "multicast"),
    ("::ffff:102:304", None, "IPv4-mapped"),
    ("169.254.1.1", None, "link-local"),
    ("fe80::5", None, "link-local"),
    ("1.2.3.4/0", None, "everything"),
    ("2001:db8::4/0", None, "everything"),
    ("10.100.10.101", None, "host's address in 10.100.10.100/30"),
    ("10.100.10.101/30", None, "host's address"),
    ("fd00:1::1", None, "host's address"),
    ("10.100.10.100", None, "network address of 10.100.10.100/30"),
    ("10.100.10.103", None, "broadcast address of 10.100.10.100/30"),
    ("fd00:1::", None, "anycast"),
    ("10.100.0.1/16", None, "contains the host address 10.100.10.101"),
    ("1.2.3.4", "1.2.4.0/24", "does not include"),
    ("1.2.3.4", "2001:db8::/64", "version mismatch"),
    ("2001:db8::4", "1.2.3.0/24", "version mismatch"),
    ("1.2.3.4", "0.0.0.0/0", "default route"),
    ("10.5.5.1", "10.0.0.0/8", "contains the host address"),
]


@pytest.mark.parametrize(("address", "route_as", "why"), REFUSED_ADDRESSES)
def test_an_address_that_makes_no_sense_is_refused_and_quoted(address: str, route_as: str | None, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        assign(NARROW, address, route_as=route_as)

    assert address in refused.value.message


@pytest.mark.parametrize("again", ["1.2.3.4", "1.2.3.4/32", "1.2.3.4/24"])
def test_an_address_is_assigned_once_whatever_its_prefix_length(again: str) -> None:
    with pytest.raises(Refused, match=r"1\.2\.3\.4.*: this address is already assigned to eth0"):
        assign(NARROW, "1.2.3.4/32", again)


def test_an_address_of_a_version_without_via_is_refused() -> None:
    with pytest.raises(Refused, match="2001:db8::4: network interface not configured for IPv6"):
        assign(interface(via=["10.100.10.100/30"]), "2001:db8::4")
    with pytest.raises(Refused, match=r"1\.2\.3\.4: network interface not configured for IPv4"):
        assign(interface(via=["fd00:1::/126"]), "1.2.3.4")


# --- the container end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["10.100.10.102", "10.100.10.102/30", "10.100.10.102/32"])
def test_the_container_end_can_be_given_a_place_and_taken_from_it_but_never_leaves_the_link(typed: str) -> None:
    start = assign(NARROW, "1.2.3.4")
    placed = assign(start, typed)

    assert [str(each) for each in start.all_addresses(4)] == ["10.100.10.102/30", "1.2.3.4/32"]
    assert [str(each) for each in placed.all_addresses(4)] == ["1.2.3.4/32", "10.100.10.102/30"]
    assert routes(placed) == routes(start)
    assert take(placed, typed) == start
    with pytest.raises(Refused, match="already assigned"):
        assign(placed, "10.100.10.102/31")


def test_a_placed_container_end_follows_the_via() -> None:
    placed = assign(NARROW, "1.2.3.4", "10.100.10.102", "1.2.3.5")

    moved = with_vias(placed, parse_vias(["10.9.0.0/24"]))

    assert addresses(moved) == ["1.2.3.4/32", "10.9.0.2/24", "1.2.3.5/32"]


# --- ip del ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["10.5.5.1", "10.5.5.1/24"])
def test_an_address_takes_its_route_along(typed: str) -> None:
    assert take(assign(NARROW, "10.5.5.1/24"), typed) == NARROW


def test_a_route_goes_with_the_last_address_that_needs_it() -> None:
    both = assign(NARROW, "10.5.5.1/24", "10.5.5.2/24")

    assert routes(take(both, "10.5.5.1")) == ["10.5.5.0/24"]
    assert take(take(both, "10.5.5.1"), "10.5.5.2") == NARROW


def test_a_route_of_another_stays_only_while_it_is_needed() -> None:
    both = assign(NARROW, "10.5.5.2/32", "10.5.5.1/24")

    assert routes(both) == ["10.5.5.2/32", "10.5.5.0/24"]
    assert routes(take(both, "10.5.5.1")) == ["10.5.5.2/32"]
    assert routes(take(both, "10.5.5.2")) == ["10.5.5.0/24"]


def test_a_route_can_be_kept_and_is_the_operator_s_then() -> None:
    kept = take(assign(NARROW, "10.5.5.1/24"), "10.5.5.1", keep_route=True)

    assert routes(kept) == ["10.5.5.0/24 operator"]
    assert routes(take(assign(kept, "10.5.5.9"), "10.5.5.9")) == ["10.5.5.0/24 operator"]


def test_a_route_that_came_with_another_address_is_not_kept_beyond_that() -> None:
    both = assign(NARROW, "10.5.5.2/32", "10.5.5.1/24")

    left = take(both, "10.5.5.2", keep_route=True)

    assert routes(left) == ["10.5.5.2/32 operator", "10.5.5.0/24"]
    assert routes(take(left, "10.5.5.1")) == ["10.5.5.2/32 operator"]
    assert routes(take(assign(NARROW, "10.5.5.1/24", "10.5.5.2/24"), "10.5.5.1", keep_route=True)) == [
        "10.5.5.0/24 operator"
    ]


def test_a_route_of_the_operator_stays() -> None:
    assert routes(take(assign(route(NARROW, "10.5.5.0/24"), "10.5.5.1"), "10.5.5.1")) == ["10.5.5.0/24 operator"]


@pytest.mark.parametrize("typed", ["1.2.3.5", "1.2.3.4/24", "2001:db8::1", "bogus", ""])
def test_an_address_that_is_not_there_cannot_be_taken_away(typed: str) -> None:
    with pytest.raises(Refused, match=r"address not found on eth0|is not an IP address") as refused:
        take(assign(NARROW, "1.2.3.4"), typed)

    assert typed in refused.value.message


@given(routed_interfaces())
def test_with_all_addresses_go_all_automatic_routes_and_those_whose_next_hop_they_were(start: RoutedInterface) -> None:
    left = start
    for each in start.addresses:
        left = without_address(left, each)

    assert left.addresses == ()
    assert tuple(left.routes) == tuple(each for each in start.routes if not each.is_automatic and each.next_hop is None)


@given(routed_interfaces())
def test_every_address_that_came_with_a_route_is_routed_as_long_as_nobody_takes_the_route(
    start: RoutedInterface,
) -> None:
    for gone in start.addresses:
        left = without_address(start, gone)
        assert all(left.is_routed(each) for each in left.addresses if start.is_routed(each))


# --- route add, route del ----------------------------------------------------------------------------------------


def test_host_bits_are_dropped() -> None:
    assert routes(route(NARROW, "10.5.5.7/24")) == ["10.5.5.0/24 operator"]


def test_an_automatic_route_becomes_the_operator_s_without_any_other_change() -> None:
    before = assign(NARROW, "1.2.3.4")
    after = route(before, "1.2.3.4")

    assert routes(after) == ["1.2.3.4/32 operator"]
    assert desired(after) == desired(before)
    assert routes(take(after, "1.2.3.4")) == ["1.2.3.4/32 operator"]


def test_a_wider_network_is_routed_beside_automatic_ones() -> None:
    assert routes(route(assign(NARROW, "10.5.5.1"), "10.5.5.0/24")) == ["10.5.5.1/32", "10.5.5.0/24 operator"]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("10.5.5.0/24", "this address is already routed to eth0$"),
        ("10.5.5.9/24", "already routed to eth0$"),
        ("10.5.5.128/25", "already routed to eth0, inside 10.5.5.0/24"),
        ("10.100.10.100/30", "already routed"),
        ("10.100.10.103", "already routed to eth0, inside 10.100.10.100/30"),
        ("0.0.0.0/0", "default route"),
        ("::/0", "default route"),
        ("10.100.0.0/16", "contains the host address"),
        ("10.100.7.7/16", "contains the host address"),
        ("fd00::/8", "contains the host address"),
        ("127.0.0.0/8", "loopback"),
        ("224.0.0.0/24", "multicast"),
        ("169.254.9.0/24", "link-local"),
        ("fe80::/64", "link-local"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("bogus", "not an IP network"),
    ],
)
def test_a_network_that_makes_no_sense_is_refused_and_quoted(typed: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        route(route(NARROW, "10.5.5.0/24"), typed)

    assert typed in refused.value.message


def test_a_network_of_a_version_without_via_is_refused() -> None:
    with pytest.raises(Refused, match="2001:db8::/64: network interface not configured for IPv6"):
        route(interface(via=["10.100.10.100/30"]), "2001:db8::/64")


def test_a_route_that_is_not_there_cannot_be_deleted() -> None:
    with pytest.raises(Refused, match=r"10\.5\.0\.0/16: route not found on eth0"):
        without_route(route(NARROW, "10.5.5.0/24"), Network.parse("10.5.0.0/16"), typed="10.5.0.0/16")


def test_a_route_under_an_assigned_address_is_not_deleted_unless_another_is_there() -> None:
    before = assign(route(NARROW, "10.5.5.0/24"), "10.5.5.1", "10.5.5.2/24")
    after = without_route(before, Network.parse("10.5.5.0/24"), typed="10.5.5.0/24")

    with pytest.raises(Refused, match=r"^10\.5\.5\.0/24: .* 10\.5\.5\.1, 10\.5\.5\.2/24 would be .*--leave-unrouted"):
        after.check_still_routed(before, typed="10.5.5.0/24")

    wider = route(before, "10.5.0.0/16")
    without_route(wider, Network.parse("10.5.5.0/24"), typed="x").check_still_routed(wider, typed="x")


# --- source ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "source"),
    [
        (NARROW, "10.100.10.102"),
        (assign(NARROW, "1.2.3.4", "1.2.3.5"), "1.2.3.4"),
        (assign(assign(NARROW, "1.2.3.4", route=False), "1.2.3.5"), "1.2.3.5"),
        (assign(NARROW, "1.2.3.4", route=False), "10.100.10.102"),
        (assign(NARROW, "10.100.10.102", "1.2.3.4"), "1.2.3.4"),  # a private end is no source for the world
        (assign(WIDE, "10.0.0.7", "1.2.3.4"), "10.0.0.7"),
        (assign(WIDE, "10.0.0.2", "1.2.3.4"), "10.0.0.2"),  # a public one is, where it was placed
        (assign(WIDE, "1.2.3.4", "10.0.0.2"), "1.2.3.4"),
        (assign(NARROW, "2001:db8::4"), "10.100.10.102"),
    ],
)
def test_the_source_is_the_first_address_that_the_world_can_answer(start: RoutedInterface, source: str) -> None:
    assert str(start.source(4)) == source


# --- set ---------------------------------------------------------------------------------------------------------


def test_versions_that_are_not_named_stay() -> None:
    moved = with_vias(NARROW, parse_vias(["10.9.0.0/30"]))

    assert moved.vias[6] == NARROW.vias[6]
    assert str(moved.vias[4].network) == "10.9.0.0/30"


def test_an_address_that_loses_its_network_gets_a_route_and_gives_it_back() -> None:
    inside = assign(WIDE, "10.0.0.7", "10.0.0.8/24")

    outside = with_vias(inside, parse_vias(["10.9.0.0/30"]))

    assert routes(outside) == ["10.0.0.7/32", "10.0.0.8/32"]
    assert with_vias(outside, parse_vias(["10.0.0.0/24"])) == inside


def test_an_address_that_was_unrouted_stays_so() -> None:
    assert routes(with_vias(assign(NARROW, "1.2.3.4", route=False), parse_vias(["10.9.0.0/30"]))) == []


@pytest.mark.parametrize(
    ("start", "via", "why"),
    [
        (
            route(NARROW, "10.9.0.0/16"),
            "10.9.0.0/30",
            "its end 10.9.0.1 is inside 10.9.0.0/16, which is routed to eth0",
        ),
        (assign(NARROW, "10.9.0.1"), "10.9.0.0/30", "10.9.0.1 is the host's address in 10.9.0.0/30"),
        (assign(NARROW, "10.9.0.3"), "10.9.0.0/30", "broadcast address of 10.9.0.0/30"),
        (assign(NARROW, "10.9.0.0"), "10.9.0.0/24", "network address of 10.9.0.0/24"),
        (assign(NARROW, "10.9.7.7/16"), "10.9.0.0/24", "which is routed to eth0"),
    ],
)
def test_a_via_that_makes_no_sense_beside_what_is_there_is_refused(start: RoutedInterface, via: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        with_vias(start, parse_vias([via]))

    assert "\n" not in refused.value.message


# --- what the kernel shall hold ----------------------------------------------------------------------------------


def desired(one: RoutedInterface, settings: Settings | None = None, *, default_mtu: int = 1400) -> set[object]:
    container = container_without_interfaces().with_new_interface(one)
    return set(container.desired(settings or Settings(), default_mtu=default_mtu).objects)


def test_an_uplink_too_small_for_ipv6_leaves_it_to_an_interface_that_has_it() -> None:
    for vias, expected in ((NARROW.vias, 1280), ({4: NARROW.vias[4]}, 1000)):
        objects = desired(msgspec.structs.replace(NARROW, vias=vias), default_mtu=1000)
        assert {each.mtu for each in objects if isinstance(each, Veth | Link)} == {expected}


def test_both_ends_of_the_pair_have_the_mtu_that_was_asked_for_or_that_of_the_uplinks() -> None:
    for mtu, expected in ((None, 1400), (9000, 9000)):
        objects = desired(msgspec.structs.replace(NARROW, mtu=mtu))
        assert {each.mtu for each in objects if isinstance(each, Veth | Link)} == {expected}


def test_the_host_end_is_configured_without_any_route() -> None:
    assigned = [each for each in desired(NARROW) if isinstance(each, AssignedAddress)]
    on_host = {str(each.address) for each in assigned if each.namespace == HOST}

    assert on_host == {"fe80::1/64", "10.100.10.101/30", "fd00:1::1/126"}


def test_each_end_knows_the_other_s_mac() -> None:
    known = {(each.namespace, str(each.address), each.mac) for each in desired(NARROW) if isinstance(each, Neighbour)}

    assert known == {
        (HOST, "10.100.10.102", NARROW.mac),
        (HOST, "fd00:1::2", NARROW.mac),
        (GUEST, "10.100.10.101", NARROW.host_mac),
        (GUEST, "fd00:1::1", NARROW.host_mac),
    }


def test_host_routes_are_marked_and_have_their_metric() -> None:
    settings = Settings(routes=RouteSettings(201, 202, 16))
    made = {
        (str(each.network), str(each.gateway), each.protocol, each.metric)
        for each in desired(assign(WIDE, "1.2.3.4", "2001:db8::4"), settings)
        if isinstance(each, Route) and each.namespace == HOST
    }

    assert made == {
        ("1.2.3.4/32", "10.0.0.2", 201, 0),
        ("2001:db8::4/128", "fd00:1::2", 201, 16),
        ("10.0.0.2/32", "None", 202, 0),
        ("10.0.0.0/24", "10.0.0.2", 202, 0),
        ("fd00:1::2/128", "None", 202, 16),
        ("fd00:1::/64", "fd00:1::2", 202, 16),
    }


@given(routed_interfaces())
def test_the_guest_has_a_default_route_of_each_version_from_its_source(one: RoutedInterface) -> None:
    objects = desired(one)
    defaults = {each.network.version: each for each in objects if isinstance(each, Route) and each.namespace == GUEST}
    local = {each.address.address for each in objects if isinstance(each, AssignedAddress) and each.namespace == GUEST}

    assert set(defaults) == set(one.vias)
    for version, default in defaults.items():
        assert default.network.is_default
        assert default.gateway == one.vias[version].host_end
        assert default.source == one.source(version)
        assert default.source in local


@given(routed_interfaces())
def test_the_host_never_resolves_anything_but_the_container_end(one: RoutedInterface) -> None:
    on_host = [each for each in desired(one) if getattr(each, "namespace", None) == HOST]
    on_link = [
        *(each.network for each in on_host if isinstance(each, Route) and each.gateway is None),
        *(
            each.address.network
            for each in on_host
            if isinstance(each, AssignedAddress) and each.has_prefix_route and str(each.address) != "fe80::1/64"
        ),
    ]

    assert all(network.size <= 4 for network in on_link)
    known = {each.address for each in on_host if isinstance(each, Neighbour)}
    for each in on_host:
        if isinstance(each, Route) and each.gateway is not None:
            assert each.gateway in known
            assert each.is_onlink == (each.gateway != one.vias[each.network.version].container_end)


@given(routed_interfaces())
def test_what_the_host_sends_to_the_container_is_what_the_interface_claims(one: RoutedInterface) -> None:
    sent = [each.network for each in desired(one) if isinstance(each, Route) and each.namespace == HOST]
    claimed = [each.network for each in each_claim(one.claims("web01")) if each.kind is not ClaimKind.ADDRESS]

    assert all(any(claim.includes(network) for claim in claimed) for network in sent)
    assert {each.network for each in one.routes} <= set(sent)


@given(routed_interfaces())
def test_guest_addresses_have_a_broadcast_address_from_30_bits_on(one: RoutedInterface) -> None:
    for each in desired(one):
        if isinstance(each, AssignedAddress):
            has_broadcast = each.address.version == 4 and each.address.length <= 30
            assert (each.broadcast is not None) == has_broadcast
            assert each.broadcast in (None, each.address.network.last)
            assert isinstance(each.address.address, Address)


# --- many at once ------------------------------------------------------------------------------------------------


@given(
    routed_interfaces(),
    st.sampled_from([("1.2.3.0", 32), ("10.100.10.64", 32), ("10.100.0.0", 28), ("126.255.255.200", 32), ("0.0.0.0", 8),
                     ("198.18.0.0", 31), ("2001:db8:20::", 128), ("2001:db8:20::", 127), ("fe7f::", 18)]),
    st.integers(-70, 70),
    st.sampled_from(["", "twice", "wider", "routed", "inside"]),
)  # fmt: skip
def test_many_networks_are_routed_as_one_after_the_other(
    start: RoutedInterface, place: tuple[str, int], shift: int, oddity: str
) -> None:
    first, length = Address.parse(place[0]), place[1]
    step = 1 << (BITS[first.version] - length)
    first_number = max(0, (first.number >> (BITS[first.version] - length)) + shift) * step
    many = [Network(first.version, first_number + step * number, length) for number in range(70)]
    many = [each for each in many if each.last.number < 1 << BITS[each.version]]
    if oddity == "twice":
        many.insert(30, many[7])
    elif oddity == "wider":
        many.insert(5, many[40].address.with_length(length - 2).network)
    elif oddity == "routed" and start.routes:
        many.insert(12, start.routes[-1].network)
    elif oddity == "inside":
        many.append(many[3].address.with_length(BITS[first.version]).network)

    def at_once() -> RoutedInterface:
        draft = start.draft()
        draft.route_all([str(each) for each in many])
        return start.with_draft(draft)

    def one_by_one() -> RoutedInterface:
        draft = start.draft()
        for each in many:
            draft.route(each, typed=str(each))
        return start.with_draft(draft)

    def what_comes_of(act: Callable[[], RoutedInterface]) -> RoutedInterface | str:
        try:
            return act()
        except Refused as refused:
            return refused.message

    assert what_comes_of(at_once) == what_comes_of(one_by_one)
