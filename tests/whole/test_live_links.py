"""Name, MAC address and MTU of an interface change while the container runs, and nothing on it is lost."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from whole.host import WORLD_4, WORLD_6, Topology, differences
from whole.old_kernel_daemon import OLD_KERNEL

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"
ADDRESSES = ("1.2.3.4", "1.2.3.5", "2001:db8:2::4", "2001:db8:2::5")


#: A kernel before 6.2 refuses to rename a link that is up, also to tenants.
RENAMES_WHILE_UP = pytest.mark.requires_kernel("live rename")


@pytest.fixture(params=[pytest.param("renames while up", marks=RENAMES_WHILE_UP), "renames while down"])
def either_host(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """A host whose kernel renames links that are up, and one that takes its kernel for an older one."""
    if request.param == "renames while up":
        with Topology() as topology:
            yield topology
    else:
        with Topology(program=OLD_KERNEL) as topology:
            yield topology


def lost_while(host: Topology, address: str, *argv: str) -> int:
    """How many of a hundred pings a second from the router are not answered while a command runs."""
    ping = ["nsenter", f"--net=/run/netns/{host.R}", "ping", "-n", "-q", "-i", "0.01", "-c", "60", "-W", "1", address]
    with subprocess.Popen(ping, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as pinging:
        host.osctl(*argv)
        output, _ = pinging.communicate()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    assert found, output
    return int(found[1]) - int(found[2])


def restarted(host: Topology) -> dict[str, list[str]]:
    """What a fresh start makes of the same configuration."""
    host.osctl("ct", "restart", "-k", "web")
    return host.comparable_state("web")


@RENAMES_WHILE_UP
@pytest.mark.parametrize(
    "commands",
    [["net reconcile"], ["ct netif ip add web eth0 1.2.3.6", "ct netif ip del web eth0 1.2.3.6"]],
    ids=["reconcile", "edit"],
)
def test_a_link_that_its_tenant_renamed_gets_its_name_back_with_all_that_is_on_it(
    either_host: Topology, commands: list[str]
) -> None:
    host = either_host
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)
    host.in_guest_network("web", "ip", "addr", "add", "2001:db8:77::1/64", "dev", "eth0", "nodad")
    host.in_guest_network("web", "ip", "route", "add", "10.77.0.0/16", "via", "10.100.10.101")
    (link,) = host.guest_ip_json("web", "link", "show", "eth0")
    before = host.comparable_state("web")
    host.in_guest_network("web", "ip", "link", "set", "eth0", "name", "mine")

    # what is of the host alone leaves the tenant's name
    host.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24")
    host.osctl("ct", "netif", "route", "del", "web", "eth0", "10.5.5.0/24")
    assert [each["ifname"] for each in host.guest_ip_json("web", "link", "show")] == ["lo", "mine"]
    for each in commands:
        host.osctl(*each.split())

    (again,) = host.guest_ip_json("web", "link", "show", "eth0")
    assert again["ifindex"] == link["ifindex"]
    assert not differences(before, host.comparable_state("web"))
    assert host.osctl_json("self", "status")["drift"] == []


@RENAMES_WHILE_UP
@pytest.mark.parametrize(
    "command",
    [
        "ip del web eth0 1.2.3.4", "ip del web eth0 1.2.3.5", "ip del web eth0 2001:db8:2::5",
        "set --mtu 1400 web eth0", "set --via 10.100.30.0/30 web eth0", "rename web eth0 lan0", "del web eth0",
    ],
)  # fmt: skip
def test_a_change_of_a_link_that_its_tenant_renamed_leads_where_it_would_have_led(
    idle_host: Topology, command: str
) -> None:
    host = idle_host
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)
    host.in_guest_network("web", "ip", "link", "set", "eth0", "name", "mine")

    host.osctl("ct", "netif", *command.split())
    host.osctl("net", "reconcile")

    live = host.comparable_state("web")
    assert not differences(live, restarted(host))
    host.delete_containers()


@RENAMES_WHILE_UP
@pytest.mark.parametrize("trick", ["swap", "one takes the other's"])
@pytest.mark.parametrize(
    "command",
    ["ct netif ip del web eth0 1.2.3.4", "ct netif rename web eth0 lan0", "ct netif del web eth0", "net reconcile"],
)
def test_links_that_a_tenant_gave_each_others_names_get_their_own_back(
    idle_host: Topology, command: str, trick: str
) -> None:
    host = idle_host
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)
    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.20.0/30", "web", "eth1")
    host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5")
    lines = {
        "swap": ("link set eth0 name away", "link set eth1 name eth0", "link set away name eth1"),
        "one takes the other's": ("link set eth1 name gone", "link set eth0 name eth1", "link del gone"),
    }[trick]
    # The name first: a deleted link is back at once.
    host.in_guest_network("web", "ip", "-batch", "-", stdin="\n".join(lines))

    host.osctl(*command.split())
    host.osctl("net", "reconcile")

    live = host.comparable_state("web")
    assert not differences(live, restarted(host))
    host.delete_containers()


def test_a_name_of_ours_that_a_tenant_gives_another_link_as_an_alternative_one_confuses_nobody() -> None:
    with Topology() as host:
        host.new_container("web", via=[VIA_4], addresses=["1.2.3.4"])
        host.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.104/30", "web", "eth1")
        for command in ("set eth1 down", "set eth1 name mine", "set mine up", "property add dev eth0 altname eth1"):
            host.in_guest_network("web", "ip", "link", *command.split())

        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

        assert [host.ping(host.R, each) for each in ("1.2.3.4", "1.2.3.5")] == [3, 3]
        (link,) = host.guest_ip_json("web", "link", "show", "eth0")
        assert link["altnames"] == ["eth1"]
        host.in_guest_network("web", "ip", "link", "property", "del", "dev", "eth0", "altname", "eth1")
        host.osctl("net", "reconcile", "web")
        assert {each["ifname"] for each in host.guest_ip_json("web", "link")} == {"lo", "eth0", "eth1"}


def test_a_running_interface_is_renamed_with_all_that_is_on_it(either_host: Topology) -> None:
    host = either_host
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)
    host.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24")
    # A tenant's own address and route, on the same link.
    host.in_guest_network("web", "ip", "addr", "add", "2001:db8:77::1/64", "dev", "eth0", "nodad")
    host.in_guest_network("web", "ip", "route", "add", "10.77.0.0/16", "via", "10.100.10.101")
    (before,) = host.guest_ip_json("web", "link", "show", "eth0")

    host.osctl("ct", "netif", "rename", "web", "eth0", "lan0")

    (after,) = host.guest_ip_json("web", "link", "show", "lan0")
    assert (after["ifindex"], after["address"]) == (before["ifindex"], before["address"])
    for address in ADDRESSES:
        assert host.ping(host.R, address) == 3
    assert host.guest_ping("web", WORLD_4) == 3
    assert host.guest_ping("web", WORLD_6) == 3
    theirs = host.guest_ip_json("web", "addr", "show", "dev", "lan0")[0]["addr_info"]
    assert "2001:db8:77::1" in {each["local"] for each in theirs}
    assert host.guest_ip_json("web", "route", "show", "10.77.0.0/16")[0]["dev"] == "lan0"

    host.in_guest_network("web", "ip", "addr", "del", "2001:db8:77::1/64", "dev", "lan0")
    host.in_guest_network("web", "ip", "route", "del", "10.77.0.0/16")
    live = host.comparable_state("web")
    assert not differences(live, restarted(host))


def test_a_dry_run_tells_how_an_interface_is_renamed_by_this_kernel(either_host: Topology) -> None:
    host = either_host
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)

    lines = host.osctl("--dry-run", "ct", "netif", "rename", "web", "eth0", "lan0").stdout.splitlines()

    if host.program == OLD_KERNEL:
        assert lines[:4] == [
            "# in container web",
            "ip link set dev eth0 down",
            "ip link set dev eth0 name lan0",
            "ip link set dev lan0 up",
        ]
        assert "ip -6 route replace default via fd00:1::1 dev lan0 proto static src 2001:db8:2::4 metric 16" in lines
    else:
        assert lines == ["# in container web", "ip link set dev eth0 name lan0"]


@pytest.mark.parametrize("address", ["1.2.3.4", "2001:db8:2::4"])
@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(("ct", "netif", "rename", "web", "eth0", "lan0"), id="another name", marks=RENAMES_WHILE_UP),
        pytest.param(("ct", "netif", "set", "--mtu", "1400", "web", "eth0"), id="a smaller MTU"),
        pytest.param(("ct", "netif", "set", "--mtu", "9000", "web", "eth0"), id="a larger MTU"),
    ],
)
def test_no_packet_is_lost_while_an_interface_gets(host: Topology, argv: tuple[str, ...], address: str) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)
    assert host.ping(host.R, address) == 3

    assert lost_while(host, address, *argv) == 0

    live = host.comparable_state("web")
    assert not differences(live, restarted(host))


@pytest.mark.parametrize("address", ["1.2.3.4", "2001:db8:2::4"])
def test_a_running_interface_gets_another_mac_address_on_both_sides_at_once(host: Topology, address: str) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=ADDRESSES)
    assert host.ping(host.R, address) == 3

    # One that is on its way between the two changes may miss its target.
    assert lost_while(host, address, "ct", "netif", "set", "--hwaddr", "02:00:00:00:00:77", "web", "eth0") <= 1

    assert host.guest_ip_json("web", "link", "show", "eth0")[0]["address"] == "02:00:00:00:00:77"
    known = host.ip_json(host.H, "neigh", "show", "dev", host.veth("web"), "nud", "permanent")
    assert {each["lladdr"] for each in known} == {"02:00:00:00:00:77"}
    inside = host.guest_ip_json("web", "neigh", "show", "dev", "eth0", "nud", "permanent")
    assert {each["dst"] for each in inside} == {"10.100.10.101", "fd00:1::1"}
    for each in ADDRESSES:
        assert host.ping(host.R, each) == 3
