"""A guest in the kernel with routed interfaces behind the packet filter, and a world beyond the host."""

from __future__ import annotations

import functools

from kernel.container_objects import GROUP, GUEST, HOST_LINK, errors, plan_of
from kernel.network_namespaces import Host, until
from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.plan.changes import Restore
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    KernelState,
    Link,
    Namespace,
    Neighbour,
    PrivateNetwork,
    Route,
    SiblingLinks,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.plan.packet_filter import packet_filter
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel.port import Kernel

TABLE = packet_filter(GROUP, bridge_group=112)

#: An address of each version that is routed to the first link.
ROUTED = {4: "1.2.3.4", 6: "2001:db8:5::4"}
#: Both ends of a link; its number goes in.
HOST_END = {4: "10.0.{}.1", 6: "2001:db8:{}::1"}
GUEST_END = {4: "10.0.{}.2", 6: "2001:db8:{}::2"}
LENGTH = {4: 30, 6: 126}
#: The networks of the first link's ends, which only the guest may speak for.
PRIVATE = {
    4: PrivateNetwork(HOST, HOST_LINK, Network.parse("10.0.0.0/30")),
    6: PrivateNetwork(HOST, HOST_LINK, Network.parse("2001:db8:0::/126")),
}

WORLD = guest("world")
HOST_OUTSIDE = {4: "192.0.2.1/24", 6: "2001:db8:ffff::1/64"}
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:ffff::2"}


def interface(number: int) -> KernelState:
    """A routed interface of both versions: the pair, addresses, neighbours, defaults; `ROUTED` goes to the first."""
    outer, inner = f"osweb01-eth{number}", f"eth{number}"
    mac, inner_mac = f"02:00:00:00:0{number}:01", f"02:00:00:00:0{number}:02"
    objects: list[object] = [
        Veth(HOST, outer, mac, 1500, GROUP, True, GUEST, inner, inner_mac),
        Link(GUEST, inner, inner_mac, 1500, True),
        Sysctl(HOST, f"ipv4/conf/{outer}/forwarding", "1", link=outer),
        SiblingLinks(HOST, outer, outer),
        AssignedAddress(HOST, outer, InterfaceAddress.parse("fe80::1/64")),
    ]
    for version in (4, 6):
        ours, theirs = (Address.parse(end[version].format(number)) for end in (HOST_END, GUEST_END))
        default = Network(version, 0, 0)
        metric = 100 * number + (1024 if version == 6 else 0)
        objects += [
            AssignedAddress(HOST, outer, ours.with_length(LENGTH[version])),
            AssignedAddress(GUEST, inner, theirs.with_length(LENGTH[version])),
            Neighbour(HOST, outer, theirs, inner_mac),
            Neighbour(GUEST, inner, ours, mac),
            Route(GUEST, default, inner, ours, 4, metric, theirs),
        ]
        if number == 0:
            routed = Address.parse(ROUTED[version])
            objects += [
                AssignedAddress(GUEST, inner, routed.with_length(32 if version == 4 else 128)),
                Route(HOST, routed.as_network(), outer, theirs, 111, 0 if version == 4 else 8),
            ]
    return KernelState(objects)  # type: ignore[arg-type]


def configure(kernel: Kernel, host: Host, *states: KernelState) -> KernelState:
    """Bring a fresh host and guest to these states, behind the packet filter, and wait until IPv6 works there."""
    want = KernelState(each for state in states for each in state.objects)
    for plan in (plan_of(Restore(TABLE)), plan_changes(want, KernelState())):
        outcomes = kernel.apply(plan, host.namespaces)
        assert all(each.succeeded for each in outcomes), errors(outcomes)
    host.run("sysctl -w net.ipv6.conf.all.forwarding=1")
    # IPv6 begins when the carrier is noticed, a moment after the link is up.
    for veth in (each for each in want.objects if isinstance(each, Veth)):
        for namespace, name in ((HOST, veth.name), (GUEST, veth.peer_name)):
            until(functools.partial(is_ready, host, namespace, name))
    return want


def is_ready(host: Host, namespace: Namespace, link: str) -> bool:
    is_up = host.ip(f"link show {link}", namespace)[0]["operstate"] == "UP"
    return is_up and bool(host.ip(f"-6 route show table local type local dev {link}", namespace))


def private_guest_and_world(host: Host, kernel: Kernel) -> None:
    """A guest whose links are private, and a world behind an uplink that has routes back to everything."""
    configure(kernel, host, interface(0), interface(1), KernelState(PRIVATE.values()))
    host.run("sysctl -w net.ipv4.conf.default.forwarding=1")
    with host.process_in(WORLD) as pid:
        host.run(f"ip link add up0 type veth peer name up0 netns {pid}")
    # A link-local address of its own, not tentative: without one a link asks for no neighbour.
    host.run("sysctl -w net.ipv6.conf.up0.addr_gen_mode=1")
    host.run("ip addr add fe80::1/64 dev up0 nodad")
    host.run("ip addr add fe80::2/64 dev up0 nodad", WORLD)
    for version in (4, 6):
        nodad = "nodad" if version == 6 else ""
        length = HOST_OUTSIDE[version].partition("/")[2]
        host.run(f"ip addr add {HOST_OUTSIDE[version]} dev up0 {nodad}")
        host.run(f"ip addr add {OUTSIDE[version]}/{length} dev up0 {nodad}", WORLD)
    for namespace in (HOST, WORLD):
        host.run("ip link set up0 up", namespace)
    for version in (4, 6):
        host.run(f"ip -{version} route add default via {HOST_OUTSIDE[version].partition('/')[0]}", WORLD)
    until(lambda: is_ready(host, WORLD, "up0"))
    until(lambda: is_ready(host, HOST, "up0"))
