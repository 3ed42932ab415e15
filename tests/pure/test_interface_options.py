"""What can be chosen of an interface, and what is chosen when nobody does: MAC addresses, vias, order, names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import assume, given

from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.ct_netif_rename import CtNetifRename
from osctld.commands.ct_netif_set import CtNetifSet
from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.address.hardware_address import complete_mac
from osctld.core.address.network_table import NetworkTable
from osctld.core.address.via import Via
from osctld.core.authority.claims import Claim, ClaimKind, Claims, Holder
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use, is_anybody_s, networks_of_others
from osctld.core.authority.rules import check_others
from osctld.core.config.host import Container, Host
from osctld.core.config.settings import Settings, ViaSettings
from osctld.core.config.surroundings import Surroundings
from osctld.core.config.via_pools import automatic_via, unique_local_network
from osctld.core.errors import Conflict, Refused, Unavailable, UsageError
from osctld.netif.routed.interface import RoutedInterface, routed_interface
from osctld.netif.routed.new import CtNetifNewRouted
from pure.generated import (
    HOST_UUID,
    container_without_interfaces,
    containers,
    grouped,
    interface,
    network_in,
    networks,
    routed_interfaces,
    versions,
)
from pure.interface_steps import with_address, with_operator_route, without_address, without_route
from pure.surrounded import check_claims, edited

NARROW = interface(via=["10.100.10.100/30", "fd00:1::/126"])


def parsed(*texts: str) -> list[InterfaceAddress]:
    return [InterfaceAddress.parse(text) for text in texts]


# --- MAC addresses ------------------------------------------------------------------------------------------------

_DIGITS = st.sampled_from("0123456789abcdefABCDEFxxxxxxxxX")
#: The second digit, of which one bit says that an address is a multicast one.
_EVEN_DIGITS = st.sampled_from("02468aceACExxxxX")


@given(st.tuples(_DIGITS, _EVEN_DIGITS, *[_DIGITS] * 10), st.uuids(), st.uuids())
def test_a_mac_address_keeps_the_digits_that_were_given_and_is_a_unicast_one(
    digits: Sequence[str], one: object, other: object
) -> None:
    pattern = ":".join("".join(digits[index : index + 2]) for index in range(0, 12, 2))
    assume(set(pattern) > set("0:"))

    mac = complete_mac(pattern, interface_uuid=str(one))

    assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)
    assert all(given in ("x", made) for given, made in zip(pattern.lower(), mac, strict=True))
    assert int(mac[:2], 16) & 1 == 0
    assert digits[1] not in "xX" or int(mac[:2], 16) & 2, "where there is a choice, it is a local one"
    assert complete_mac(pattern.upper(), interface_uuid=str(one)) == mac
    if pattern.lower().count("x") == 12 and one != other:
        assert complete_mac(pattern, interface_uuid=str(other)) != mac


@pytest.mark.parametrize(
    "pattern", ["", "-", "02:00:00:00:00", "02:00:00:00:00:00:00", "020000000001", "0g:00:00:00:00:01", "2:0:0:0:0:1"]
)
def test_what_is_no_mac_address_is_refused_and_quoted(pattern: str) -> None:
    with pytest.raises(Refused, match=re.escape(repr(pattern))):
        complete_mac(pattern, interface_uuid=HOST_UUID)


@pytest.mark.parametrize("pattern", ["01:xx:xx:xx:xx:xx", "xf:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"])
def test_a_multicast_address_is_refused(pattern: str) -> None:
    with pytest.raises(Refused, match="multicast"):
        complete_mac(pattern, interface_uuid=HOST_UUID)


def test_both_ends_cannot_have_one_mac_address() -> None:
    with pytest.raises(Refused, match="host end of eth0"):
        NARROW.with_mac(NARROW.host_mac)


# --- networks by what they include --------------------------------------------------------------------------------


@given(versions.flatmap(lambda version: st.tuples(st.sets(networks(version), max_size=20), networks(version))))
def test_an_index_finds_what_includes_a_network_the_widest_first(found: tuple[set[Network], Network]) -> None:
    present, asked = found
    expected = sorted((each for each in present if each.includes(asked)), key=lambda each: each.length)

    index: NetworkTable[int] = NetworkTable()
    for number, each in enumerate(present):
        index.put(each.packed, number)

    assert list(index.including(asked)) == [each.packed for each in expected]
    assert index.widest(asked) == (expected[0] if expected else None)
    for each in present:
        index.pop(each.packed)
    assert index.widest(asked) is None


# --- automatic vias -----------------------------------------------------------------------------------------------

_POOL = Network.parse("10.77.0.0/27")


def pool_host(*, reserved: Sequence[Network] = ()) -> Host:
    return Host(HOST_UUID, Settings(via=ViaSettings(ipv4_pools=(str(_POOL),), reserved=tuple(map(str, reserved)))))


def pool_surroundings(*, held: Sequence[Network] = (), used: Sequence[Network] = ()) -> Surroundings:
    holder = Holder("other", "eth0")
    return Surroundings(
        Claims(grouped(Claim(each, ClaimKind.ROUTE, holder) for each in sorted(set(held)))),
        HostSpace(HostNetwork(each, "up0") for each in used),
    )


_PARTS = st.lists(network_in(Network.parse("10.77.0.0/26"), st.sampled_from([24, 26, 28, 30, 31, 32, 32])), max_size=8)


@given(_PARTS, _PARTS, _PARTS)
def test_an_automatic_network_is_the_first_that_nobody_has_any_part_of(
    held: list[Network], used: list[Network], reserved: list[Network]
) -> None:
    host, surroundings = pool_host(reserved=reserved), pool_surroundings(held=held, used=used)
    taken = [*held, *used, *reserved]
    candidates = [Network(4, _POOL.number + offset, 31) for offset in range(0, _POOL.size, 2)]
    free = [each for each in candidates if not any(each.overlaps(other) for other in taken)]

    if not free:
        with pytest.raises(Unavailable, match=r"via\.ipv4_pools = 10\.77\.0\.0/27"):
            automatic_via(host, surroundings, 4)
        return
    assert automatic_via(host, surroundings, 4).network == free[0]


@given(st.uuids())
def test_a_host_s_own_ipv6_pool_is_a_unique_local_48(uuid: object) -> None:
    pool = unique_local_network(str(uuid))

    assert pool.length == 48
    assert Network.parse("fd00::/8").includes(pool)
    assert unique_local_network(str(uuid)) == pool


def new_host(*names: str) -> Host:
    host = Host(HOST_UUID, Settings())
    for name in names or ("web01",):
        host = host.with_new_container(name, user=None, distribution="busybox", version="stable")
    return host


def eth0(host: Host, container: str = "web01") -> RoutedInterface:
    return routed_interface(host.container(container), "eth0")


def test_two_hundred_interfaces_get_two_hundred_networks_of_each_version() -> None:
    host = new_host()
    for number in range(200):
        host = edited(CtNetifNewRouted(container="web01", netif=f"eth{number}"), host).host

    vias = [via for each in host.container("web01").interfaces for via in routed_interface(
        host.container("web01"), each.name).vias.values()]  # fmt: skip

    assert len(vias) == 400
    assert not any(one.network.overlaps(other.network) for one, other in itertools.combinations(vias, 2))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {4: "169.254.1.0/31", 6: "fd"}),
        ({"via": ("auto",)}, {4: "169.254.1.0/31", 6: "fd"}),
        ({"via": ("auto", "10.0.0.0/30")}, {4: "10.0.0.0/30", 6: "fd"}),
        ({"via": ("fd00:7::/64", "auto")}, {4: "169.254.1.0/31", 6: "fd00:7::/64"}),
        ({"via": ("10.0.0.0/30",)}, {4: "10.0.0.0/30"}),
        ({"no_via": ("6",)}, {4: "169.254.1.0/31"}),
    ],
)
def test_auto_stands_for_the_versions_that_are_not_named(options: dict[str, tuple[str, ...]], expected: object) -> None:
    made = eth0(edited(CtNetifNewRouted(container="web01", netif="eth0", **options), new_host()).host)  # type: ignore[arg-type]

    assert isinstance(expected, dict)
    assert made.vias.keys() == expected.keys()
    assert all(str(made.vias[version].network).startswith(text) for version, text in expected.items())


def test_asking_for_an_automatic_via_again_changes_nothing() -> None:
    host = edited(CtNetifNewRouted(container="web01", netif="eth0"), new_host()).host

    assert edited(CtNetifSet(container="web01", netif="eth0", via=("auto",)), host).host == host


def test_a_via_is_public_as_it_was_asked_for() -> None:
    made = CtNetifNewRouted(container="web01", netif="eth0", via=("10.0.0.0/30", "fd00:7::/64"))
    host = edited(made, new_host()).host
    assert {version: via.is_public for version, via in eth0(host).vias.items()} == {4: False, 6: True}

    for is_public in (True, False):
        host = edited(CtNetifSet(container="web01", netif="eth0", via_public=is_public), host).host
        assert {via.is_public for via in eth0(host).vias.values()} == {is_public}


def test_a_via_stays_private_or_public_while_its_network_stays() -> None:
    private = CtNetifNewRouted(container="web01", netif="eth0", via=("10.0.0.0/24",), via_public=False)
    host = edited(private, new_host()).host

    def with_ends_of(network: str) -> Via:
        ends = (network.replace("0/24", "254"), network.replace("0/24", "1"))
        command = CtNetifSet(container="web01", netif="eth0", via=(network,), host_addr=ends[:1], ct_addr=ends[1:])
        return eth0(edited(command, host).host).vias[4]

    assert not with_ends_of("10.0.0.0/24").is_public
    assert with_ends_of("10.0.1.0/24").is_public


def test_automatic_vias_that_are_there_become_public_when_asked_for_again() -> None:
    host = edited(CtNetifNewRouted(container="web01", netif="eth0"), new_host()).host

    for options, public in (
        ({"via": ("auto",)}, {4: True, 6: True}),
        ({"via": ("auto", "10.0.0.0/30")}, {4: True, 6: True}),
        ({"via": ("auto",), "no_via": ("4",)}, {6: True}),
    ):
        vias = eth0(edited(CtNetifSet(container="web01", netif="eth0", via_public=True, **options), host).host).vias
        assert {version: via.is_public for version, via in vias.items()} == public
        assert vias[6].network == eth0(host).vias[6].network


@pytest.mark.parametrize("network", ["192.0.2.0/24", "192.0.2.128/30", "192.0.0.0/16"])
def test_a_via_that_the_host_uses_is_refused_unless_forced(network: str) -> None:
    uplink = HostNetwork(Network.parse("192.0.2.0/24"), "up0")
    host = new_host()
    refused = edited(CtNetifNewRouted(container="web01", netif="eth0", via=(network,)), host, uplink)
    forced = edited(CtNetifNewRouted(container="web01", netif="eth0", via=(network,), force=True), host, uplink)

    with pytest.raises(Conflict, match=r"192\.0\.2\.0/24 is in use on the host, on up0"):
        check_claims(refused, host, uplink)
    check_claims(forced, host, uplink)


def test_an_address_of_the_host_is_never_taken() -> None:
    address = HostNetwork(Network.parse("192.0.2.1/32"), "up0", Use.ADDRESS)
    host = new_host()
    forced = edited(CtNetifNewRouted(container="web01", netif="eth0", via=("192.0.2.0/30",), force=True), host, address)

    with pytest.raises(Conflict, match=r"192\.0\.2\.1 is an address of the host, on up0"):
        check_claims(forced, host, address)


def test_what_the_host_uses_is_neither_ours_nor_link_local_nor_everything() -> None:
    found = [
        HostNetwork(Network.parse("10.0.0.0/30"), "osweb-eth0"),
        HostNetwork(Network.parse("fe80::/64"), "up0"),
        HostNetwork(Network.parse("0.0.0.0/0"), "up0"),
        HostNetwork(Network.parse("192.0.2.0/24"), "up0"),
    ]

    assert list(networks_of_others(HostSpace(found[:1] + found[3:]), ["osweb-eth0"])) == found[-1:]
    assert [each for each in found if is_anybody_s(each)] == [found[0], found[-1]]
    assert networks_of_others(HostSpace(found[3:]), []) == HostSpace(found[-1:])


# --- addresses taken together -------------------------------------------------------------------------------------


@given(routed_interfaces(), st.data())
def test_taking_addresses_leaves_every_other_one_as_reachable_as_it_was(
    start: RoutedInterface, data: st.DataObject
) -> None:
    gone = data.draw(st.lists(st.sampled_from(start.addresses), unique=True)) if start.addresses else []
    draft = start.draft()

    broken = draft.take(gone)

    left = start.with_draft(draft)
    assert left.addresses == tuple(each for each in start.addresses if each not in gone)
    assert all(left.is_routed(each) for each in left.addresses if start.is_routed(each))
    assert {each.next_hop for each in broken} <= {each.address for each in gone}
    assert not {each.next_hop for each in left.routes} & {each.address for each in gone}
    operators = {each for each in start.routes if not each.is_automatic and each not in broken}
    assert operators <= set(left.routes)


@given(routed_interfaces())
def test_an_automatic_route_that_nobody_needs_goes_with_its_address(start: RoutedInterface) -> None:
    for gone in start.addresses:
        left = without_address(start, gone)
        for route in left.routes:
            if route.is_automatic and route.network.includes(gone):
                without = without_route(left, route.network, typed="x")
                assert any(left.is_routed(each) and not without.is_routed(each) for each in left.addresses)


@given(routed_interfaces(), st.data())
def test_a_new_place_changes_the_order_and_nothing_else(start: RoutedInterface, data: st.DataObject) -> None:
    for text in ("192.0.2.77/32", "192.0.2.78/32", "2001:db8:77::7/128", "2001:db8:77::8/128"):
        address = InterfaceAddress.parse(text)
        if address.version in start.vias:
            start = with_address(start, address, route=False)
    moved, before = data.draw(st.permutations(start.addresses))[:2]
    draft = start.draft()
    draft.place(moved, before=before)

    after = start.with_draft(draft)

    order = list(after.addresses)
    assert order.index(moved) == order.index(before) - 1
    assert [each for each in order if each != moved] == [each for each in start.addresses if each != moved]
    assert (after.routes, after.vias) == (start.routes, start.vias)
    draft.place(moved, before=None)
    assert draft.addresses[0] == moved


# --- vias taken away, next hops -----------------------------------------------------------------------------------


@given(routed_interfaces(), versions)
def test_a_via_goes_only_when_nothing_of_its_version_is_left(start: RoutedInterface, version: int) -> None:
    assume(version in start.vias)
    draft = start.draft()
    present = {each.version for each in start.addresses} | {each.network.version for each in start.routes}
    present |= {each.version for each in start.sources}

    if version in present:
        why = f"expected network for IPv{version}, there are (routes|addresses|sources) present"
        with pytest.raises(Refused, match=why):
            draft.remove_via(version)
    else:
        draft.remove_via(version)
        assert draft.vias.keys() == start.vias.keys() - {version}


def test_routes_go_with_their_next_hop_and_addresses_that_they_led_to_stay_routed() -> None:
    start = with_address(NARROW, parsed("1.2.3.4")[0])
    start = with_operator_route(start, Network.parse("10.5.5.0/24"), typed="x", next_hop=start.next_hop("1.2.3.4"))
    start = with_address(start, parsed("10.5.5.7")[0])
    draft = start.draft()

    broken = draft.take(parsed("1.2.3.4/32"))

    assert [str(each.network) for each in broken] == ["10.5.5.0/24"]
    assert [(str(each.network), each.is_automatic) for each in draft.routes] == [("10.5.5.7/32", True)]


def test_the_container_end_as_next_hop_is_the_default() -> None:
    hop = NARROW.next_hop("10.100.10.102")

    assert with_operator_route(NARROW, Network.parse("10.5.5.0/24"), typed="x", next_hop=hop).routes[0].next_hop is None
    with pytest.raises(
        Refused, match=r"10\.100\.10\.101: address not found on eth0; the next hop of a route must be assigned"
    ):
        NARROW.next_hop("10.100.10.101")


# --- MTU ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mtu", "vias", "is_right"), [
    (67, "4", False), (68, "4", True), (1279, "4", True), (65535, "4", True), (65536, "4", False),
    (1279, "6", False), (1280, "6", True), (1279, "46", False), (9000, "46", True),
])  # fmt: skip
def test_an_mtu_is_one_that_the_kernel_keeps_all_versions_with(mtu: int, vias: str, is_right: bool) -> None:
    networks = {"4": "10.100.10.100/30", "6": "fd00:1::/126"}
    one = msgspec.structs.replace(interface(via=[networks[each] for each in vias]), mtu=mtu)

    if is_right:
        one.check_mtu()
    else:
        with pytest.raises(Refused, match=f"MTU {mtu}"):
            one.check_mtu()


def test_ipv6_does_not_come_to_an_interface_with_too_small_an_mtu() -> None:
    host = new_host()
    host = edited(CtNetifNewRouted(container="web01", netif="eth0", via=("10.0.0.0/30",), mtu="600"), host).host

    with pytest.raises(Refused, match="MTU 600: IPv6 requires at least 1280"):
        edited(CtNetifSet(container="web01", netif="eth0", via=("fd00:7::/64",)), host)
    edited(CtNetifSet(container="web01", netif="eth0", via=("fd00:7::/64",), mtu="-"), host)


# --- names and rank -----------------------------------------------------------------------------------------------


@given(containers())
def test_a_renamed_interface_is_the_same_under_another_name(container: Container) -> None:
    assume(container.interfaces)
    old = container.interfaces[-1]
    host = Host(HOST_UUID, Settings(), {container.name: container})

    after = edited(CtNetifRename(container=container.name, netif=old.name, new_name="wan0"), host).host

    new = after.container(container.name).interface("wan0")
    assert new.renamed(old.name) == old
    assert [each.uuid for each in after.container(container.name).interfaces] == [
        each.uuid for each in container.interfaces
    ]
    back = edited(CtNetifRename(container=container.name, netif="wan0", new_name=old.name), after).host
    assert back == host


def test_an_interface_keeps_its_name_when_asked_for_it() -> None:
    container = container_without_interfaces().with_new_interface(NARROW)

    assert container.with_renamed_interface("eth0", "eth0") is container


def test_the_first_interface_is_the_default() -> None:
    host = new_host()
    for name in ("eth0", "eth1", "eth2"):
        host = edited(CtNetifNewRouted(container="web01", netif=name), host).host

    host = edited(CtNetifSet(container="web01", netif="eth2", default=True), host).host

    assert [each.name for each in host.container("web01").interfaces] == ["eth2", "eth0", "eth1"]


def test_nothing_to_set_is_refused() -> None:
    host = edited(CtNetifNewRouted(container="web01", netif="eth0"), new_host()).host

    with pytest.raises(UsageError, match="eth0: nothing to set"):
        edited(CtNetifSet(container="web01", netif="eth0"), host)
    with pytest.raises(UsageError, match="--no-via 4"):
        edited(CtNetifSet(container="web01", netif="eth0", no_via=("4",), via=("10.0.0.0/30",)), host)


def test_set_leaves_out_with_auto_the_version_that_is_not_wanted_as_new_does() -> None:
    host = edited(CtNetifNewRouted(container="web01", netif="eth0", via=("10.0.0.0/30",)), new_host()).host

    changed = edited(CtNetifSet(container="web01", netif="eth0", via=("auto",), no_via=("6",)), host).host

    assert {version: str(via.network) for version, via in eth0(changed).vias.items()} == {4: "169.254.1.0/31"}


# --- delegation ---------------------------------------------------------------------------------------------------


@given(versions.flatmap(lambda version: st.tuples(networks(version), networks(version))))
def test_only_a_part_of_another_s_network_can_be_given_on(pair: tuple[Network, Network]) -> None:
    theirs, asked = pair
    claims = Claims(grouped([Claim(theirs, ClaimKind.ROUTE, Holder("web01", "eth0"))]))
    added = grouped([Claim(asked, ClaimKind.ROUTE, Holder("web02", "eth0"))])

    if not theirs.overlaps(asked) or (theirs.includes(asked) and theirs != asked):
        check_others(claims, removed=[], added=added, is_delegation_allowed=True)
    else:
        with pytest.raises(Conflict, match="is routed to eth0 of web01"):
            check_others(claims, removed=[], added=added, is_delegation_allowed=True)


def test_what_another_uses_itself_is_not_given_on() -> None:
    host = new_host("web01", "web02")
    for name, via in (("web01", "10.0.0.0/24"), ("web02", "10.9.0.0/30")):
        host = edited(CtNetifNewRouted(container=name, netif="eth0", via=(via,)), host).host
    host = edited(CtNetifIpAdd(container="web01", netif="eth0", addresses=("10.5.5.1/24",)), host).host

    def take(address: str) -> Host:
        return edited(CtNetifIpAdd(container="web02", netif="eth0", addresses=(address,), force=True), host).host

    for address, why in (
        ("10.5.5.1", "10.5.5.1 is assigned to eth0 of web01"),
        ("10.0.0.2", "10.0.0.2 is an end of 10.0.0.0/24, the interconnecting network of eth0 of web01"),
    ):
        with pytest.raises(Conflict, match=re.escape(why)):
            take(address)
    given_on = take("10.5.5.2")
    with pytest.raises(Conflict, match=re.escape("10.5.5.2: 10.5.5.2/32 is routed to eth0 of web02")):
        edited(CtNetifIpAdd(container="web01", netif="eth0", addresses=("10.5.5.2",)), given_on)


def test_a_via_does_not_come_to_need_what_was_given_on_of_it() -> None:
    host = new_host("web01", "web02")
    for name, via in (("web01", "10.0.0.0/24"), ("web02", "10.9.0.0/30")):
        host = edited(CtNetifNewRouted(container=name, netif="eth0", via=(via,)), host).host
    host = edited(CtNetifIpAdd(container="web02", netif="eth0", addresses=("10.0.0.77",), force=True), host).host

    def change(**options: Any) -> Host:
        return edited(CtNetifSet(container="web01", netif="eth0", **options), host).host

    given_on = "10.0.0.77/32 is routed to eth0 of web02, but "
    for ends in (("10.0.0.77", "10.0.0.2"), ("10.0.0.1", "10.0.0.77")):
        for named in ((), ("10.0.0.0/24",)):
            with pytest.raises(Conflict, match=re.escape(f"{given_on}10.0.0.77 is an end of 10.0.0.0/24")):
                change(via=named, host_addr=ends[:1], ct_addr=ends[1:])
    with pytest.raises(Conflict, match=re.escape(f"{given_on}is inside 10.0.0.0/24, the private")):
        change(via_public=False)
    assert str(eth0(change(host_addr=("10.0.0.78",), ct_addr=("10.0.0.76",))).vias[4].host_end) == "10.0.0.78"


def test_a_network_that_comes_along_with_an_address_is_none_of_an_uplink() -> None:
    uplink = HostNetwork(Network.parse("192.0.2.0/24"), "up0")
    host = edited(CtNetifNewRouted(container="web01", netif="eth0"), new_host()).host

    command = CtNetifIpAdd(container="web01", netif="eth0", addresses=("192.0.2.77/24",))
    with pytest.raises(Conflict, match=r"assign 192\.0\.2\.77/32 instead"):
        edited(command, host, uplink)
    single = CtNetifIpAdd(container="web01", netif="eth0", addresses=("192.0.2.77/32", "2001:db8::2/128"))
    assert len(eth0(edited(single, host, uplink).host).addresses) == 2


def test_a_network_of_ipv6_is_none_of_an_uplink_whatever_its_prefix_length() -> None:
    uplink = HostNetwork(Network.parse("2001:db8::/31"), "up0")
    host = edited(CtNetifNewRouted(container="web01", netif="eth0"), new_host()).host

    for length in (32, 64, 127):
        command = CtNetifIpAdd(container="web01", netif="eth0", addresses=(f"2001:db8::1/{length}",))
        with pytest.raises(Conflict, match=r"assign 2001:db8::1/128 instead"):
            edited(command, host, uplink)
