"""Routed interfaces and their interconnecting networks: made, refused, changed and taken away, stopped and running."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from whole.host import HOST_4, HOST_6, ROUTER_4, WORLD_4, WORLD_6, Settled, Topology, differences, wait_until

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

NEW = ("ct", "netif", "new", "routed")
SET = ("ct", "netif", "set")


def addresses(found: list[dict[str, object]]) -> set[str]:
    """The addresses with prefix length in `ip addr show dev X`, without those that the kernel made."""
    (link,) = found
    infos = link["addr_info"]
    assert isinstance(infos, list)
    return {f"{each['local']}/{each['prefixlen']}" for each in infos if not each["local"].startswith("fe80::")}


def host_addresses(host: Topology, container: str, interface: str = "eth0") -> set[str]:
    return addresses(host.ip_json(host.H, "addr", "show", "dev", host.veth(container, interface)))


def guest_addresses(host: Topology, container: str, interface: str = "eth0") -> set[str]:
    return addresses(host.guest_ip_json(container, "addr", "show", "dev", interface))


def default_route(host: Topology, container: str, version: int = 4) -> tuple[str, str]:
    """Gateway and source of the one default route inside."""
    (route,) = host.guest_ip_json(container, f"-{version}", "route", "show", "default")
    return route["gateway"], route["prefsrc"]


@pytest.fixture
def host(idle_host: Topology) -> Iterator[Topology]:
    """One host for all tests of this file, each with containers of its own, of which nothing must be left."""
    before = idle_host.comparable_state()
    yield idle_host
    idle_host.delete_containers()
    # Counters of what was dropped stay: they tell of the past.
    assert not [each for each in differences(before, idle_host.comparable_state()) if " counter" not in each]
    assert idle_host.stored()["holding"] == []


# --- the page's examples -----------------------------------------------------------------------------------------


def test_the_first_example_works_word_for_word(host: Topology) -> None:
    host.osctl("ct", "new", "--distribution", "busybox", "myct01")
    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.100/30", "myct01", "eth0")
    host.osctl("ct", "netif", "ip", "add", "myct01", "eth0", "1.2.3.4/32")

    host.osctl("ct", "start", "myct01")

    veth = host.veth("myct01")
    assert host_addresses(host, "myct01") == {"10.100.10.101/30"}
    assert guest_addresses(host, "myct01") == {"10.100.10.102/30", "1.2.3.4/32"}
    (route,) = host.ip_json(host.H, "route", "show", "1.2.3.4")
    assert (route["dst"], route["gateway"], route["dev"]) == ("1.2.3.4", "10.100.10.102", veth)
    assert "metric" not in route
    assert default_route(host, "myct01") == ("10.100.10.101", "1.2.3.4")
    # As programs inside see it too, not only as the kernel tells the host.
    inside = host.guest("myct01", "ip", "route").stdout
    assert re.search(r"(?m)^default via 10\.100\.10\.101 dev eth0\s+src 1\.2\.3\.4\s*$", inside), inside

    assert host.ping(host.H, "1.2.3.4") == 3
    assert host.ping(host.R, "1.2.3.4") == 3
    with host.capture(host.R, "down0", "icmp") as capture:
        assert host.guest_ping("myct01", WORLD_4, count=1) == 1
        capture.wait_for(f"1.2.3.4 > {WORLD_4}: ICMP echo request")


@pytest.mark.parametrize("is_set_later", [False, True], ids=["new", "set"])
def test_the_second_example_puts_the_chosen_ends_with_the_whole_prefix_on_both_sides(
    host: Topology, is_set_later: bool
) -> None:
    ends = ("--via", "10.0.0.0/24", "--host-addr", "10.0.0.254", "--ct-addr", "10.0.0.1")
    host.osctl("ct", "new", "--distribution", "busybox", "myct01")
    if is_set_later:
        host.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "myct01", "eth0")
        host.osctl("ct", "netif", "set", *ends, "myct01", "eth0")
    else:
        host.osctl("ct", "netif", "new", "routed", *ends, "myct01", "eth0")
    host.osctl("ct", "netif", "ip", "add", "myct01", "eth0", "1.2.3.4/32")

    host.osctl("ct", "start", "myct01")

    assert host_addresses(host, "myct01") == {"10.0.0.254/24"}
    assert guest_addresses(host, "myct01") == {"10.0.0.1/24", "1.2.3.4/32"}
    assert default_route(host, "myct01") == ("10.0.0.254", "1.2.3.4")
    assert host.ping(host.R, "1.2.3.4") == 3
    assert host.ping(host.R, "10.0.0.1") == 3, "a wide network doubles as a public one"


def test_an_address_of_a_wide_via_needs_no_route_of_its_own(host: Topology) -> None:
    host.new_container("web", via=["203.0.113.0/24", "2001:db8:2:7::/64"])

    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "203.0.113.77/24", "2001:db8:2:7::77/64")

    assert host.osctl_json("ct", "netif", "route", "ls", "web", "eth0") == []
    assert host.ping(host.R, "203.0.113.77") == 3
    assert host.ping(host.R, "2001:db8:2:7::77") == 3
    assert default_route(host, "web", 4)[1] == "203.0.113.77"
    assert default_route(host, "web", 6)[1] == "2001:db8:2:7::77"
    # The host asks the link for none of the other addresses: they go to the container end.
    assert host.ping(host.R, "203.0.113.78", count=1, seconds=0.2) == 0
    assert host.ping(host.R, "2001:db8:2:7::78", count=1, seconds=0.2) == 0
    neighbours = host.ip_json(host.H, "neigh", "show", "dev", host.veth("web"))
    assert {each["dst"] for each in neighbours if not each["dst"].startswith("fe80::")} == {
        "203.0.113.2",
        "2001:db8:2:7::2",
    }


# --- versions and sizes ------------------------------------------------------------------------------------------


def test_an_interface_may_have_ipv6_alone(host: Topology) -> None:
    host.new_container("web", via=[VIA_6], addresses=["2001:db8:2::4/128"])

    assert host_addresses(host, "web") == {"fd00:1::1/126"}
    assert guest_addresses(host, "web") == {"fd00:1::2/126", "2001:db8:2::4/128"}
    assert default_route(host, "web", 6) == ("fd00:1::1", "2001:db8:2::4")
    assert host.guest_ip_json("web", "-4", "route", "show", "default") == []
    assert host.ping(host.H, "2001:db8:2::4") == 3
    assert host.ping(host.R, "2001:db8:2::4") == 3
    with host.capture(host.R, "down0", "icmp6") as capture:
        assert host.guest_ping("web", WORLD_6, count=1) == 1
        capture.wait_for(f"2001:db8:2::4 > {WORLD_6}: ICMP6, echo request")


def test_one_command_may_name_both_versions(host: Topology) -> None:
    host.new_container("web", via=[VIA_6, VIA_4], addresses=["2001:db8:2::4/128", "1.2.3.4"])

    assert host_addresses(host, "web") == {"10.100.10.101/30", "fd00:1::1/126"}
    assert guest_addresses(host, "web") == {"10.100.10.102/30", "1.2.3.4/32", "fd00:1::2/126", "2001:db8:2::4/128"}
    assert host.ping(host.R, "1.2.3.4") == 3
    assert host.ping(host.R, "2001:db8:2::4") == 3
    (route,) = host.ip_json(host.H, "-6", "route", "show", "2001:db8:2::4")
    assert route["metric"] == 8


@pytest.mark.parametrize(
    ("vias", "host_ends", "container_ends"),
    [
        (["10.9.9.8/31", "fd00:9::/127"], {"10.9.9.8/31", "fd00:9::/127"}, {"10.9.9.9/31", "fd00:9::1/127"}),
        (["10.9.9.6/30", "fd00:9::7/126"], {"10.9.9.5/30", "fd00:9::5/126"}, {"10.9.9.6/30", "fd00:9::6/126"}),
        (["10.9.9.0/29", "fd00:9::/120"], {"10.9.9.1/29", "fd00:9::1/120"}, {"10.9.9.2/29", "fd00:9::2/120"}),
    ],
    ids=["smallest", "host bits dropped", "wide"],
)
def test_the_ends_follow_from_the_network(
    host: Topology, vias: list[str], host_ends: set[str], container_ends: set[str]
) -> None:
    host.new_container("web", via=vias, addresses=["1.2.3.4", "2001:db8:2::4"])

    assert host_addresses(host, "web") == host_ends
    assert guest_addresses(host, "web") == container_ends | {"1.2.3.4/32", "2001:db8:2::4/128"}
    for address in ("1.2.3.4", "2001:db8:2::4"):
        assert host.ping(host.H, address, count=1) == 1
        assert host.ping(host.R, address, count=1) == 1
    for address in (WORLD_4, WORLD_6):
        assert host.guest_ping("web", address, count=1) == 1


def test_a_broadcast_address_is_set_where_there_is_one(host: Topology) -> None:
    host.new_container("web", via=[VIA_4])
    host.new_container("tiny", via=["10.9.9.8/31"])

    for found in (
        host.ip_json(host.H, "-4", "addr", "show", "dev", host.veth("web")),
        host.guest_ip_json("web", "-4", "addr", "show", "dev", "eth0"),
    ):
        assert [each["broadcast"] for link in found for each in link["addr_info"]] == ["10.100.10.103"]
    for found in (
        host.ip_json(host.H, "-4", "addr", "show", "dev", host.veth("tiny")),
        host.guest_ip_json("tiny", "-4", "addr", "show", "dev", "eth0"),
    ):
        assert not any("broadcast" in each for link in found for each in link["addr_info"])


def test_without_addresses_the_container_speaks_from_its_end(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6])

    assert default_route(host, "web", 4) == ("10.100.10.101", "10.100.10.102")
    assert default_route(host, "web", 6) == ("fd00:1::1", "fd00:1::2")
    assert host.ping(host.H, "10.100.10.102") == 3
    assert host.ping(host.H, "fd00:1::2") == 3
    assert host.guest_ping("web", HOST_4, count=1) == 1


def test_both_ends_know_each_other_without_asking(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6])

    host_side = host.ip_json(host.H, "neigh", "show", "dev", host.veth("web"), "nud", "permanent")
    guest_side = host.guest_ip_json("web", "neigh", "show", "dev", "eth0", "nud", "permanent")
    guest_mac = host.guest_ip_json("web", "link", "show", "dev", "eth0")[0]["address"]
    host_mac = host.ip_json(host.H, "link", "show", "dev", host.veth("web"))[0]["address"]

    assert {(each["dst"], each["lladdr"]) for each in host_side} == {
        ("10.100.10.102", guest_mac),
        ("fd00:1::2", guest_mac),
    }
    assert {(each["dst"], each["lladdr"]) for each in guest_side} == {
        ("10.100.10.101", host_mac),
        ("fd00:1::1", host_mac),
    }


# --- no delay ----------------------------------------------------------------------------------------------------


class Pinger:
    """Pings from R a hundred times a second, noting when each answer came."""

    def __init__(self, host: Topology, address: str) -> None:
        argv = ["nsenter", f"--net=/run/netns/{host.R}", "ping", "-n", "-D", "-i", "0.01", "-W", "1", address]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def first_answer(self) -> float:
        """When the first answer came, in seconds since 1970; ends the pinger. The test's time limit bounds it."""
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                match = re.match(r"\[([\d.]+)\] \d+ bytes from", line)
                if match:
                    return float(match[1])
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
        raise AssertionError("ping ended without an answer")


