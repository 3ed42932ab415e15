"""What the neighbours on a bridge are told, as their own kernels understand it."""

from __future__ import annotations

import pytest

from kernel.container_objects import GUEST
from kernel.network_namespaces import Host, until
from osctld.core.address.addresses import Address
from osctld.core.errors import Unavailable
from osctld.core.plan.arrivals import Arrival
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("bridge")

MAC, OLD_MAC = "02:00:00:00:00:01", "02:00:00:00:00:99"
ADDRESSES = ("192.168.5.10", "2001:db8:5::10")


@pytest.fixture
def lan(host: Host) -> Host:
    """A guest with lan0 on br0, and the host on that bridge as its neighbour, which remembers another MAC address."""
    host.run("ip link add br0 type bridge")
    host.run("ip link set br0 up")
    host.run("ip addr add 192.168.5.1/24 dev br0")
    host.run("ip addr add 2001:db8:5::1/64 dev br0 nodad")
    with host.process_in(GUEST) as pid:
        host.run(f"ip link add port0 master br0 type veth peer name lan0 address {MAC} netns {pid}")
    host.run("ip link set port0 up")
    host.run("ip link set lan0 up", GUEST)
    host.run("ip addr add 192.168.5.10/24 dev lan0", GUEST)
    host.run("ip addr add 2001:db8:5::10/64 dev lan0 nodad", GUEST)
    until(lambda: host.ip("link show port0")[0]["linkinfo"]["info_slave_data"]["state"] == "forwarding")
    for each in ADDRESSES:
        host.run(f"ip neigh replace {each} lladdr {OLD_MAC} dev br0 nud stale")
    return host


def known(host: Host) -> dict[str, str]:
    return {each["dst"]: each.get("lladdr", "") for each in host.ip("neigh show dev br0") if each["dst"] in ADDRESSES}


def arrival(*addresses: str, mac: str = MAC) -> Arrival:
    return Arrival(GUEST, "lan0", mac, tuple(map(Address.parse, addresses)))


def test_the_neighbours_know_who_has_an_address_from_then_on(lan: Host, kernel: Kernel) -> None:
    kernel.tell_neighbours(lan.namespaces[GUEST], arrival(*ADDRESSES))

    until(lambda: known(lan) == dict.fromkeys(ADDRESSES, MAC))


def test_a_bridge_knows_behind_which_port_a_mac_address_is_without_any_address(lan: Host, kernel: Kernel) -> None:
    lan.run(f"bridge fdb del {MAC} dev port0 master", check=False)

    kernel.tell_neighbours(lan.namespaces[GUEST], arrival())

    until(lambda: f"{MAC} dev port0" in lan.run("bridge fdb show br br0"))
    assert known(lan) == dict.fromkeys(ADDRESSES, OLD_MAC)


def test_what_is_not_so_any_more_is_not_told(lan: Host, kernel: Kernel) -> None:
    namespace = lan.namespaces[GUEST]
    lan.run("ip addr del 192.168.5.10/24 dev lan0", GUEST)

    kernel.tell_neighbours(namespace, arrival(*ADDRESSES, mac="02:00:00:00:00:77"))
    kernel.tell_neighbours(namespace, arrival("192.168.5.10"))
    kernel.tell_neighbours(namespace, Arrival(GUEST, "lan7", MAC))
    assert known(lan) == dict.fromkeys(ADDRESSES, OLD_MAC)
    kernel.tell_neighbours(namespace, arrival(*ADDRESSES))

    until(lambda: known(lan) == {ADDRESSES[0]: OLD_MAC, ADDRESSES[1]: MAC})


def test_a_link_that_is_down_is_an_error_with_its_name(lan: Host, kernel: Kernel) -> None:
    lan.run("ip link set lan0 down", GUEST)

    with pytest.raises(Unavailable, match="lan0: "):
        kernel.tell_neighbours(lan.namespaces[GUEST], arrival())
