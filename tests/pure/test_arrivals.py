"""Whom the neighbours on a bridge are told of after a plan."""

from __future__ import annotations

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress
from osctld.core.plan.arrivals import Arrival, arrivals
from osctld.core.plan.kernel_state import BRIDGE, HOST, AssignedAddress, KernelState, Link, Master, Veth, guest
from osctld.core.plan.planner import plan_changes

INSIDE = guest("web01")
MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


def pair(bridge: str | None, *, mac: str = MAC) -> list[Veth | Link]:
    master = Master(bridge, BRIDGE) if bridge is not None else None
    return [
        Veth(HOST, "osweb01-lan0", "fe:00:00:00:00:01", 1500, 112, True, INSIDE, "lan0", mac, master),
        Link(INSIDE, "lan0", mac, 1500, is_up=True),
    ]


def state(bridge: str | None, *addresses: str, mac: str = MAC) -> KernelState:
    assigned = (AssignedAddress(INSIDE, "lan0", InterfaceAddress.parse(each)) for each in addresses)
    return KernelState([*pair(bridge, mac=mac), *assigned])


def told(have: KernelState, want: KernelState) -> list[Arrival]:
    plan = plan_changes(want, have)
    return list(arrivals(plan.want, plan.changes))


def arrived(*addresses: str, mac: str = MAC) -> list[Arrival]:
    return [Arrival(INSIDE, "lan0", mac, tuple(map(Address.parse, addresses)))]


BOTH = ("192.168.5.10/24", "2001:db8:5::10/64")


def test_a_port_that_comes_or_moves_is_told_with_all_that_is_behind_it() -> None:
    all_of_it = arrived("192.168.5.10", "2001:db8:5::10")

    assert told(KernelState(), state("br0", *BOTH)) == all_of_it
    assert told(state("br0", *BOTH), state("br1", *BOTH)) == all_of_it
    assert told(state(None, *BOTH), state("br0", *BOTH)) == all_of_it
    assert told(KernelState(), state("br0")) == arrived()
    assert told(state("br0", *BOTH), state("br0", *BOTH, mac=OTHER_MAC)) == arrived(
        "192.168.5.10", "2001:db8:5::10", mac=OTHER_MAC
    )


def test_of_a_port_that_stays_new_addresses_are_told() -> None:
    assert told(state("br0", BOTH[0]), state("br0", *BOTH)) == arrived("2001:db8:5::10")
    assert told(state("br0", *BOTH), state("br0", BOTH[0])) == []
    assert told(state("br0", *BOTH), state("br0", *BOTH)) == []


def test_of_a_link_that_is_no_port_nothing_is_told() -> None:
    assert told(KernelState(), state(None, *BOTH)) == []
    assert told(state("br0", *BOTH), state(None, *BOTH)) == []


def test_what_was_not_done_is_not_told() -> None:
    plan = plan_changes(state("br0", *BOTH), state("br0"))

    assert list(arrivals(plan.want, [])) == []
    assert list(arrivals(plan.want, plan.changes[:1])) == arrived("192.168.5.10")


def test_a_change_of_the_mtu_of_a_port_is_nothing_to_tell() -> None:
    before = state("br0", *BOTH)
    after = KernelState(
        msgspec.structs.replace(each, mtu=1400) if isinstance(each, Veth | Link) else each for each in before.objects
    )

    assert told(before, after) == []
