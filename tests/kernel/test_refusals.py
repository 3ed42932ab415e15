"""What the kernel refuses: outcomes tell the truth, and what is somebody else's stays as it is."""

from __future__ import annotations

import errno
import socket

import msgspec
import pytest

from kernel.container_objects import (
    GUEST,
    GUEST_LINK,
    GUEST_MAC,
    HOST_LINK,
    LINKS,
    NO_LINK_LOCAL,
    VETH,
    errors,
    make_links,
    observed,
    plan_of,
)
from kernel.network_namespaces import Host
from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.plan.changes import Add, Remove, Replace, Restore
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    KernelObject,
    KernelState,
    Link,
    LinkScope,
    Namespace,
    Neighbour,
    Route,
    Sysctl,
    Veth,
)
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel import port
from osctld.shell.kernel.netlink import NetlinkSocket
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")

VIA = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/30"))


def route(text: str, *, gateway: str | None = "10.0.0.2", protocol: int = 111, metric: int = 0) -> Route:
    network = Network.parse(text)
    return Route(HOST, network, HOST_LINK, Address.parse(gateway) if gateway else None, protocol, metric)


def test_of_one_send_each_change_has_its_own_outcome(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces, VIA)
    routes = [route("1.2.3.1/32"), route("1.2.3.2/32", gateway="10.9.9.9"), route("1.2.3.3/32")]
    setting = Sysctl(HOST, f"ipv4/conf/{HOST_LINK}/forwarding", "1", link=HOST_LINK)

    outcomes = kernel.apply(plan_of(*map(Add, routes), Add(setting)), host.namespaces)

    assert errors(outcomes) == [None, "Network is unreachable: Nexthop has invalid gateway", None, None]
    assert [each.was_tried for each in outcomes] == [True, True, True, False]
    assert [each["dst"] for each in host.ip("route show proto 111")] == ["1.2.3.1", "1.2.3.3"]


def test_a_link_of_others_in_the_way_of_a_new_pair_is_left_alone(host: Host, kernel: Kernel) -> None:
    host.run(f"ip link add {HOST_LINK} type veth peer name other0")
    before = host.dump()

    for change in (Add(VETH), Restore(VETH)):
        (outcome,) = kernel.apply(plan_of(change), host.namespaces)

        assert outcome.errno == errno.EEXIST
        assert host.dump() == before
        assert not host.run(f"ip link show {GUEST_LINK}", GUEST, check=False)


def test_a_link_of_others_in_the_guest_is_in_the_way_too(host: Host, kernel: Kernel) -> None:
    host.run(f"ip link add {GUEST_LINK} type veth peer name other0", GUEST)
    before = host.dump(), host.dump(GUEST)

    (outcome,) = kernel.apply(plan_of(Add(VETH)), host.namespaces)

    assert outcome.error is not None
    assert "File exists" in outcome.error
    assert (host.dump(), host.dump(GUEST)) == before


def test_restoring_a_pair_that_exists_gives_it_its_settings(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces, VIA)
    host.run(f"ip link set {HOST_LINK} mtu 1400 address 02:00:00:00:00:99 group 5 down")

    (outcome,) = kernel.apply(plan_of(Restore(VETH)), host.namespaces)

    assert outcome.error is None
    assert observed(kernel, host.namespaces, LINKS)[VETH.key] == VETH


def test_restoring_a_pair_as_down_sets_it_down(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces)
    down = msgspec.structs.replace(VETH, is_up=False)

    (outcome,) = kernel.apply(plan_of(Restore(down)), host.namespaces)

    assert outcome.error is None
    assert observed(kernel, host.namespaces, LINKS)[VETH.key] == down


def test_a_pair_whose_peer_is_in_another_namespace_is_not_taken_for_ours(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces)
    # The guest moves its end into a container of its own, and makes a pair of the same name and numbers instead.
    index = host.ip(f"link show {GUEST_LINK}", GUEST)[0]["ifindex"]
    outer = host.ip(f"link show {HOST_LINK}")[0]["ifindex"]
    with host.process_in(Namespace("ct:nested")) as nested, host.process_in(Namespace("ct:third")) as third:
        host.run(f"ip link set {GUEST_LINK} netns {nested}", GUEST)
        pair = f"{GUEST_LINK} index {index} address {GUEST_MAC} type veth peer name x index {outer} netns {third}"
        host.run(f"ip link add {pair}", GUEST)

    seen = kernel.observe([LinkScope(HOST, HOST_LINK), LinkScope(GUEST, GUEST_LINK)], host.namespaces)[VETH.key]

    assert isinstance(seen, Veth)
    assert (seen.peer_namespace, seen.peer_name, seen.peer_mac) == ("", "", "")


