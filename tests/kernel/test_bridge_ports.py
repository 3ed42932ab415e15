"""Pairs whose host end is a port of a bridge: made, moved, put back, and refused where there is no bridge."""

from __future__ import annotations

import errno

import msgspec
import pytest

from kernel.container_objects import GUEST, PEER, VETH, errors, observed, plan_of
from kernel.network_namespaces import Host
from osctld.core.address.addresses import InterfaceAddress
from osctld.core.plan.changes import Add, Replace, Restore
from osctld.core.plan.kernel_state import BRIDGE, AssignedAddress, KernelState, Master, Veth
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("bridge")


def port_of(bridge: str, *, is_up: bool = True) -> Veth:
    return msgspec.structs.replace(VETH, master=Master(bridge, BRIDGE), is_up=is_up)


def attached_to(bridge: str) -> KernelState:
    return KernelState([port_of(bridge), PEER])


def apply(kernel: Kernel, host: Host, want: KernelState, have: KernelState) -> None:
    outcomes = kernel.apply(plan_changes(want, have), host.namespaces)
    assert all(each.succeeded for each in outcomes), errors(outcomes)


def make_bridges(host: Host) -> None:
    host.run("sysctl -w net.ipv6.conf.default.addr_gen_mode=1")  # no addresses of the kernel's own making
    for name in ("br0", "br1"):
        host.run(f"ip link add {name} type bridge")
        host.run(f"ip link set {name} up")


def test_a_port_is_made_moved_detached_and_attached_as_it_is_observed(host: Host, kernel: Kernel) -> None:
    make_bridges(host)
    detached = KernelState([VETH, PEER])
    have = KernelState()

    for want in (attached_to("br0"), attached_to("br1"), detached, attached_to("br0"), KernelState()):
        plan = plan_changes(want, have)
        apply(kernel, host, want, have)
        assert observed(kernel, host.namespaces, attached_to("br0")) == want

        undone = kernel.apply(plan.undo(), host.namespaces)
        assert all(each.succeeded for each in undone), errors(undone)
        assert observed(kernel, host.namespaces, attached_to("br0")) == have
        apply(kernel, host, want, have)
        have = want


def test_a_port_that_is_there_already_is_restored_to_its_bridge(host: Host, kernel: Kernel) -> None:
    make_bridges(host)
    apply(kernel, host, attached_to("br1"), KernelState())

    outcomes = kernel.apply(plan_of(Restore(port_of("br0"))), host.namespaces)

    assert errors(outcomes) == [None]
    assert observed(kernel, host.namespaces, attached_to("br0")) == attached_to("br0")


def test_without_the_bridge_nothing_is_made_and_it_is_named(host: Host, kernel: Kernel) -> None:
    before = host.dump()

    outcomes = kernel.apply(plan_of(Add(port_of("br0", is_up=False))), host.namespaces)

    assert [(each.errno, each.error) for each in outcomes] == [(errno.ENODEV, "No such device: no link 'br0'")]
    assert host.dump() == before


@pytest.mark.parametrize("kind", ["veth peer name other1", "dummy", "vrf table 10", "bond"])
def test_what_is_no_bridge_gets_no_port_though_the_kernel_might_take_it(host: Host, kernel: Kernel, kind: str) -> None:
    make_bridges(host)
    apply(kernel, host, attached_to("br1"), KernelState())
    host.run(f"ip link add other0 type {kind}", check=False)
    if not [each for each in host.ip("link") if each["ifname"] == "other0"]:
        return  # this kernel has no links of the kind
    other = msgspec.structs.replace(VETH, master=Master("other0", BRIDGE))

    outcomes = kernel.apply(plan_of(Replace(port_of("br1"), other)), host.namespaces)

    assert errors(outcomes) == ["Operation not supported: 'other0' is a link of another kind"]
    assert observed(kernel, host.namespaces, attached_to("br1")) == attached_to("br1")


def test_a_link_of_the_host_is_seen_with_kind_mtu_and_global_addresses(host: Host, kernel: Kernel) -> None:
    make_bridges(host)
    for each in ("192.0.2.1/24", "198.51.100.1/32", "2001:db8::1/64"):
        host.run(f"ip addr add {each} dev br0")
    host.run("ip link set br0 mtu 1400")

    found = kernel.host_link("br0")

    assert found is not None
    assert (found.name, found.kind, found.mtu, found.is_bridge) == ("br0", "bridge", 1400, True)
    assert sorted(map(str, found.addresses)) == ["192.0.2.1/24", "198.51.100.1/32", "2001:db8::1/64"]
    lo = kernel.host_link("lo")
    assert lo is not None
    assert (lo.kind, lo.is_bridge) == ("", False)
    assert kernel.host_link("br7") is None


def test_an_alternative_name_is_no_bridge_of_that_name(host: Host, kernel: Kernel) -> None:
    make_bridges(host)
    host.run("ip link property add dev br0 altname lan")

    assert kernel.host_link("lan") is None


def test_what_is_on_the_guest_s_end_stays_when_the_port_is_moved(host: Host, kernel: Kernel) -> None:
    make_bridges(host)
    address = AssignedAddress(GUEST, PEER.name, InterfaceAddress.parse("192.0.2.7/24"))
    have = attached_to("br0").with_objects([address])
    apply(kernel, host, have, KernelState())
    want = attached_to("br1").with_objects([address])

    plan = plan_changes(want, have)

    assert [type(each) for each in plan.changes] == [Replace]
    apply(kernel, host, want, have)
    assert observed(kernel, host.namespaces, want) == want
