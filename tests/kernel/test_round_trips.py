"""What is added, replaced, removed and restored is what is observed, for every kind of kernel object."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from kernel.container_objects import (
    GROUP,
    GUEST,
    GUEST_LINK,
    GUEST_MAC,
    HOST_LINK,
    LINKS,
    PEER,
    VETH,
    errors,
    fresh_host,
    make_links,
    observed,
    plan_of,
)
from kernel.network_namespaces import Host
from osctld.core.address.addresses import BITS, Address, InterfaceAddress, Network
from osctld.core.config.settings import HostSettings, Settings
from osctld.core.plan.changes import Add, Change, Remove, Replace, Restore
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    HostFacts,
    KernelObject,
    KernelState,
    LinkScope,
    Neighbour,
    Route,
    Sysctl,
    Veth,
)
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel.port import Kernel
from osctld.sync.host_look import look_at_host
from pure.generated import near_addresses, networks, versions

pytestmark = pytest.mark.requires_kernel("veth")

places = st.sampled_from([(HOST, HOST_LINK), (GUEST, GUEST_LINK)])
macs = st.integers(0, 0xFFFF_FFFF).map(lambda number: "02:00:" + number.to_bytes(4, "big").hex(":"))


@st.composite
def addresses(draw: st.DrawFn) -> AssignedAddress:
    namespace, link = draw(places)
    version = draw(versions)
    length = draw(st.sampled_from([BITS[version], BITS[version] - 1, BITS[version] - 2, BITS[version] - 8]))
    address = draw(near_addresses(version)).with_length(length)
    has_broadcast = version == 4 and length < 31 and draw(st.booleans())
    broadcast = address.network.last if has_broadcast else None
    return AssignedAddress(namespace, link, address, broadcast, draw(st.booleans()), is_source=draw(st.booleans()))


@st.composite
def on_link_routes(draw: st.DrawFn) -> Route:
    namespace, link = draw(places)
    version = draw(versions)
    network = draw(networks(version))
    metric = draw(st.sampled_from([0, 1, 100]) if version == 4 else st.sampled_from([8, 1024]))
    return Route(namespace, network, link, None, draw(st.sampled_from([4, 111, 112])), metric)


@st.composite
def neighbours(draw: st.DrawFn) -> Neighbour:
    namespace, link = draw(places)
    version = draw(versions)
    return Neighbour(namespace, link, draw(near_addresses(version)), draw(macs))


objects = st.one_of(addresses(), on_link_routes(), neighbours())

#: An address with which IPv4 works on the links, and beside which no other goes.
ANCHORS = (
    AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("192.0.2.1/32")),
    AssignedAddress(GUEST, GUEST_LINK, InterfaceAddress.parse("192.0.2.2/32")),
)


def perform(kernel: Kernel, host: Host, *changes: Change) -> None:
    outcomes = kernel.apply(plan_of(*changes), host.namespaces)
    assert all(each.succeeded for each in outcomes), errors(outcomes)


def state(kernel: Kernel, host: Host) -> KernelState:
    return observed(kernel, host.namespaces, LINKS).without_keys(each.key for each in ANCHORS)


@given(objects)
def test_what_is_added_is_observed_and_what_is_removed_is_not(each: KernelObject) -> None:
    with fresh_host() as (host, kernel):
        make_links(kernel, host.namespaces, *ANCHORS)

        perform(kernel, host, Add(each))
        assert state(kernel, host) == LINKS.with_objects([each])

        perform(kernel, host, Remove(each), Remove(each))
        assert state(kernel, host) == LINKS

        perform(kernel, host, Restore(each), Restore(each))
        assert state(kernel, host) == LINKS.with_objects([each])


@given(objects, st.data())
def test_what_is_replaced_is_observed(each: KernelObject, data: st.DataObject) -> None:
    match each:
        case AssignedAddress():
            length = data.draw(st.sampled_from([24, 25, 32] if each.address.version == 4 else [64, 126, 128]))
            address = each.address if each.address.version == 4 else each.address.address.with_length(length)
            prefix_route = data.draw(st.booleans())
            new: KernelObject = msgspec.structs.replace(each, address=address, has_prefix_route=prefix_route)
        case Route():
            new = msgspec.structs.replace(each, protocol=data.draw(st.sampled_from([4, 111, 112])))
        case Neighbour():
            new = msgspec.structs.replace(each, mac=data.draw(macs))
        case _:
            raise TypeError(each)
    assert new.key == each.key
    with fresh_host() as (host, kernel):
        make_links(kernel, host.namespaces, *ANCHORS, each)

        perform(kernel, host, Replace(each, new))
        assert state(kernel, host) == LINKS.with_objects([new])

        perform(kernel, host, Restore(each))
        assert state(kernel, host).keys() == LINKS.with_objects([each]).keys()


@given(st.lists(st.tuples(st.sampled_from([1280, 1400, 1500, 9000]), st.booleans(), st.integers(1, 200), macs)))
def test_links_take_the_settings_that_they_are_given(steps: list[tuple[int, bool, int, str]]) -> None:
    with fresh_host() as (host, kernel):
        make_links(kernel, host.namespaces)
        outer, inner = VETH, PEER
        for mtu, is_up, group, mac in steps:
            new_outer = msgspec.structs.replace(outer, mtu=mtu, is_up=is_up, group=group, mac=mac)
            new_inner = msgspec.structs.replace(inner, mtu=mtu, is_up=is_up)

            perform(kernel, host, Replace(outer, new_outer), Replace(inner, new_inner))

            outer, inner = new_outer, new_inner
            assert observed(kernel, host.namespaces, LINKS) == KernelState([outer, inner])
        perform(kernel, host, Remove(outer), Remove(outer))
        assert observed(kernel, host.namespaces, LINKS) == KernelState()


def test_settings_are_written_and_read_back(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces)
    path = f"ipv4/conf/{HOST_LINK}/forwarding"
    for value in ("1", "0"):
        setting = Sysctl(HOST, path, value, link=HOST_LINK)
        for change in (Add(setting), Replace(setting, setting), Restore(setting)):
            perform(kernel, host, change)
            assert host.run(f"sysctl -n net.ipv4.conf.{HOST_LINK}.forwarding").strip() == value
            seen = kernel.observe([], {}, sysctls=[path, "ipv4/conf/none/forwarding"])
            assert seen == KernelState([setting])


def test_many_links_are_observed_as_few_are(host: Host, kernel: Kernel) -> None:
    """Few are asked for one by one, many are picked from a dump of all."""
    states: list[KernelObject] = []
    for number in range(20):
        link = f"os{number}"
        address = InterfaceAddress.parse(f"10.0.{number}.1/30")
        states += [
            Veth(HOST, link, f"02:00:00:00:{number:02x}:01", 1500, GROUP, True, GUEST, f"eth{number}", GUEST_MAC),
            AssignedAddress(HOST, link, address),
            AssignedAddress(HOST, link, InterfaceAddress.parse(f"2001:db8:{number}::1/126")),
            Neighbour(HOST, link, Address.parse(f"10.0.{number}.2"), GUEST_MAC),
            Route(HOST, Network.parse(f"1.2.{number}.0/24"), link, Address.parse(f"10.0.{number}.2"), 111, 0),
            Route(HOST, Network.parse(f"2001:db8:1:{number}::/64"), link, Address.parse(f"2001:db8:{number}::2"), 4, 8),
        ]
    outcomes = kernel.apply(plan_changes(KernelState(states), KernelState()), host.namespaces)
    assert set(errors(outcomes)) == {None}
    scopes = [LinkScope(each.namespace, each.name) for each in states if isinstance(each, Veth)]
    scopes += [LinkScope(each.peer_namespace, each.peer_name) for each in states if isinstance(each, Veth)]

    at_once = kernel.observe(scopes, host.namespaces)
    pairs = zip(scopes[:20], scopes[20:], strict=True)
    one_by_one = [kernel.observe([outer, inner], host.namespaces) for outer, inner in pairs]

    assert at_once == KernelState(each for seen in one_by_one for each in seen.objects)
    assert set(states) <= set(at_once.objects)
    assert len(list(kernel.observe_links(link_groups=[GROUP]).objects)) == 20


# --- what leads out ----------------------------------------------------------------------------------------------


def uplink(host: Host, name: str, address: str = "", route: str = "") -> None:
    host.run(f"ip link add {name} mtu 1400 type veth peer name {name}p")
    host.run(f"ip link set {name}p up")
    host.run(f"ip link set {name} up")
    if address:
        host.run(f"ip addr add {address} dev {name} nodad")
    if route:
        version = 6 if ":" in address else 4
        host.run(f"ip -{version} route add {route} dev {name}")


def host_facts(kernel: Kernel, named: Sequence[str] | None) -> HostFacts:
    host = HostSettings(link_group=GROUP, uplinks=None if named is None else tuple(named))
    return look_at_host(kernel, Settings(host=host))


def uplinks(kernel: Kernel, named: Sequence[str] | None = None) -> list[str]:
    return [each.name for each in host_facts(kernel, named).uplinks]


def test_uplinks_carry_a_default_route_of_either_version(host: Host, kernel: Kernel) -> None:
    uplink(host, "up0", "192.0.2.1/24", "default")
    uplink(host, "up1", "2001:db8::1/64", "default")
    uplink(host, "up2", "198.51.100.1/24")

    assert uplinks(kernel) == ["up0", "up1"]
    assert uplinks(kernel, ["up2", "absent"]) == ["up2"]


def test_a_default_route_of_several_next_hops_makes_each_link_an_uplink(host: Host, kernel: Kernel) -> None:
    uplink(host, "up0", "192.0.2.1/24")
    uplink(host, "up1", "198.51.100.1/24")
    host.run("ip route add default nexthop dev up0 nexthop dev up1")

    assert uplinks(kernel) == ["up0", "up1"]


@pytest.mark.parametrize("table", ["main", "100", "5000"])
@pytest.mark.parametrize(
    "route",
    [
        "ip route add default dev up1 metric 7 {}",
        "ip -6 route add default via fe80::9 dev up1 {}",
        "ip route add 203.0.113.0/24 via inet6 fe80::9 dev up1 onlink proto bgp {}",
        "ip -6 route add 2001:db8:9::/48 via fe80::9 dev up1 proto zebra {}",
        "ip route add 203.0.113.0/24 proto bird {} nexthop dev up2 nexthop dev up1",
        "ip -6 route add 2001:db8:9::/48 proto ospf {} nexthop via fe80::9 dev up2 nexthop via fe80::8 dev up1",
    ],
)
def test_a_default_route_of_any_table_or_a_learned_route_makes_an_uplink(
    host: Host, kernel: Kernel, route: str, table: str
) -> None:
    uplink(host, "up0", "192.0.2.1/24", "default")
    uplink(host, "up1")
    uplink(host, "up2")
    others = (f"route add 198.18.{each >> 8}.{each & 255} dev up1 table {table} proto static" for each in range(2000))
    host.run("ip -batch -", stdin="\n".join(others))
    assert uplinks(kernel) == ["up0"]

    host.run(route.format(f"table {table}"))

    expected = ["up0", "up1", "up2"] if "nexthop" in route else ["up0", "up1"]
    assert uplinks(kernel) == expected
    host.run("ip link set up1 down")
    assert "up1" not in uplinks(kernel)


@pytest.mark.parametrize("protocol", ["static", "boot", "dhcp", "redirect", "111", "112"])
def test_what_no_routing_daemon_brought_makes_no_uplink(host: Host, kernel: Kernel, protocol: str) -> None:
    uplink(host, "up0", "192.0.2.1/24", "default")
    uplink(host, "up1", "198.51.100.1/24")
    host.run(f"ip route add 203.0.113.0/24 dev up1 proto {protocol}")
    host.run("ip route add blackhole 203.0.113.0/25 proto bgp")

    assert uplinks(kernel) == ["up0"]
    assert [each.name for each in host_facts(kernel, None).others if not each.name.endswith("p")] == ["up1"]


def test_without_a_default_route_uplinks_are_links_with_a_global_address(host: Host, kernel: Kernel) -> None:
    uplink(host, "up0", "192.0.2.1/24")
    uplink(host, "up1")
    make_links(kernel, host.namespaces, *ANCHORS)

    (seen,) = host_facts(kernel, None).uplinks

    assert (seen.name, seen.mtu) == ("up0", 1400)


@pytest.mark.parametrize("named", [None, ["up0"]])
@pytest.mark.parametrize("accept_ra", [0, 1, 2])
def test_of_every_link_but_ours_it_is_told_what_becomes_of_advertisements(
    host: Host, kernel: Kernel, named: Sequence[str] | None, accept_ra: int
) -> None:
    uplink(host, "up0", "2001:db8::1/64")
    uplink(host, "other")
    make_links(kernel, host.namespaces, *ANCHORS)
    host.run(f"sysctl -w net.ipv6.conf.up0.accept_ra={accept_ra}")
    host.run("sysctl -w net.ipv6.conf.default.accept_ra=2")
    host.run("sysctl -w net.ipv6.conf.other.forwarding=1")
    host.run("ip -6 route add default via 2001:db8::9 dev up0 proto ra metric 1024")

    facts = host_facts(kernel, named)

    told = {each.name: each for each in facts.links if not each.name.endswith("p")}
    assert told.keys() == {"up0", "other"}  # nor the peers, which end in p
    assert (told["up0"].accept_ra, told["up0"].has_ipv6_forwarding) == (accept_ra, False)
    assert (told["other"].accept_ra, told["other"].has_ipv6_forwarding) == (1, True)
    assert (told["up0"].has_advertised_default, told["other"].has_advertised_default) == (True, False)
    assert (facts.default_accept_ra, facts.has_ipv6_default, facts.has_ipv6_forwarding) == (2, True, False)


@pytest.mark.parametrize("ipv6", ["0", "1"])
def test_settings_that_come_with_a_link_are_those_in_its_files(host: Host, kernel: Kernel, ipv6: str) -> None:
    make_links(kernel, host.namespaces)
    names = {
        "ipv4": ["forwarding", "accept_redirects", "send_redirects", "rp_filter", "promote_secondaries"],
        "ipv6": ["forwarding", "accept_ra", "accept_redirects", "addr_gen_mode", "disable_ipv6"],
    }
    paths = [f"{version}/conf/{HOST_LINK}/{name}" for version, each in names.items() for name in each]

    for path in paths:
        for value in ("1", "0", "1") if "disable_ipv6" not in path else (ipv6,):
            host.run(f"sysctl -w net/{path}={value}")
            seen = kernel.observe([LinkScope(HOST, HOST_LINK)], {}, sysctls=paths)

            settings = {each.path: each.value for each in seen.objects if isinstance(each, Sysctl)}
            in_files = host.run(f"sysctl -n {' '.join(f'net/{each}' for each in paths)}").splitlines()
            assert settings == dict(zip(paths, in_files, strict=True))