def test_a_host_link_that_is_no_veth_is_a_plain_link(host: Host, kernel: Kernel) -> None:
    host.run(f"ip link add {HOST_LINK} type bridge")

    (seen,) = kernel.observe([LinkScope(HOST, HOST_LINK)], {}).objects

    assert isinstance(seen, Link)


def test_an_alternative_name_is_in_the_way_as_well(host: Host, kernel: Kernel) -> None:
    host.run("ip link add other0 type bridge")
    host.run(f"ip link property add dev other0 altname {HOST_LINK}")

    (seen,) = kernel.observe([LinkScope(HOST, HOST_LINK)], {}).objects

    assert seen.key == VETH.key


def test_a_route_on_a_link_that_is_gone_touches_no_route_of_another_link(host: Host, kernel: Kernel) -> None:
    """Without its device the message would mean a route on any."""
    make_links(kernel, host.namespaces, VIA)
    ours = msgspec.structs.replace(route("1.2.3.4/32"), link="osgone")
    host.run(f"ip route add 1.2.3.4/32 via 10.0.0.2 dev {HOST_LINK} proto 111")

    assert errors(kernel.apply(plan_of(Remove(ours)), {})) == [None]
    assert errors(kernel.apply(plan_of(Add(ours), Add(VETH)), {})) == ["No such device: no link 'osgone'", None]

    assert len(host.ip("route show 1.2.3.4/32")) == 1


@pytest.mark.parametrize(
    "other",
    [
        f"1.2.3.4/32 via 10.0.0.2 dev {HOST_LINK} proto 4",
        f"1.2.3.4/32 via 10.0.0.2 dev {HOST_LINK} proto 111 metric 7",
        f"1.2.3.4/32 via 10.0.0.2 dev {HOST_LINK} proto 111 tos 0x10",
        "1.2.3.4/32 dev lo proto 111",
        f"1.2.3.4/32 dev {HOST_LINK} proto 111",
        f"1.2.3.4/32 via 10.0.0.2 dev {HOST_LINK} proto 111 table 7",
        "blackhole 1.2.3.4/32 proto 111",
    ],
)
def test_removing_a_route_spares_every_other_one_of_its_network(host: Host, kernel: Kernel, other: str) -> None:
    make_links(kernel, host.namespaces, VIA)
    host.run(f"ip route add {other}")
    before = host.ip("route show table all")
    ours = route("1.2.3.4/32", metric=5)
    kernel.apply(plan_of(Add(ours)), host.namespaces)

    outcomes = kernel.apply(plan_of(Remove(ours), Remove(ours)), host.namespaces)

    assert errors(outcomes) == [None, None]
    assert host.ip("route show table all") == before


@pytest.mark.parametrize("text", ["1.2.3.4/32", "2001:db8:1::/48"])
def test_a_route_of_several_next_hops_differs_from_the_one_that_was_there(
    host: Host, kernel: Kernel, text: str
) -> None:
    version = Network.parse(text).version
    first, second = ("10.0.0.2", "10.0.0.3") if version == 4 else ("2001:db8::2", "2001:db8::3")
    length = "10.0.0.1/24" if version == 4 else "2001:db8::1/64"
    ours = route(text, gateway=first, metric=8)
    make_links(kernel, host.namespaces, AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse(length)), ours)
    hops = f"nexthop via {first} dev {HOST_LINK} nexthop via {second} dev {HOST_LINK}"
    host.run(f"ip -{version} route replace {text} proto 111 metric 8 {hops}")

    seen = observed(kernel, host.namespaces, LINKS)[ours.key]

    assert seen == msgspec.structs.replace(ours, gateway=Address.parse(second))
    assert errors(kernel.apply(plan_of(Replace(seen, ours)), host.namespaces)) == [None]
    assert observed(kernel, host.namespaces, LINKS)[ours.key] == ours
    (found,) = host.ip(f"-{version} route show {text}")
    assert "nexthops" not in found


