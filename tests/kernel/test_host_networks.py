"""What the host uses itself: asked of the kernel when something changed there, and not before."""

from __future__ import annotations

import contextlib

import pytest

from kernel.container_objects import GROUP, HOST_LINK, make_links
from kernel.network_namespaces import Host, until
from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use
from osctld.core.plan.kernel_state import HOST, AssignedAddress
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")


def present(kernel: Kernel) -> HostSpace:
    return kernel.host_networks(link_groups=[GROUP])


@pytest.fixture
def uplink(host: Host, kernel: Kernel) -> str:
    """A link that is not ours, after all that making it led to; one of ours beside it."""
    make_links(kernel, host.namespaces, AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/24")))
    host.run("ip link add up0 type veth peer name up1")
    for each in ("up0", "up1"):
        host.run(f"ip link set {each} addrgenmode none up")
    until(lambda: all(each["operstate"] in ("UP", "UNKNOWN") for each in host.ip("link")))
    for address in ("192.0.2.1/24", "2001:db8::1/64 nodad"):
        host.run(f"ip addr add {address} dev up0")
    host.run("ip route add 198.51.100.0/24 via 192.0.2.9")
    until(lambda: not any(each.get("tentative") for link in host.ip("addr") for each in link["addr_info"]))
    return "up0"


def freshly_looked() -> HostSpace:
    with contextlib.closing(Kernel()) as other:
        return present(other)


def test_what_the_host_uses_is_known_and_what_is_on_our_links_is_not(kernel: Kernel, uplink: str) -> None:
    known = set(present(kernel))

    assert HostNetwork(Network.parse("192.0.2.1/32"), uplink, Use.ADDRESS, "192.0.2.1/24") in known
    assert HostNetwork(Network.parse("2001:db8::/64"), uplink) in known
    assert HostNetwork(Network.parse("198.51.100.0/24"), uplink, Use.STATIC, "boot") in known
    assert HostNetwork(Network.parse("192.0.2.9"), uplink, Use.NEXT_HOP, "198.51.100.0/24") in known
    assert HostNetwork(Network.parse("192.0.2.255"), uplink, Use.EDGE, "192.0.2.0/24") in known
    assert HOST_LINK not in {each.link for each in known}


@pytest.mark.parametrize(
    "command",
    [
        "ip addr add 203.0.113.1/24 dev up0",
        "ip addr del 192.0.2.1/24 dev up0",
        "ip addr del 2001:db8::1/64 dev up0",
        "ip route add 203.0.113.0/24 via 192.0.2.9",
        "ip route add 203.0.113.0/24 via 192.0.2.9 proto static",
        "ip -6 route add 2001:db8:1::/48 dev up0 proto dhcp",
        "ip route del 198.51.100.0/24",
        "ip route replace 198.51.100.0/24 via 192.0.2.8 proto bird",
        "ip route add 203.0.113.0/24 via 192.0.2.9 table 7",
        "ip route add default via 192.0.2.9 proto bird",
        "ip route add default via 192.0.2.9 proto static table 7",
        "ip -6 route add default via 2001:db8::9 proto bird",
        "ip addr add 203.0.113.1/32 peer 203.0.113.2 dev up0",
        "ip link set up0 down",
        pytest.param("ip link set up0 name wan0", marks=pytest.mark.requires_kernel("live rename")),
        "ip link del up0",
        f"ip link set up0 group {GROUP}",
        f"ip link set {HOST_LINK} group 0",
    ],
)
def test_a_change_is_known_at_once(host: Host, kernel: Kernel, uplink: str, command: str) -> None:
    before = present(kernel)

    # The kernel takes away at once what is told to go with a link or an address, and tells of it before the end.
    host.run(command)

    assert set(present(kernel)) == set(freshly_looked()) != set(before), uplink


@pytest.mark.parametrize(
    "command",
    [
        "ip route add 203.0.113.0/24 via 192.0.2.9 proto bird",
        "ip -6 route add 2001:db8:1::/48 dev up0 proto bgp",
        f"ip route add 203.0.113.7/32 dev {HOST_LINK} proto 111",
        f"ip addr add 10.9.0.1/24 dev {HOST_LINK}",
        f"ip link set {HOST_LINK} down",
        f"ip link del {HOST_LINK}",
        f"ip link add osweb2-eth0 group {GROUP} type veth peer name inner group {GROUP}",
        "ip route add blackhole 203.0.113.0/24 proto bird",
        "ip addr change 2001:db8::1/64 dev up0 nodad valid_lft 5000 preferred_lft 4000",
        "ip link set up0 alias wan",
        "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:09 dev up0",
    ],
)
def test_what_says_nothing_of_the_host_s_own_networks_costs_no_look(
    host: Host, kernel: Kernel, uplink: str, command: str
) -> None:
    # Of a new link and a new address the kernel tells once more when it has got round to them.
    until(lambda: all(each is present(kernel) for each in [present(kernel) for _ in range(5) if host.ip("link")]))
    before = present(kernel)

    host.run(command)

    assert present(kernel) is before, "the last look still holds"
    assert set(before) == set(freshly_looked()), uplink


def test_more_news_than_are_kept_lead_to_another_look(host: Host, kernel: Kernel, uplink: str) -> None:
    present(kernel)

    host.run(f"ip addr add 203.0.113.1/32 dev {uplink}")
    lines = [f"link set {uplink} alias a{number}" for number in range(6000)]
    host.run("ip -batch -", stdin="\n".join([*lines, f"addr add 203.0.113.2/32 dev {uplink}"]))

    assert {"203.0.113.1", "203.0.113.2"} <= {str(each.network.address) for each in present(kernel) if each.is_address}