def start_of_process(pid: int) -> float:
    """When a process was started, in seconds since 1970, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


@pytest.mark.parametrize("address", ["1.2.3.4", "2001:db8:2::4"])
def test_the_router_reaches_a_container_at_once_when_it_starts(host: Topology, address: str) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"], start=False)
    host.ping(host.R, HOST_6, count=1)
    host.ping(host.R, HOST_4, count=1)

    for _ in range(3):  # the first start, and others, each with a host link that is new
        pinger = Pinger(host, address)
        host.osctl("ct", "start", "web")
        returned = time.time()
        answered = pinger.first_answer()

        assert answered - returned < 0.1
        assert answered - start_of_process(host.init_pid("web")) < 0.1
        host.osctl("ct", "stop", "-k", "web")


@pytest.mark.parametrize("address", ["1.2.3.4", "2001:db8:2::4"])
def test_the_router_reaches_an_interface_at_once_when_it_is_plugged_in(host: Topology, address: str) -> None:
    host.new_container("web")
    host.ping(host.R, HOST_6, count=1)
    host.ping(host.R, HOST_4, count=1)
    via = VIA_6 if ":" in address else VIA_4
    host.osctl("ct", "netif", "new", "routed", "--via", via, "web", "eth0")

    pinger = Pinger(host, address)
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", address)
    returned = time.time()

    assert pinger.first_answer() - returned < 0.1


# --- public and private ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "prohibited"), [(VIA_4, "Packet filtered"), (VIA_6, "Administratively prohibited")], ids=["IPv4", "IPv6"]
)
def test_a_private_network_talks_to_the_host_and_local_containers_and_is_refused_beyond(
    host: Topology, via: str, prohibited: str
) -> None:
    version, outside, local = (6, WORLD_6, HOST_6) if ":" in via else (4, WORLD_4, HOST_4)
    neighbour_via = "fd00:9::/126" if version == 6 else "10.100.10.200/30"
    host.new_container("web", via=[via])
    host.new_container("other", via=[neighbour_via])
    end, neighbour = container_end(host, "web", version), container_end(host, "other", version)

    assert host.guest_ping("web", local) == 3
    assert host.guest_ping("web", neighbour) == 3
    refused = host.in_guest_network("web", "ping", "-n", "-c1", "-W2", outside, check=False)
    assert prohibited in refused.stdout
    with known_to_router(host, via):
        refused = host.in_namespace(host.R, "ping", "-n", "-c1", "-W2", end, check=False)
    assert prohibited in refused.stdout

    assert int(shown(host, "rejected_private")) == 2
    assert int(shown(host, "dropped_spoofed")) == 0

    # What is routed to the container goes out as before.
    address = "2001:db8:2::4" if version == 6 else "1.2.3.4"
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", address)
    assert host.ping(host.R, address) == 3
    assert host.guest_ping("web", outside) == 3

    host.osctl("ct", "stop", "-k", "web")
    assert shown(host, "rejected_private") == "-"
    assert host.veth("web") not in host.in_namespace(host.H, "nft", "list", "set", "inet", "osctl", "rejected").stdout
    assert end not in host.in_namespace(host.H, "nft", "list", "set", "inet", "osctl", f"private{version}").stdout


@pytest.mark.parametrize("via", [VIA_4, VIA_6], ids=["IPv4", "IPv6"])
def test_a_public_network_is_reached_from_beyond(host: Topology, via: str) -> None:
    version, outside = (6, WORLD_6) if ":" in via else (4, WORLD_4)
    host.new_container("web", via=[via])
    end = container_end(host, "web", version)
    with known_to_router(host, via):
        assert host.ping(host.R, end, count=1) == 0

        host.osctl("ct", "netif", "set", "--via-public", "--via", via, "web", "eth0")

        assert host.ping(host.R, end) == 3
        assert host.guest_ping("web", outside) == 3

        host.osctl("ct", "netif", "set", "--no-via-public", "--via", via, "web", "eth0")

        assert host.ping(host.R, end, count=1) == 0


@contextlib.contextmanager
def known_to_router(host: Topology, network: str) -> Iterator[None]:
    """The router sends packets for a network to the host, which no default route of its own does."""
    version, gateway = ("-6", HOST_6) if ":" in network else ("-4", HOST_4)
    host.ip(host.R, version, "route", "add", network, "via", gateway)
    try:
        yield
    finally:
        host.ip(host.R, version, "route", "del", network)


def shown(host: Topology, field: str) -> str:
    return host.osctl("ct", "netif", "show", "-H", "-o", field, "web", "eth0").stdout.strip()


def container_end(host: Topology, container: str, version: int) -> str:
    (link,) = host.guest_ip_json(container, f"-{version}", "addr", "show", "dev", "eth0", "scope", "global")
    return str(link["addr_info"][0]["local"])


# --- several interfaces, several containers ----------------------------------------------------------------------


def two_interfaces(host: Topology, *, is_running_before: bool) -> None:
    host.new_container("web", start=is_running_before)
    host.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "--via", VIA_6, "web", "eth0")
    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.20.0/30", "--via", "fd00:2::/126", "web", "eth1")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "2001:db8:2::4")
    host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2::5")
    if not is_running_before:
        host.osctl("ct", "start", "web")


@pytest.mark.parametrize("is_running_before", [False, True], ids=["started", "plugged in"])
def test_the_router_reaches_the_addresses_of_both_interfaces_of_a_container(
    host: Topology, is_running_before: bool
) -> None:
    two_interfaces(host, is_running_before=is_running_before)

    for address in ("1.2.3.4", "198.51.100.5", "2001:db8:2::4", "2001:db8:2::5"):
        assert host.ping(host.R, address) == 3, address
        assert host.ping(host.H, address) == 3, address
    metrics = {
        version: {
            each["dev"]: each.get("metric", 0)
            for each in host.guest_ip_json("web", f"-{version}", "route", "show", "default")
        }
        for version in (4, 6)
    }
    assert metrics == {4: {"eth0": 0, "eth1": 100}, 6: {"eth0": 1024, "eth1": 1124}}


def test_neither_of_two_interfaces_may_send_what_is_routed_to_another_container(host: Topology) -> None:
    two_interfaces(host, is_running_before=False)
    host.new_container("other", via=["10.100.30.0/30", "fd00:3::/126"], addresses=["1.2.3.9", "2001:db8:2::9"])

    # What is not its own is taken as if it were, from both interfaces.
    for number, interface in enumerate(("eth0", "eth1")):
        host.in_guest_network("web", "ip", "addr", "add", f"1.2.3.{8 + number}/32", "dev", interface)
        host.in_guest_network("web", "ip", "addr", "add", f"2001:db8:2::{8 + number}/128", "dev", interface, "nodad")
    with host.capture(host.R, "down0", "icmp or icmp6") as capture:
        for gateway, interface in (("10.100.10.101", "eth0"), ("10.100.20.1", "eth1")):
            host.in_guest_network("web", "ip", "route", "replace", f"{WORLD_4}/32", "via", gateway, "dev", interface)
            for source in ("1.2.3.8", "1.2.3.9"):
                host.in_guest_network("web", "ping", "-c1", "-W0.1", "-I", source, WORLD_4, check=False)
            for source in ("1.2.3.4", "198.51.100.5"):
                host.in_guest_network("web", "ping", "-c1", "-W1", "-I", source, WORLD_4)
        for gateway, interface in (("fd00:1::1", "eth0"), ("fd00:2::1", "eth1")):
            host.in_guest_network("web", "ip", "route", "replace", f"{WORLD_6}/128", "via", gateway, "dev", interface)
            for source in ("2001:db8:2::8", "2001:db8:2::9"):
                host.in_guest_network("web", "ping", "-c1", "-W0.1", "-I", source, WORLD_6, check=False)
            for source in ("2001:db8:2::4", "2001:db8:2::5"):
                host.in_guest_network("web", "ping", "-c1", "-W1", "-I", source, WORLD_6)
        capture.wait_for(f"2001:db8:2::5 > {WORLD_6}")
        seen = "\n".join(capture.lines)

    for source in ("1.2.3.8", "1.2.3.9", "2001:db8:2::8", "2001:db8:2::9"):
        assert f" {source} > " not in seen


# --- changes on a running container ------------------------------------------------------------------------------


def restart(host: Topology, name: str) -> None:
    host.osctl("ct", "stop", "-k", name)
    host.osctl("ct", "start", name)


def plug_in_a_second_interface(host: Topology) -> None:
    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.20.0/30", "--via", "fd00:2::/126", "web", "eth1")
    host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2::5")


def take_the_second_interface_out(host: Topology) -> None:
    plug_in_a_second_interface(host)
    host.osctl("ct", "netif", "del", "web", "eth1")


def take_the_first_interface_out(host: Topology) -> None:
    plug_in_a_second_interface(host)
    host.osctl("ct", "netif", "del", "web", "eth0")


def take_out_and_plug_in_again(host: Topology) -> None:
    host.osctl("ct", "netif", "del", "web", "eth0")
    host.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "--via", VIA_6, "web", "eth0")


def another_via_4(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "10.50.0.0/30", "web", "eth0")


def another_via_6(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "fd00:5::/127", "web", "eth0")


def both_vias(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "10.50.0.0/31", "--via", "fd00:5::/126", "web", "eth0")


def swapped_ends(host: Topology) -> None:
    host.osctl(
        *("ct", "netif", "set", "--host-addr", "10.100.10.102", "--ct-addr", "10.100.10.101"),
        *("--host-addr", "fd00:1::2", "--ct-addr", "fd00:1::1", "web", "eth0"),
    )


def a_wider_prefix_of_the_same_ends(host: Topology) -> None:
    host.osctl(
        *("ct", "netif", "set", "--via", "10.100.10.96/28", "--host-addr", "10.100.10.101"),
        *("--ct-addr", "10.100.10.102", "--via", "fd00:1::/120", "web", "eth0"),
    )


def wide_and_narrow_again(host: Topology) -> None:
    host.osctl("ct", "netif", "set", "--via", "10.0.0.0/24", "--via", "2001:db8:2:7::/64", "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.0.0.9", "2001:db8:2:7::9")
    host.osctl("ct", "netif", "set", "--via", VIA_4, "--via", VIA_6, "web", "eth0")


CHANGES = [
    plug_in_a_second_interface,
    take_the_second_interface_out,
    take_the_first_interface_out,
    take_out_and_plug_in_again,
    another_via_4,
    another_via_6,
    both_vias,
    swapped_ends,
    a_wider_prefix_of_the_same_ends,
    wide_and_narrow_again,
]


@pytest.mark.parametrize("change", CHANGES, ids=[each.__name__ for each in CHANGES])
def test_a_live_change_leads_to_the_state_of_a_fresh_start(host: Topology, change: Callable[[Topology], None]) -> None:
    host.new_container(
        "web",
        via=[VIA_4, VIA_6],
        addresses=["1.2.3.4/32", "1.2.3.5/32", "10.5.5.1/24", "2001:db8:2::4/128", "2001:db8:2:5::1/64"],
    )
    init = host.init_pid("web")

    change(host)

    live = host.comparable_state("web")
    assert host.init_pid("web") == init
    reachable = [each["addr"].partition("/")[0] for each in host.osctl_json("ct", "netif", "ip", "ls", "web")]
    assert [host.ping(host.R, each, count=1) for each in reachable] == [1] * len(reachable)
    restart(host, "web")
    assert not differences(live, host.comparable_state("web"))


def test_an_interface_is_gone_from_the_host_when_it_is_deleted(host: Topology) -> None:
    host.new_container("web", start=False)
    bare = host.comparable_state()
    host.osctl("ct", "start", "web")
    host.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "--via", VIA_6, "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "2001:db8:2::4")

    host.osctl("ct", "netif", "del", "web", "eth0")

    assert not differences(bare, host.comparable_state())
    assert [each["ifname"] for each in host.guest_ip_json("web", "link")] == ["lo"]
    assert host.stored()["holding"] == []
    assert "eth0" in host.refusal("ct", "netif", "show", "web", "eth0")


def test_a_new_via_loses_no_packet_of_a_running_ping(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    argv = ["nsenter", f"--net=/run/netns/{host.R}", "ping", "-n", "-q", "-i", "0.005", "-c", "200"]
    pings = [
        subprocess.Popen([*argv, address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for address in ("1.2.3.4", "2001:db8:2::4")
    ]

    for number in range(5):
        host.osctl(
            *("ct", "netif", "set", "--via", f"10.50.{number}.0/30", "--via", f"fd00:5{number}::/126", "web", "eth0")
        )

    for ping in pings:
        said, _ = ping.communicate(timeout=20)
        assert "200 packets transmitted, 200 received" in said


def test_an_address_that_loses_its_network_gets_a_route(host: Topology) -> None:
    host.new_container("web", via=["10.0.0.0/24"], addresses=["10.0.0.77/24"])

    host.osctl("ct", "netif", "set", "--via", VIA_4, "web", "eth0")

    (route,) = host.ip_json(host.H, "route", "show", "10.0.0.77")
    assert route["gateway"] == "10.100.10.102"
    assert host.ping(host.R, "10.0.0.77") == 3
    assert default_route(host, "web") == ("10.100.10.101", "10.0.0.77")


def test_set_keeps_the_version_that_it_does_not_name(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], start=False)

    host.osctl("ct", "netif", "set", "web", "eth0", "--via", "10.50.0.0/30")

    assert host.osctl_json("ct", "netif", "show", "web", "eth0")["via"] == {"4": "10.50.0.0/30", "6": VIA_6}


def test_a_version_can_be_added_to_a_running_interface(host: Topology) -> None:
    host.new_container("web", via=[VIA_4], addresses=["1.2.3.4"])

    host.osctl("ct", "netif", "set", "--via", VIA_6, "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::4")

    assert host.ping(host.R, "2001:db8:2::4") == 3
    assert host.guest_ping("web", WORLD_6, count=1) == 1
    live = host.comparable_state("web")
    restart(host, "web")
    assert not differences(live, host.comparable_state("web"))


def test_a_new_first_interface_of_a_version_moves_the_others_behind_it(host: Topology) -> None:
    host.new_container("web", via=[VIA_4], addresses=["1.2.3.4"])
    host.osctl(*NEW, "--via", "10.100.20.0/30", "--via", "fd00:2::/126", "web", "eth1")
    host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2::5")

    host.osctl("ct", "netif", "set", "--via", VIA_6, "web", "eth0")

    found = host.guest_ip_json("web", "-6", "route", "show", "default")
    assert {(each["dev"], each["metric"]) for each in found} == {("eth0", 1024), ("eth1", 1124)}
    for address in ("1.2.3.4", "198.51.100.5", "2001:db8:2::5"):
        assert host.ping(host.R, address, count=1) == 1
    live = host.comparable_state("web")
    restart(host, "web")
    assert not differences(live, host.comparable_state("web"))


def break_nothing(_host: Topology) -> None:
    pass


def take_the_link_down_inside(host: Topology) -> None:
    host.guest("web", "ip", "link", "set", "eth0", "down")


def take_the_link_down_on_the_host(host: Topology) -> None:
    host.ip(host.H, "link", "set", host.veth("web"), "down")


def delete_the_link_inside(host: Topology) -> None:
    host.guest("web", "ip", "link", "del", "eth0")


def delete_the_link_on_the_host(host: Topology) -> None:
    host.ip(host.H, "link", "del", host.veth("web"))


def rename_the_link_inside(host: Topology) -> None:
    host.in_guest_network("web", "ip", "link", "set", "eth0", "name", "mine")


def give_the_link_another_mac_inside(host: Topology) -> None:
    host.in_guest_network("web", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")


def put_the_host_link_into_no_group(host: Topology) -> None:
    host.ip(host.H, "link", "set", host.veth("web"), "group", "default")


def flush_the_addresses_on_both_sides(host: Topology) -> None:
    host.in_guest_network("web", "ip", "addr", "flush", "dev", "eth0", "scope", "global")
    host.ip(host.H, "addr", "flush", "dev", host.veth("web"))


def flush_the_routes_inside(host: Topology) -> None:
    for version in ("-4", "-6"):
        host.in_guest_network("web", "ip", version, "route", "flush", "table", "main")
    # Not ours: a route for the link-local address that the guest's kernel gave itself.
    host.in_guest_network("web", "ip", "route", "add", "fe80::/64", "dev", "eth0", "proto", "kernel", "metric", "256")


def let_addresses_expire_inside(host: Topology) -> None:
    for address in ("1.2.3.4/32", "2001:db8:2::4/128"):
        lifetime = ("valid_lft", "1000", "preferred_lft", "1000")
        host.in_guest_network("web", "ip", "addr", "change", address, "dev", "eth0", *lifetime)


ACCIDENTS = [
    break_nothing,
    take_the_link_down_inside,
    take_the_link_down_on_the_host,
    delete_the_link_inside,
    delete_the_link_on_the_host,
    rename_the_link_inside,
    put_the_host_link_into_no_group,
]

#: What a tenant may want so: only who is asked to mends it.
CHANGES_INSIDE = [
    *ACCIDENTS,
    give_the_link_another_mac_inside,
    flush_the_addresses_on_both_sides,
    flush_the_routes_inside,
    let_addresses_expire_inside,
]


@pytest.mark.parametrize("accident", ACCIDENTS, ids=[each.__name__ for each in ACCIDENTS])
def test_the_next_change_mends_what_was_broken_by_hand(host: Topology, accident: Callable[[Topology], None]) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    accident(host)

    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5", "2001:db8:2::5")

    for address in ("1.2.3.4", "1.2.3.5", "2001:db8:2::4", "2001:db8:2::5"):
        assert host.ping(host.R, address, count=1) == 1
    live = host.comparable_state("web")
    restart(host, "web")
    assert not differences(live, host.comparable_state("web"))


@pytest.mark.parametrize("change", CHANGES_INSIDE, ids=[each.__name__ for each in CHANGES_INSIDE])
def test_a_reconcile_mends_what_was_broken_by_hand(host: Topology, change: Callable[[Topology], None]) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    before = host.comparable_state("web")
    change(host)

    host.osctl("net", "reconcile", "web")

    for address in ("1.2.3.4", "2001:db8:2::4"):
        assert host.ping(host.R, address, count=1) == 1
    assert not differences(before, host.comparable_state("web"))


def test_links_of_others_under_our_names_are_in_the_way_and_stay(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6])
    second = (*NEW, "--via", "10.100.20.0/30", "web", "eth1")

    # given: somebody's own link inside, and on the host one with somebody's own address
    host.in_guest_network("web", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "mine")
    assert "eth1" in host.refusal_without_trace(*second, running=["web"])
    host.in_guest_network("web", "ip", "link", "del", "eth1")
    host.ip(host.H, "link", "add", "osweb-eth1", "type", "veth", "peer", "name", "theirs")
    host.ip(host.H, "addr", "add", "10.200.0.1/30", "dev", "osweb-eth1")
    assert "osweb-eth1" in host.refusal_without_trace(*second, running=["web"])

    # when the configuration has it, because the container was stopped
    host.osctl("ct", "stop", "-k", "web")
    host.osctl(*second)
    before = host.comparable_state()
    result = host.osctl("-q", "ct", "start", "web", check=False)

    # then the start fails in words, and theirs is as it was
    assert (result.status, result.stdout) == (1, "")
    assert "osweb-eth1" in result.stderr
    assert not differences(before, host.comparable_state())
    host.ip(host.H, "link", "del", "osweb-eth1")
    host.osctl("ct", "start", "web")
    assert host.ping(host.H, "10.100.20.2") == 3


def test_a_link_of_the_tenant_under_the_name_of_ours_is_in_the_way_and_stays(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"])
    rename_the_link_inside(host)
    host.in_guest_network("web", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "theirs")
    before = host.comparable_state("web")
    add = ("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")

    assert "container web already has link eth0" in host.refusal_without_trace(*add, running=["web"])
    assert "container web already has link eth0" in host.refusal("net", "reconcile", "web")
    assert "container web already has link eth0" in host.osctl("net", "reconcile", "web", "--dry-run").stdout

    assert not differences(before, host.comparable_state("web"))
    assert host.ping(host.R, "1.2.3.4") == 3
    host.in_guest_network("web", "ip", "link", "del", "eth0")
    host.osctl(*add)
    assert host.ping(host.R, "1.2.3.5") == 3


def test_a_freed_network_is_free_for_others_at_once(host: Topology) -> None:
    host.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4"])
    host.new_container("other", via=["10.100.30.0/30"])

    host.osctl("ct", "netif", "set", "--via", "10.50.0.0/30", "web", "eth0")
    host.osctl("ct", "netif", "set", "--via", VIA_4, "other", "eth0")

    assert host.ping(host.H, "10.100.10.102") == 3
    assert host.ping(host.R, "1.2.3.4") == 3
    host.osctl("ct", "del", "-f", "web")
    host.osctl("ct", "netif", "ip", "add", "other", "eth0", "1.2.3.4")
    assert host.ping(host.R, "1.2.3.4") == 3


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """A running `web` with both versions, a stopped `idle` without interface, for what must change nothing."""
    with Topology() as topology:
        topology.new_container(
            "web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "10.5.5.1/24", "2001:db8:2::4", "2001:db8:2:5::1/64"]
        )
        topology.new_container("wide", via=["10.0.0.0/24", "2001:db8:2:7::/64"], start=False)
        topology.new_container("idle", start=False)
        # A kernel that is still busy with itself would be taken for one that was changed.
        wait_until(
            lambda: (
                not any(
                    "tentative" in each for link in topology.guest_ip_json("web", "addr") for each in link["addr_info"]
                )
            ),
            "no tentative address in web",
        )
        yield Settled(topology, running=["web"])


@pytest.mark.parametrize(
    ("options", "quoted", "words"),
    [
        # too small
        (("--via", "10.7.0.0/32"), "10.7.0.0/32", "smaller than /31"),
        (("--via", "10.7.0.1"), "10.7.0.1/32", "smaller than /31"),
        (("--via", "fd00:7::/128"), "fd00:7::/128", "smaller than /127"),
        # ends: one without the other, equal, outside
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.9"), "10.7.0.9", "both host and container"),
        (("--via", "10.7.0.0/24", "--ct-addr", "10.7.0.9"), "10.7.0.9", "both host and container"),
        (("--via", "fd00:7::/64", "--host-addr", "fd00:7::9"), "fd00:7::9", "both host and container"),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.0.9", "--ct-addr", "10.7.0.9"),
            "10.7.0.9",
            "different addresses",
        ),
        (
            ("--via", "fd00:7::/64", "--host-addr", "fd00:7::9", "--ct-addr", "fd00:7:0::9"),
            "fd00:7::9",
            "different addresses",
        ),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.1.9", "--ct-addr", "10.7.0.9"),
            "10.7.1.9",
            "does not include host address",
        ),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.0.9", "--ct-addr", "10.7.1.9"),
            "10.7.1.9",
            "does not include container address",
        ),
        (
            ("--via", "fd00:7::/64", "--host-addr", "fd00:7::9", "--ct-addr", "fd00:8::9"),
            "fd00:8::9",
            "does not include container address",
        ),
        # network and broadcast address, subnet-router anycast
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.0", "--ct-addr", "10.7.0.9"), "10.7.0.0", "network address"),
        (("--via", "10.7.0.0/30", "--host-addr", "10.7.0.1", "--ct-addr", "10.7.0.3"), "10.7.0.3", "broadcast"),
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.255", "--ct-addr", "10.7.0.9"), "10.7.0.255", "broadcast"),
        (("--via", "fd00:7::/64", "--host-addr", "fd00:7::", "--ct-addr", "fd00:7::9"), "fd00:7::", "anycast"),
        (("--via", "fd00:7::/126", "--host-addr", "fd00:7::1", "--ct-addr", "fd00:7::"), "fd00:7::", "anycast"),
        # an end of a version without network
        (("--via", "10.7.0.0/24", "--host-addr", "fd00:9::9", "--ct-addr", "fd00:9::8"), "fd00:9::9", "no IPv6"),
        # twice
        (("--via", "10.7.0.0/24", "--via", "10.8.0.0/24"), "10.8.0.0/24", "already been set"),
        (("--via", "fd00:7::/64", "--via", "fd00:8::/64"), "fd00:8::/64", "already been set"),
        (
            ("--via", "10.7.0.0/24", "--host-addr", "10.7.0.8", "--host-addr", "10.7.0.9", "--ct-addr", "10.7.0.7"),
            "10.7.0.9",
            "already been given",
        ),
        # not to be read
        (("--via", "bogus"), "bogus", "not an IP network"),
        (("--via", "10.7.0/24"), "10.7.0/24", "not an IP network"),
        (("--via", "10.7.0.0/33"), "10.7.0.0/33", ""),
        (("--via", "10.7.0.0/+24"), "10.7.0.0/+24", "not an IP network"),
        (("--via", "10.7.0.0/255.255.255.0"), "10.7.0.0/255.255.255.0", "not an IP network"),
        (("--via", "fd00:7::/129"), "fd00:7::/129", ""),
        (("--via", "fe80::1%eth0/64"), "fe80::1%eth0/64", "not an IP network"),
        (("--via", ""), "''", "not an IP network"),
        (("--via", "10.7.0.0/24", "--host-addr", "x", "--ct-addr", "10.7.0.9"), "'x'", "not an IP address"),
        (("--via", "10.7.0.0/24", "--host-addr", "10.7.0.8", "--ct-addr", "10.7.0.300"), "10.7.0.300", "not an IP"),
        # never a network between two hosts
        (("--via", "0.0.0.0/0"), "0.0.0.0/0", ""),
        (("--via", "::/0"), "::/0", ""),
        (("--via", "127.0.0.0/30"), "127.0.0.0/30", "loopback"),
        (("--via", "224.0.0.0/30"), "224.0.0.0/30", "multicast"),
        (("--via", "255.255.255.252/30"), "255.255.255.252/30", ""),
        (("--via", "ff02::/64"), "ff02::/64", "multicast"),
        (("--via", "fe80::/64"), "fe80::/64", "link-local"),
        (("--via", "::ffff:10.7.0.0/120"), "::ffff:", "IPv4-mapped"),
        # held by others, or by the container itself
        (("--via", VIA_4), VIA_4, "eth0 of web"),
        (("--via", "10.100.0.0/16"), "10.100.0.0/16", "eth0 of web"),
        (("--via", VIA_6), VIA_6, "eth0 of web"),
        (("--via", "10.5.5.128/30"), "10.5.5.128/30", "eth0 of web"),
        (("--via", "1.2.3.0/24"), "1.2.3.0/24", "1.2.3.4"),
        (("--via", "10.0.0.4/30"), "10.0.0.4/30", "eth0 of wide"),
        (("--via", "2001:db8:2:7:8::/126"), "2001:db8:2:7:8::/126", "eth0 of wide"),
    ],
)
def test_a_via_that_makes_no_sense_is_refused(
    settled: Settled, options: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*NEW, *options, "idle", "eth0")

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("options", "quoted", "words"),
    [
        (("--via", "10.7.0.0/32"), "10.7.0.0/32", "smaller than /31"),
        (("--via", "10.7.0.0/24", "--via", "10.8.0.0/24"), "10.8.0.0/24", "already been set"),
        (("--host-addr", "10.100.10.102"), "10.100.10.102", "both host and container"),
        (("--ct-addr", "fd00:1::3"), "fd00:1::3", "both host and container"),
        (("--host-addr", "10.100.10.101", "--ct-addr", "10.100.10.103"), "10.100.10.103", "broadcast"),
        (("--host-addr", "10.100.10.101", "--ct-addr", "10.100.10.105"), "10.100.10.105", "does not include"),
        (("--host-addr", "fd00:1::", "--ct-addr", "fd00:1::1"), "fd00:1::", "anycast"),
        (("--via", "10.0.0.0/30"), "10.0.0.0/30", "eth0 of wide"),
        (("--via", "2001:db8:2::/48"), "2001:db8:2::/48", ""),
        # An end inside what is routed to the interface, or on an address that is assigned to it.
        (("--via", "10.5.5.8/30"), "10.5.5.8/30", "10.5.5.0/24"),
        (("--via", "1.2.3.0/24", "--host-addr", "1.2.3.4", "--ct-addr", "1.2.3.5"), "1.2.3.4", ""),
        (("--via", "1.2.3.4/30"), "1.2.3.4", "network address"),
        (("--via", "2001:db8:2::4/126"), "2001:db8:2::4", "anycast"),
    ],
)
def test_a_change_of_a_via_that_makes_no_sense_is_refused(
    settled: Settled, options: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*SET, *options, "web", "eth0")

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eth0", "already exists"),
        ("a234567890123456", "longer than 15"),
        ("ü234567890123456", "15"),
        ("eth/0", "characters"),
        ("eth 0", "characters"),
        ("eth.0", "characters"),
        ("eth0:1", "characters"),
        ("ethø", "characters"),
        ("eth\n0", "characters"),
        ("eth\x1b", "characters"),
        ("eth%d", "characters"),
        ("..", "characters"),
        ("lo", "reserved"),
        ("all", "reserved"),
        ("", "empty"),
    ],
)
def test_a_name_that_no_link_could_have_is_refused(settled: Settled, name: str, words: str) -> None:
    message = settled.refusal(*NEW, "--via", "10.7.0.0/30", "web", name)

    assert (repr(name)[1:-1] if name.isascii() else name[:3]) in message
    assert words in message


def test_a_name_of_fifteen_bytes_works(host: Topology) -> None:
    host.new_container("web")

    host.osctl(*NEW, "--via", VIA_4, "web", "a23456789012345")

    assert host.ping(host.H, "10.100.10.102") == 3
    assert "a23456789012345" in host.guest("web", "ip", "link").stdout


def test_names_that_differ_late_still_get_host_links_of_their_own(host: Topology) -> None:
    for number in range(2):
        host.new_container(f"a-rather-long-name-{number}", start=False)
        for interface in range(2):
            host.osctl(
                *NEW,
                *(
                    "--via",
                    f"10.9.{number}.{interface * 4}/30",
                    f"a-rather-long-name-{number}",
                    f"interface{interface}",
                ),
            )
        host.osctl("ct", "start", f"a-rather-long-name-{number}")

    links = [link["ifname"] for link in host.ip_json(host.H, "link", "show", "group", "111")]

    assert len(links) == 4
    assert all(link.startswith("os") and len(link) <= 15 for link in links)
    assert host.ping(host.H, "10.9.1.6") == 3


@pytest.mark.parametrize(
    ("argv", "quoted", "status"),
    [
        ((*NEW, "--via", "10.7.0.0/30", "nobody", "eth0"), "nobody", 1),
        ((*NEW, "--via", "10.7.0.0/30", "tank:idle", "eth0"), "tank", 1),
        ((*NEW, "--via", "10.7.0.0/30", "--pool", "tank", "idle", "eth0"), "tank", 1),
        ((*SET, "--via", "10.7.0.0/30", "web", "eth9"), "eth9", 1),
        (("ct", "netif", "del", "web", "eth9"), "eth9", 1),
        (("ct", "netif", "show", "web", "eth9"), "eth9", 1),
        ((*NEW, "--host-addr", "10.7.0.1", "idle", "eth0"), "--via", 1),
        ((*SET, "web", "eth0"), "--via", 64),
        ((*NEW, "--via"), "--via", 64),
        ((*NEW, "--via", "10.7.0.0/30", "idle"), "<netif>", 64),
        ((*NEW, "--via", "10.7.0.0/30", "idle", "eth0", "surplus", "more"), "surplus more", 64),
        ((*NEW, "--vja", "10.7.0.0/30", "idle", "eth0"), "--vja", 64),
        ((*NEW, "--via", "10.7.0.0/30", "idle", "eth0", "--frob"), "--frob", 64),
        (("ct", "netif", "new", "brouted", "--via", "10.7.0.0/30", "idle", "eth0"), "brouted", 64),
        (("ct", "netif", "frob"), "frob", 64),
        (("ct", "netif", "del", "web"), "<netif>", 64),
    ],
)
def test_words_that_make_no_sense_are_refused(
    settled: Settled, argv: tuple[str, ...], quoted: str, status: int
) -> None:
    message = settled.refusal(*argv, status=status)

    assert quoted in message


def test_a_via_that_a_stopped_container_holds_is_refused_to_another(host: Topology) -> None:
    host.new_container("idle", via=[VIA_4, VIA_6], start=False)
    host.new_container("web")

    for via in (VIA_4, VIA_6, "10.100.10.102/31", "10.100.8.0/22", "fd00:1::/64"):
        message = host.refusal_without_trace(*NEW, "--via", via, "web", "eth0", running=["web"])
        assert "eth0 of idle" in message

    host.osctl("ct", "netif", "del", "idle", "eth0")
    host.osctl(*NEW, "--via", VIA_4, "--via", VIA_6, "web", "eth0")
    assert host.ping(host.H, "10.100.10.102") == 3


def test_two_interfaces_of_one_container_cannot_share_a_via(host: Topology) -> None:
    host.new_container("web", via=[VIA_4])

    message = host.refusal_without_trace(*NEW, "--via", VIA_4, "web", "eth1", running=["web"])

    assert VIA_4 in message
    assert "eth0 of web" in message


# --- words of the original ---------------------------------------------------------------------------------------


def test_aliases_of_the_original_work_with_options_before_or_after_arguments(host: Topology) -> None:
    host.osctl("vps", "create", "myct01", "--distribution", "busybox")
    host.osctl("vps", "net", "create", "routed", "myct01", "eth0", "--via", VIA_4)
    host.osctl("ct", "net", "create", "routed", "myct01", "--via", "10.100.20.0/30", "eth1")
    host.osctl("vps", "net", "ip", "add", "default:myct01", "eth0", "1.2.3.4")
    host.osctl("vps", "start", "--wait", "30", "myct01", "--pool", "default")

    assert host.ping(host.R, "1.2.3.4") == 3
    assert host.osctl("vps", "list", "-H", "-o", "id").stdout.split() == ["myct01"]
    assert "myct01" in host.osctl("vps", "info", "myct01").stdout
    assert "10.100.10.101/30" in host.osctl("vps", "net", "info", "myct01", "eth0").stdout
    assert host.osctl("vps", "net", "ip", "list", "myct01", "eth0", "-H", "-o", "addr").stdout.split() == ["1.2.3.4/32"]
    host.osctl("vps", "net", "ip", "delete", "myct01", "eth0", "1.2.3.4")
    host.osctl("vps", "net", "delete", "myct01", "eth1")
    assert [each["name"] for each in host.osctl_json("vps", "net", "list", "myct01")] == ["eth0"]
    host.osctl("vps", "delete", "myct01", "--force")
    assert host.osctl_json("ct", "ls") == []


def test_words_and_options_may_be_shortened_where_they_stay_clear(host: Topology) -> None:
    host.osctl("ct", "new", "--dist=busybox", "web")
    host.osctl("ct", "neti", "new", "rou", f"--via={VIA_4}", "--mt=1400", "web", "eth0")

    assert host.osctl_json("ct", "netif", "show", "web", "eth0")["via"] == {"4": VIA_4}
    assert host.refusal("ct", "st", "web", status=64)
    assert ROUTER_4 not in host.osctl("ct", "netif", "ls").stdout


def test_interfaces_with_a_part_of_anothers_network_and_with_the_rest_of_it_can_be_renamed(host: Topology) -> None:
    host.new_container("wide", via=["10.100.10.100/30"])
    host.new_container("part", via=["10.100.10.104/30"], start=False)
    host.osctl("ct", "netif", "route", "add", "wide", "eth0", "10.5.5.0/24")
    host.osctl("ct", "netif", "route", "add", "--force", "part", "eth0", "10.5.5.0/28")

    host.osctl("ct", "netif", "rename", "wide", "eth0", "wan0")
    host.osctl("ct", "netif", "rename", "part", "eth0", "wan0")

    assert {(each["ctid"], each["netif"]) for each in host.osctl_json("ct", "netif", "route", "ls")} == {
        ("wide", "wan0"),
        ("part", "wan0"),
    }


def test_an_mtu_too_small_for_ipv6_leaves_ipv4(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])

    host.osctl("ct", "netif", "set", "--mtu", "1000", "web", "eth0")
    assert host.ping(host.R, "1.2.3.4") == 3
    host.osctl("ct", "restart", "-k", "web")
    assert host.ping(host.R, "1.2.3.4") == 3
    host.osctl("ct", "netif", "set", "--mtu", "-", "--via", "fd00:1::/126", "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "2001:db8:2::4")

    assert host.ping(host.R, "1.2.3.4") == 3
    assert host.ping(host.R, "2001:db8:2::4") == 3
