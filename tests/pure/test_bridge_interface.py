"""What may be asked of a bridged interface, what the kernel holds for it, and who may hold its addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from osctld import config
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.ct_netif_ip_del import CtNetifIpDel
from osctld.commands.ct_netif_ip_ls import CtNetifIpLs
from osctld.commands.ct_netif_ip_reorder import CtNetifIpReorder
from osctld.commands.ct_netif_route_add import CtNetifRouteAdd
from osctld.commands.ct_netif_set import CtNetifSet
from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.authority.authority import Asking, check, needs_of, released_by
from osctld.core.authority.claims import Claims, ClaimsChange
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use, edges_of, next_hop
from osctld.core.command import EditCommand, Listing, Observed
from osctld.core.config.host import Container, Host, Precedence
from osctld.core.config.settings import Settings
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Conflict, OsctlError, Refused, UsageError
from osctld.core.health.troubles import unrouted_of
from osctld.core.plan.kernel_state import (
    BRIDGE,
    HOST,
    AssignedAddress,
    HostLink,
    KernelState,
    Link,
    Master,
    Route,
    SiblingLinks,
    Sysctl,
    Veth,
    guest,
)
from osctld.netif.bridge.gateways import GatewayChoice
from osctld.netif.bridge.interface import BridgeInterface, new_interface
from osctld.netif.bridge.new import CtNetifNewBridge
from osctld.netif.bridge.request import BridgeRequest
from osctld.protocol.families.netif import NetifCreate, NetifIpAdd, NetifSet
from pure.generated import container_without_interfaces, empty_host, interface
from pure.interface_steps import with_address

INSIDE = guest("web01")
#: br0 is in two networks, and beside it br1 in none; up0 is no bridge.
LINKS = {
    "br0": HostLink(
        "br0", BRIDGE, 1500, (InterfaceAddress.parse("192.168.5.1/24"), InterfaceAddress.parse("2001:db8:5::1/64"))
    ),
    "br1": HostLink("br1", BRIDGE, 1400),
    "up0": HostLink("up0", "veth", 1500),
}


def bridged(
    bridge: str = "br0", name: str = "lan0", *, addresses: tuple[str, ...] = (), **more: Any
) -> BridgeInterface:
    made = new_interface(empty_host(), container_without_interfaces(), name, bridge=bridge)
    made = msgspec.structs.replace(made, **more)
    for each in addresses:
        made = made.with_address(InterfaceAddress.parse(each))
    return made


def having(*interfaces: Any, name: str = "web01") -> Container:
    container = container_without_interfaces(name)
    for each in interfaces:
        container = container.with_new_interface(each)
    return container


def host_of(*containers: Container) -> Host:
    host = empty_host()
    for each in containers:
        host = host.with_container(each)
    return host


def surroundings(host: Host, *networks: HostNetwork) -> Surroundings:
    claims = Claims(claim for each in host.containers.values() for claim in each.claims())
    return Surroundings(claims, HostSpace(networks), host_link=LINKS.get)


def desired(container: Container, links: Mapping[str, HostLink] = LINKS) -> KernelState:
    return container.desired(Settings(), default_mtu=1500, links=links)


def defaults(container: Container, links: Mapping[str, HostLink] = LINKS) -> dict[tuple[str, int], Route]:
    """Default routes inside by link and IP version."""
    return {
        (each.link, each.network.version): each
        for each in desired(container, links).objects
        if isinstance(each, Route) and each.namespace == INSIDE and each.network.is_default
    }


# --- what the kernel holds ---------------------------------------------------------------------------------------


def test_without_addresses_it_is_a_port_and_a_link_inside_and_nothing_else() -> None:
    container = having(bridged())

    objects = list(desired(container).objects)

    (veth,) = (each for each in objects if isinstance(each, Veth))
    assert (veth.master, veth.group, veth.mtu) == (Master("br0", BRIDGE), 112, 1500)
    assert veth.mac.startswith("fe:")
    assert {type(each) for each in objects} == {Veth, Link, Sysctl}
    assert [(each.path.rpartition("/")[2], each.value) for each in objects if isinstance(each, Sysctl)] == [
        ("disable_ipv6", "1")
    ]


def test_static_addresses_are_inside_and_nothing_of_them_is_on_the_host() -> None:
    container = having(bridged(addresses=("192.168.5.10/24", "2001:db8:5::10/64"), dhcp=False))

    state = desired(container)

    inside = [each for each in state.objects if isinstance(each, AssignedAddress)]
    assert [(each.namespace, str(each.address), str(each.broadcast)) for each in inside] == [
        (INSIDE, "192.168.5.10/24", "192.168.5.255"),
        (INSIDE, "2001:db8:5::10/64", "None"),
    ]
    assert not [each for each in state.objects if isinstance(each, Route) and each.namespace == HOST]
    assert {key: (str(each.gateway), str(each.source)) for key, each in defaults(container).items()} == {
        ("lan0", 4): ("192.168.5.1", "192.168.5.10"),
        ("lan0", 6): ("2001:db8:5::1", "2001:db8:5::10"),
    }


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"dhcp": False}, "192.168.5.1"),
        ({"dhcp": True}, None),  # it is told by the server
        ({"dhcp": True, "gateway_v4": Address.parse("192.168.5.254")}, "192.168.5.254"),
        ({"dhcp": False, "gateway_v4": GatewayChoice.NONE}, None),
        ({"dhcp": False, "bridge": "br1"}, None),  # which has no address
    ],
)
def test_the_default_route_leads_to_the_chosen_gateway_or_to_the_bridge(
    more: dict[str, Any], expected: str | None
) -> None:
    container = having(bridged(addresses=("192.168.5.10/24",), **more))

    found = {version: str(each.gateway) for (_, version), each in defaults(container).items()}

    assert found == ({4: expected} if expected else {})


def test_of_several_networks_of_the_bridge_that_of_the_first_address_has_the_gateway() -> None:
    both = tuple(map(InterfaceAddress.parse, ("10.0.0.1/8", "192.168.5.1/24", "192.168.5.2/24")))
    links = {"br0": HostLink("br0", BRIDGE, 1500, both)}

    assert str(defaults(having(bridged(addresses=("192.168.5.10/24",), dhcp=False)), links)["lan0", 4].gateway) == (
        "192.168.5.1"
    )
    assert str(defaults(having(bridged(addresses=("172.16.0.1/16",), dhcp=False)), links)["lan0", 4].gateway) == (
        "10.0.0.1"
    )


@pytest.mark.parametrize(
    ("address", "gateway", "is_onlink"),
    [
        ("203.0.113.5/32", "192.168.5.1", True),
        ("192.168.5.10/24", "192.168.5.254", False),
        ("2001:db8:5::10/64", "fe80::1", False),
        ("2001:db8:9::10/128", "2001:db8:5::1", True),
    ],
)
def test_a_gateway_outside_of_the_addresses_networks_is_said_to_be_on_the_link(
    address: str, gateway: str, is_onlink: bool
) -> None:
    version = 6 if ":" in gateway else 4
    chosen: dict[str, Any] = {f"gateway_v{version}": Address.parse(gateway)}
    lan0 = bridged(addresses=(address,), dhcp=False, **chosen)

    (route,) = defaults(having(lan0)).values()

    assert (str(route.gateway), route.is_onlink) == (gateway, is_onlink)


def test_its_default_routes_come_after_routed_ones_wherever_it_stands_unless_it_was_made_the_default() -> None:
    first = bridged(addresses=("192.168.5.10/24", "2001:db8:5::10/64"), dhcp=False)
    routed = interface(via=["10.100.10.100/30", "fd00:1::/126"], name="eth0")
    container = having(first, routed)
    assert (first.precedence, routed.precedence) == (Precedence.LAST, Precedence.USUAL)

    metrics = {key: each.metric for key, each in defaults(container).items()}
    assert metrics == {("eth0", 4): 0, ("lan0", 4): 100, ("eth0", 6): 16, ("lan0", 6): 116}

    chosen = container.with_interface_first("lan0")
    metrics = {key: each.metric for key, each in defaults(chosen).items()}
    assert metrics == {("lan0", 4): 0, ("eth0", 4): 100, ("lan0", 6): 16, ("eth0", 6): 116}

    again = chosen.with_interface_first("eth0")
    assert {key: each.metric for key, each in defaults(again).items()} == {
        ("eth0", 4): 0, ("lan0", 4): 100, ("eth0", 6): 16, ("lan0", 6): 116,
    }  # fmt: skip


def test_the_source_check_of_routed_links_knows_no_port() -> None:
    container = having(interface(), bridged(), bridged("br1", "lan1"))

    pairs = [each for each in desired(container).objects if isinstance(each, SiblingLinks)]

    link = container.interface("eth0").link
    assert [(each.link, each.sibling) for each in pairs] == [(link, link)]


def test_beside_another_interface_reverse_paths_are_checked_loosely_inside() -> None:
    alone = having(bridged(addresses=("192.168.5.10/24",)))
    beside = having(bridged(addresses=("192.168.5.10/24",)), interface())
    setting = Sysctl(INSIDE, "ipv4/conf/lan0/rp_filter", "2", link="lan0")

    assert setting not in list(desired(alone).objects)
    assert setting in list(desired(beside).objects)


def test_while_the_bridge_is_gone_no_master_is_wanted_and_all_else_stays() -> None:
    container = having(bridged(addresses=("192.168.5.10/24",), dhcp=False))
    gone = {"br0": msgspec.structs.replace(LINKS["br0"], is_there=False)}

    with_it, without = desired(container), desired(container, gone)

    differing = [key for key, each in with_it.items() if without.get(key) != each]
    (veth,) = (each for each in without.objects if isinstance(each, Veth))
    assert (len(with_it), differing, veth.master) == (len(without), [veth.key], None)


def test_an_address_that_another_host_has_for_now_is_not_inside() -> None:
    container = having(bridged(addresses=("192.168.5.10/24", "192.168.5.11/24"), dhcp=False))

    aside = container.with_standby([Network.parse("192.168.5.10/32")])

    inside = [str(each.address) for each in desired(aside).objects if isinstance(each, AssignedAddress)]
    assert inside == ["192.168.5.11/24"]
    assert str(defaults(aside)["lan0", 4].source) == "192.168.5.11"


@pytest.mark.parametrize("mtu", [1279, 1280])
def test_where_the_mtu_is_too_small_for_ipv6_nothing_of_it_is_configured(mtu: int) -> None:
    links = {"br0": msgspec.structs.replace(LINKS["br0"], mtu=mtu)}
    container = having(bridged(addresses=("192.168.5.10/24", "2001:db8:5::10/64"), dhcp=False))

    state = desired(container, links)

    of_ipv6 = [each for each in state.objects if isinstance(each, AssignedAddress) and each.address.version == 6]
    settings = [each for each in state.objects if isinstance(each, Sysctl)]
    assert (len(of_ipv6), len(settings), ("lan0", 6) in defaults(container, links)) == (
        (0, 0, False) if mtu < 1280 else (1, 1, True)
    )


def test_the_guest_s_tool_is_told_the_same_as_the_kernel() -> None:
    lan0 = bridged(addresses=("192.168.5.10/24",), gateway_v4=Address.parse("192.168.5.254"))
    container = having(lan0)

    (told,) = container.inside(Settings(), default_mtu=1500, links=LINKS)

    assert (told.dhcp, told.is_shared, told.mac) == (True, True, lan0.mac)
    assert [str(each.address) for each in told.addresses] == ["192.168.5.10/24"]
    assert [(str(each.gateway), str(each.source)) for each in told.defaults] == [("192.168.5.254", "192.168.5.10")]


# --- commands ----------------------------------------------------------------------------------------------------


def after(command: EditCommand, host: Host, *networks: HostNetwork) -> BridgeInterface:
    edited = command.edit(host, surroundings(host, *networks))
    found = edited.host.container("web01").interface("lan0")
    assert isinstance(found, BridgeInterface)
    return found


@pytest.mark.parametrize(
    ("typed", "assigned"),
    [
        ("192.168.5.10", "192.168.5.10/24"),
        ("192.168.5.10/32", "192.168.5.10/32"),
        ("192.168.6.10", "192.168.6.10/32"),
        ("2001:db8:5::a", "2001:db8:5::a/64"),
        ("2001:db8:6::a", "2001:db8:6::a/128"),
    ],
)
def test_an_address_without_a_prefix_length_has_that_of_the_bridge_s_network(typed: str, assigned: str) -> None:
    host = host_of(having(bridged()))

    found = after(CtNetifIpAdd(container="web01", netif="lan0", addresses=(typed,)), host)

    assert list(map(str, found.addresses)) == [assigned]


def test_addresses_are_added_placed_and_deleted_by_what_a_person_types() -> None:
    host = host_of(having(bridged(addresses=("192.168.5.10/24", "2001:db8:5::10/64", "192.168.5.11/24"))))

    placed = after(CtNetifIpReorder(container="web01", netif="lan0", address="192.168.5.11", first=True), host)
    assert list(map(str, placed.addresses)) == ["192.168.5.11/24", "192.168.5.10/24", "2001:db8:5::10/64"]
    left = after(CtNetifIpDel(container="web01", netif="lan0", addresses=("all",), version=4), host)
    assert list(map(str, left.addresses)) == ["2001:db8:5::10/64"]
    left = after(CtNetifIpDel(container="web01", netif="lan0", addresses=("192.168.5.10",)), host)
    assert list(map(str, left.addresses)) == ["2001:db8:5::10/64", "192.168.5.11/24"]
    again = CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.10",), if_needed=True)
    assert after(again, host) == host.container("web01").interface("lan0")
    rows = CtNetifIpLs(container="web01").view(host, Observed(lives={}, daemon={}))
    assert isinstance(rows, Listing)
    assert [(row["addr"], row["state"]) for row in rows.rows] == [
        ("192.168.5.10/24", "bridged"), ("192.168.5.11/24", "bridged"), ("2001:db8:5::10/64", "bridged"),
    ]  # fmt: skip
    assert "state" not in rows.shown, "it says nothing of itself"


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.10",)), Refused,
         "192.168.5.10/24: this address is already assigned to lan0"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.10/25",)), Refused,
         "192.168.5.10/25: this address is already assigned to lan0 as 192.168.5.10/24"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.0/24",)), Refused,
         "192.168.5.0/24: cannot be assigned, it is the network address of 192.168.5.0/24"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.255/24",)), Refused,
         "192.168.5.255/24 on lan0 is the broadcast address of 192.168.5.0/24"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("2001:db8:5::/64",)), Refused,
         "2001:db8:5::/64: cannot be assigned, it is the subnet-router anycast address of 2001:db8:5::/64"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.9/0",)), Refused,
         "a prefix length of 0 means everything"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("224.0.0.9",)), Refused, "it is a multicast address"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.254",)), Refused,
         "192.168.5.254: assigned to lan0, and cannot be its gateway"),
        (CtNetifIpAdd(container="web01", netif="lan0", addresses=("192.168.5.9",), route_as="192.168.5.0/24"),
         UsageError, "--route-as 192.168.5.0/24: lan0 is a bridge interface, to which nothing is routed"),
        (CtNetifIpDel(container="web01", netif="lan0", addresses=("192.168.5.10/32",)), Refused,
         "192.168.5.10/32: address not found on lan0; it is assigned as 192.168.5.10/24"),
        (CtNetifRouteAdd(container="web01", netif="lan0", networks=("10.5.5.0/24",)), Refused,
         "'lan0' of web01: not a routed interface"),
        (CtNetifSet(container="web01", netif="lan0", gateway_v4="192.168.5.10"), Refused,
         "192.168.5.10: assigned to lan0, and cannot be its gateway"),
        (CtNetifSet(container="web01", netif="lan0", gateway_v4="fe80::1"), Refused,
         "fe80::1: IP version mismatch, expected IPv4"),
        (CtNetifSet(container="web01", netif="lan0", gateway_v6="ff02::1"), Refused,
         "ff02::1: cannot be a gateway, it is a multicast address"),
        (CtNetifSet(container="web01", netif="lan0", gateway_v4="yes"), Refused, "'yes' is not an IP address"),
        (CtNetifSet(container="web01", netif="lan0", mtu="1279"), Refused,
         "MTU 1279: IPv6 requires at least 1280, and lan0 has 2001:db8:5::10/64"),
        (CtNetifSet(container="web01", netif="lan0", mtu="1501"), Refused, "MTU 1501: 'br0' has an MTU of 1500"),
        (CtNetifSet(container="web01", netif="lan0", link="br7"), Refused, "'br7': no such link"),
        (CtNetifSet(container="web01", netif="lan0", link="up0"), Refused,
         "'up0': not a bridge, but a link of the kind veth"),
        (CtNetifSet(container="web01", netif="lan0", via=("10.0.0.0/30",)), UsageError,
         "--via: lan0 is a bridge interface, which does not have this option"),
        (CtNetifNewBridge(container="web01", netif="lan1"), UsageError, "link is required: --link BRIDGE"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_what_was_typed(
    command: EditCommand, error: type[OsctlError], message: str
) -> None:
    lan0 = bridged(
        addresses=("192.168.5.10/24", "2001:db8:5::10/64"), gateway_v4=Address.parse("192.168.5.254"), dhcp=False
    )
    host = host_of(having(lan0))

    with pytest.raises(error) as raised:
        command.edit(host, surroundings(host))

    assert type(raised.value) is error
    assert message in raised.value.message


# --- who holds its addresses -------------------------------------------------------------------------------------


def claimed(command: EditCommand, host: Host, *networks: HostNetwork) -> None:
    """Let the authority decide on what a command claims, as the daemon does. Raises Conflict."""
    around = surroundings(host, *networks)
    edited = command.edit(host, around)
    before, then = host.container(edited.container), edited.host.container(edited.container)
    assert isinstance(around.holdings, Claims)
    asking = Asking(
        ClaimsChange.between(before.claims(), then.claims()),
        delegates=edited.is_delegation_allowed, overlaps_host=edited.is_overlap_allowed,
    )  # fmt: skip
    check(asking, holdings=around.holdings, space=around.networks)


def add(address: str, *, netif: str = "lan0", container: str = "web01", **more: Any) -> CtNetifIpAdd:
    return CtNetifIpAdd(container=container, netif=netif, addresses=(address,), **more)


def other(*interfaces: Any) -> Container:
    made = having(*interfaces, name="db")
    return msgspec.structs.replace(made, uuid="11111111-2222-4333-8444-555555555555")


def test_an_address_on_a_bridge_is_held_against_who_would_have_it_routed_and_the_other_way_round() -> None:
    on_bridge = host_of(other(bridged(addresses=("10.5.5.7/24",))), having(interface(), bridged("br1")))
    for command in (
        add("10.5.5.7", netif="eth0"),
        CtNetifRouteAdd(container="web01", netif="eth0", networks=("10.5.5.0/24",)),
        CtNetifSet(container="web01", netif="eth0", via=("10.5.5.4/30",)),
    ):
        with pytest.raises(Conflict, match=r"10\.5\.5\.7 is assigned to lan0 of db"):
            claimed(command, on_bridge)

    routed = host_of(other(with_address(interface(), InterfaceAddress.parse("10.5.5.1/24"))), having(bridged()))
    with pytest.raises(Conflict, match=r"10\.5\.5\.7: 10\.5\.5\.0/24 is routed to eth0 of db"):
        claimed(add("10.5.5.7/24"), routed)
    claimed(add("10.5.5.7/24", delegate=True), routed)
    with pytest.raises(Conflict, match=r"10\.5\.5\.1 is assigned to eth0"):
        claimed(add("10.5.5.1/24", delegate=True), routed)


def test_on_one_bridge_an_address_has_one_holder_and_on_another_bridge_it_may_have_another() -> None:
    host = host_of(other(bridged(addresses=("10.5.5.7/24",))), having(bridged(), bridged("br1", "lan1")))

    with pytest.raises(Conflict, match=r"10\.5\.5\.7: 10\.5\.5\.7 is assigned to lan0 of db, on br0"):
        claimed(add("10.5.5.7/16", force=True), host)

    claimed(add("10.5.5.7/24", netif="lan1"), host)


def test_an_interface_that_passes_to_another_bridge_takes_only_what_nobody_has_there() -> None:
    lan0 = bridged("br1", addresses=("10.5.5.7/24",))
    taken = host_of(other(bridged(addresses=("10.5.5.7/24",))), having(lan0))
    free = host_of(other(bridged(addresses=("10.5.5.8/24",))), having(lan0))
    command = CtNetifSet(container="web01", netif="lan0", link="br0", force=True)

    with pytest.raises(Conflict, match=r"10\.5\.5\.7: 10\.5\.5\.7 is assigned to lan0 of db, on br0"):
        claimed(command, taken)

    claimed(command, free)


def test_what_passes_to_another_bridge_is_claimed_there_and_released_here_but_no_other_row() -> None:
    before = having(bridged("br0", addresses=("10.5.5.7/24",)))
    then = having(bridged("br1", addresses=("10.5.5.7/24",)))
    change = ClaimsChange.between(before.claims(), then.claims())

    assert [each.link for each in needs_of(change)] == ["br1"]
    assert [each.link for each in released_by(change)] == ["br0"]
    assert change.regardless_of_links() == ClaimsChange((), ())
    claims = Claims(before.claims())
    claims.update(removed=change.removed, added=change.added)
    assert [each.link for each in claims] == ["br1"]


def connected(text: str, link: str) -> tuple[HostNetwork, ...]:
    network = HostNetwork(Network.parse(text), link)
    return (network, *edges_of(network))


@pytest.mark.parametrize(
    ("address", "more", "message"),
    [
        ("192.168.5.10/24", {}, ""),
        ("172.16.9.9/32", {}, ""),  # a static route by that bridge
        ("192.168.5.1/24", {"force": True}, "192.168.5.1 is an address of the host, on br0"),
        ("192.168.5.0/16", {"force": True}, "192.168.5.0 is the network address of 192.168.5.0/24, on br0"),
        ("192.168.5.254/24", {}, "192.168.5.254 is the next hop of the host's default route, on br0; --overlap-host"),
        ("192.168.5.254/24", {"overlap_host": True}, ""),
        ("192.0.2.9/24", {}, "192.0.2.9: 192.0.2.0/24 is in use on the host, on up0; --overlap-host permits it"),
        ("192.0.2.9/24", {"overlap_host": True}, ""),
        ("10.9.9.9/24", {}, "10.0.0.0/8 is a route of the host (proto static), on up0; --overlap-host permits it"),
    ],
)
def test_the_host_s_networks_by_the_bridge_are_the_container_s_and_others_are_not(
    address: str, more: dict[str, Any], message: str
) -> None:
    host = host_of(having(bridged()))
    space = (
        HostNetwork(Network.parse("192.168.5.1"), "br0", Use.ADDRESS, "192.168.5.1/24"),
        *connected("192.168.5.0/24", "br0"),
        *connected("192.0.2.0/24", "up0"),
        next_hop(Address.parse("192.168.5.254"), "br0", destination=Network(4, 0, 0)),
        HostNetwork(Network.parse("10.0.0.0/8"), "up0", Use.STATIC, "static"),
        HostNetwork(Network.parse("172.16.0.0/12"), "br0", Use.STATIC, "static"),
    )
    command = add(address, **more)

    if not message:
        claimed(command, host, *space)
        return
    with pytest.raises(Conflict) as raised:
        claimed(command, host, *space)
    assert message in raised.value.message


def test_an_address_in_a_network_of_its_old_bridge_does_not_pass_to_another_one_unasked() -> None:
    host = host_of(having(bridged("br0", addresses=("192.168.5.10/24",))))
    command = CtNetifSet(container="web01", netif="lan0", link="br1")

    with pytest.raises(Conflict, match=r"192\.168\.5\.0/24 is in use on the host, on br0; --overlap-host permits it"):
        claimed(command, host, *connected("192.168.5.0/24", "br0"))

    claimed(msgspec.structs.replace(command, overlap_host=True), host, *connected("192.168.5.0/24", "br0"))
    own = HostNetwork(Network.parse("192.168.5.10"), "br1", Use.ADDRESS)
    with pytest.raises(Conflict, match=r"192\.168\.5\.10 is an address of the host, on br1"):
        claimed(msgspec.structs.replace(command, force=True), host, own)


def test_an_address_on_a_bridge_is_not_told_as_unrouted() -> None:
    assert unrouted_of(having(bridged(addresses=("192.168.5.10/24",)))) == ()


# --- documents and the original's protocol -----------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["192.168.5.10/24", "10.0.0.7/32", "2001:db8:5::10/64"]), unique=True),
    st.sampled_from([*GatewayChoice, Address.parse("192.168.5.254")]),
    st.sampled_from([*GatewayChoice, Address.parse("fe80::1")]),
    st.booleans(), st.booleans(), st.none() | st.integers(1280, 1500),
)  # fmt: skip
def test_an_interface_is_read_as_it_was_written(
    addresses: list[str], gateway_v4: Any, gateway_v6: Any, dhcp: bool, is_default: bool, mtu: int | None
) -> None:
    made = bridged(
        addresses=tuple(addresses), gateway_v4=gateway_v4, gateway_v6=gateway_v6, dhcp=dhcp, is_default=is_default,
        mtu=mtu,
    )  # fmt: skip
    container = having(made, interface())

    assert config.decode_container(config.encode_container(container)) == container


def test_a_document_is_plain_text() -> None:
    made = bridged(addresses=("192.168.5.10/24",), gateway_v4=Address.parse("192.168.5.254"), dhcp=False)

    (document,) = config.plain(having(made))["interfaces"]

    assert document == {
        "type": "bridge", "uuid": made.uuid, "name": "lan0", "link": "osweb01-lan0", "mac": made.mac,
        "host_mac": made.host_mac, "bridge": "br0", "dhcp": False, "addresses": ["192.168.5.10/24"],
        "gateway_v4": "192.168.5.254", "gateway_v6": "auto",
    }  # fmt: skip


def test_the_original_s_keys_say_what_the_options_say() -> None:
    host = host_of(having())
    gateways = {"4": "192.168.5.254", "v6": "none"}
    create = NetifCreate(id="web01", name="lan0", type="bridge", link="br0", dhcp=False, gateways=gateways)

    made = after(create, host)
    assert (made.bridge, made.dhcp, str(made.gateway_v4), made.gateway_v6) == (
        "br0", False, "192.168.5.254", GatewayChoice.NONE,
    )  # fmt: skip

    host = host_of(having(made))
    changed = after(NetifSet(id="web01", name="lan0", link="br1", gateways={"4": "auto"}), host)
    assert (changed.bridge, changed.gateway_v4, changed.gateway_v6) == ("br1", GatewayChoice.AUTO, GatewayChoice.NONE)
    # Its client asks for a route with every address, and of a bridged interface nothing comes of that.
    for route in (True, False, "192.168.5.0/24"):
        request = NetifIpAdd(id="web01", name="lan0", addr="192.168.5.10/24", route=route)
        assert list(map(str, after(request, host).addresses)) == ["192.168.5.10/24"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (NetifCreate(id="web01", name="lan1", type="bridge"), "link is required"),
        (NetifCreate(id="web01", name="lan1", type="bridge", link="br0", via={}), "lan1 is a bridge interface: no via"),
        (NetifCreate(id="web01", name="lan1", type="bridge", link="br0", gateways={"5": "auto"}),
         "unsupported IP version '5': expected 4 or 6"),
        (NetifSet(id="web01", name="lan0", gateways={"v4": "2001:db8::1"}), "IP version mismatch, expected IPv4"),
    ],
)  # fmt: skip
def test_keys_that_make_no_sense_are_refused(request_: EditCommand, message: str) -> None:
    host = host_of(having(bridged()))

    with pytest.raises(Refused, match=message):
        request_.edit(host, surroundings(host))


def test_a_change_of_nothing_asks_for_nothing() -> None:
    assert BridgeRequest().to_change(bridged()) == {}
    assert BridgeRequest(gateways={"4": None}).to_change(bridged()) == {}