def test_a_gateway_of_the_other_version_is_kept(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces, VIA)
    ours = Route(HOST, Network.parse("1.2.3.0/24"), HOST_LINK, Address.parse("fe80::2"), 4, 0)
    host.run(f"ip route add 1.2.3.0/24 via inet6 fe80::2 dev {HOST_LINK} proto static")
    before = host.ip("route show 1.2.3.0/24")

    assert observed(kernel, host.namespaces, LINKS)[ours.key] == ours
    assert errors(kernel.apply(plan_of(Remove(ours), Restore(ours)), host.namespaces)) == [None, None]
    assert host.ip("route show 1.2.3.0/24") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2001:db8::1/64", "2001:db8::1/128"),
        ("2001:db8::1/128", "2001:db8::1/64"),
    ],
)
def test_the_prefix_length_of_an_ipv6_address_is_replaced(host: Host, kernel: Kernel, old: str, new: str) -> None:
    before, after = (AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse(text)) for text in (old, new))
    make_links(kernel, host.namespaces, before)

    assert errors(kernel.apply(plan_of(Replace(before, after)), host.namespaces)) == [None]
    assert observed(kernel, host.namespaces, LINKS)[after.key] == after


def test_an_address_whose_replacement_fails_is_put_back_with_all_that_hung_on_it(host: Host, kernel: Kernel) -> None:
    """The second of the two steps is refused: by then the first has taken routes and neighbours along."""
    neighbour = Neighbour(HOST, HOST_LINK, Address.parse("10.0.0.2"), "02:00:00:00:00:05")
    hanging: list[KernelObject] = [route("1.2.3.4/32"), neighbour]
    make_links(kernel, host.namespaces, VIA, *hanging)
    before = host.dump()
    have = LINKS.with_objects([VIA, *hanging])
    impossible = msgspec.structs.replace(VIA, address=msgspec.structs.replace(VIA.address, length=200))

    (outcome,) = kernel.apply(plan_of(Replace(VIA, impossible), have=have), host.namespaces)

    assert outcome.errno == errno.EINVAL
    assert host.dump() == before


def test_a_link_that_was_made_anew_in_the_same_plan_is_found_by_its_new_number(host: Host, kernel: Kernel) -> None:
    inner = AssignedAddress(GUEST, GUEST_LINK, InterfaceAddress.parse("10.0.0.2/30"))
    make_links(kernel, host.namespaces, VIA, inner)
    have = observed(kernel, host.namespaces, LINKS)
    anew = plan_changes(have.with_objects([NO_LINK_LOCAL]), KernelState()).changes

    outcomes = kernel.apply(plan_of(Remove(VIA), Remove(inner), Remove(VETH), *anew, have=have), host.namespaces)

    assert errors(outcomes) == [None] * len(outcomes)
    assert observed(kernel, host.namespaces, LINKS) == have


def test_lost_answers_are_looked_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receive buffer for a few answers, and a hundred refusals."""
    opened: list[socket.socket] = []

    def netlink_socket(given: socket.socket | None = None) -> NetlinkSocket:
        if given is None:
            opened.append(given := socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0))
        return NetlinkSocket(given)

    monkeypatch.setattr(port, "NetlinkSocket", netlink_socket)
    kernel = port.Kernel()
    make_links(kernel, host.namespaces, VIA)
    there = [route(f"1.2.{number}.0/24") for number in range(0, 200, 2)]
    assert set(errors(kernel.apply(plan_of(*map(Add, there)), host.namespaces))) == {None}
    for each in opened:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    new = [route(f"1.2.{number}.0/24") for number in range(200)]
    changed = [msgspec.structs.replace(each, protocol=112) for each in new]

    outcomes = kernel.apply(plan_of(*map(Add, changed)), host.namespaces)

    present = observed(kernel, host.namespaces, LINKS)
    assert [each.succeeded for each in outcomes] == [present.get(each.key) == each for each in changed]
    assert any(each.errno == errno.ENOBUFS for each in outcomes)
    assert sum(each.succeeded for each in outcomes) == 100
    kernel.close()


def test_a_setting_that_is_refused_is_told_with_its_path(host: Host, kernel: Kernel) -> None:
    setting = Sysctl(HOST, "ipv4/conf/all/nonsense", "1")

    assert errors(kernel.apply(plan_of(Add(setting)), host.namespaces)) == [
        "No such file or directory: /proc/sys/net/ipv4/conf/all/nonsense"
    ]


def test_a_setting_of_a_guest_is_set_inside(host: Host, kernel: Kernel) -> None:
    setting = Sysctl(GUEST, "ipv4/ip_default_ttl", "77")

    assert errors(kernel.apply(plan_of(Add(setting)), host.namespaces)) == [None]

    assert host.run("sysctl -n net.ipv4.ip_default_ttl", GUEST).strip() == "77"
    assert host.run("sysctl -n net.ipv4.ip_default_ttl").strip() != "77"
