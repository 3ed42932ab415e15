"""Interconnecting networks: what both ends have, whom they reach, how they are asked for."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from patience import starved_seconds
from whole.host import HOST_4, HOST_6, ROUTER_4, WORLD_4, WORLD_6, Topology

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


# --- the page's examples -----------------------------------------------------------------------------------------


def test_the_first_example_works_word_for_word(shared: Topology) -> None:
    shared.osctl("ct", "new", "--distribution", "busybox", "myct01")
    shared.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.100/30", "myct01", "eth0")
    shared.osctl("ct", "netif", "ip", "add", "myct01", "eth0", "1.2.3.4/32")

    shared.osctl("ct", "start", "myct01")

    veth = shared.veth("myct01")
    assert host_addresses(shared, "myct01") == {"10.100.10.101/30"}
    assert guest_addresses(shared, "myct01") == {"10.100.10.102/30", "1.2.3.4/32"}
    (route,) = shared.ip_json(shared.H, "route", "show", "1.2.3.4")
    assert (route["dst"], route["gateway"], route["dev"]) == ("1.2.3.4", "10.100.10.102", veth)
    assert "metric" not in route
    assert default_route(shared, "myct01") == ("10.100.10.101", "1.2.3.4")
    # As programs inside see it too, not only as the kernel tells the host.
    inside = shared.guest("myct01", "ip", "route").stdout
    assert re.search(r"(?m)^default via 10\.100\.10\.101 dev eth0\s+src 1\.2\.3\.4\s*$", inside), inside

    assert shared.ping(shared.H, "1.2.3.4") == 3
    assert shared.ping(shared.R, "1.2.3.4") == 3
    with shared.capture(shared.R, "down0", "icmp") as capture:
        assert shared.guest_ping("myct01", WORLD_4, count=1) == 1
        capture.wait_for(f"1.2.3.4 > {WORLD_4}: ICMP echo request")


@pytest.mark.parametrize("is_set_later", [False, True], ids=["new", "set"])
def test_the_second_example_puts_the_chosen_ends_with_the_whole_prefix_on_both_sides(
    shared: Topology, is_set_later: bool
) -> None:
    ends = ("--via", "10.0.0.0/24", "--host-addr", "10.0.0.254", "--ct-addr", "10.0.0.1")
    shared.osctl("ct", "new", "--distribution", "busybox", "myct01")
    if is_set_later:
        shared.osctl("ct", "netif", "new", "routed", "--via", VIA_4, "myct01", "eth0")
        shared.osctl("ct", "netif", "set", *ends, "myct01", "eth0")
    else:
        shared.osctl("ct", "netif", "new", "routed", *ends, "myct01", "eth0")
    shared.osctl("ct", "netif", "ip", "add", "myct01", "eth0", "1.2.3.4/32")

    shared.osctl("ct", "start", "myct01")

    assert host_addresses(shared, "myct01") == {"10.0.0.254/24"}
    assert guest_addresses(shared, "myct01") == {"10.0.0.1/24", "1.2.3.4/32"}
    assert default_route(shared, "myct01") == ("10.0.0.254", "1.2.3.4")
    assert shared.ping(shared.R, "1.2.3.4") == 3
    assert shared.ping(shared.R, "10.0.0.1") == 3, "a wide network doubles as a public one"


def test_an_address_of_a_wide_via_needs_no_route_of_its_own(shared: Topology) -> None:
    shared.new_container("web", via=["203.0.113.0/24", "2001:db8:2:7::/64"])

    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", "203.0.113.77/24", "2001:db8:2:7::77/64")

    assert shared.osctl_json("ct", "netif", "route", "ls", "web", "eth0") == []
    assert shared.ping(shared.R, "203.0.113.77") == 3
    assert shared.ping(shared.R, "2001:db8:2:7::77") == 3
    assert default_route(shared, "web", 4)[1] == "203.0.113.77"
    assert default_route(shared, "web", 6)[1] == "2001:db8:2:7::77"
    # The host asks the link for none of the other addresses: they go to the container end.
    assert shared.ping(shared.R, "203.0.113.78", count=1, seconds=0.2) == 0
    assert shared.ping(shared.R, "2001:db8:2:7::78", count=1, seconds=0.2) == 0
    neighbours = shared.ip_json(shared.H, "neigh", "show", "dev", shared.veth("web"))
    assert {each["dst"] for each in neighbours if not each["dst"].startswith("fe80::")} == {
        "203.0.113.2",
        "2001:db8:2:7::2",
    }


# --- versions and sizes ------------------------------------------------------------------------------------------


def test_an_interface_may_have_ipv6_alone(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_6], addresses=["2001:db8:2::4/128"])

    assert host_addresses(shared, "web") == {"fd00:1::1/126"}
    assert guest_addresses(shared, "web") == {"fd00:1::2/126", "2001:db8:2::4/128"}
    assert default_route(shared, "web", 6) == ("fd00:1::1", "2001:db8:2::4")
    assert shared.guest_ip_json("web", "-4", "route", "show", "default") == []
    assert shared.ping(shared.H, "2001:db8:2::4") == 3
    assert shared.ping(shared.R, "2001:db8:2::4") == 3
    with shared.capture(shared.R, "down0", "icmp6") as capture:
        assert shared.guest_ping("web", WORLD_6, count=1) == 1
        capture.wait_for(f"2001:db8:2::4 > {WORLD_6}: ICMP6, echo request")


def test_one_command_may_name_both_versions(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_6, VIA_4], addresses=["2001:db8:2::4/128", "1.2.3.4"])

    assert host_addresses(shared, "web") == {"10.100.10.101/30", "fd00:1::1/126"}
    assert guest_addresses(shared, "web") == {"10.100.10.102/30", "1.2.3.4/32", "fd00:1::2/126", "2001:db8:2::4/128"}
    assert shared.ping(shared.R, "1.2.3.4") == 3
    assert shared.ping(shared.R, "2001:db8:2::4") == 3
    (route,) = shared.ip_json(shared.H, "-6", "route", "show", "2001:db8:2::4")
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
    shared: Topology, vias: list[str], host_ends: set[str], container_ends: set[str]
) -> None:
    shared.new_container("web", via=vias, addresses=["1.2.3.4", "2001:db8:2::4"])

    assert host_addresses(shared, "web") == host_ends
    assert guest_addresses(shared, "web") == container_ends | {"1.2.3.4/32", "2001:db8:2::4/128"}
    for address in ("1.2.3.4", "2001:db8:2::4"):
        assert shared.ping(shared.H, address, count=1) == 1
        assert shared.ping(shared.R, address, count=1) == 1
    for address in (WORLD_4, WORLD_6):
        assert shared.guest_ping("web", address, count=1) == 1


def test_a_broadcast_address_is_set_where_there_is_one(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4])
    shared.new_container("tiny", via=["10.9.9.8/31"])

    for found in (
        shared.ip_json(shared.H, "-4", "addr", "show", "dev", shared.veth("web")),
        shared.guest_ip_json("web", "-4", "addr", "show", "dev", "eth0"),
    ):
        assert [each["broadcast"] for link in found for each in link["addr_info"]] == ["10.100.10.103"]
    for found in (
        shared.ip_json(shared.H, "-4", "addr", "show", "dev", shared.veth("tiny")),
        shared.guest_ip_json("tiny", "-4", "addr", "show", "dev", "eth0"),
    ):
        assert not any("broadcast" in each for link in found for each in link["addr_info"])


def test_without_addresses_the_container_speaks_from_its_end(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6])

    assert default_route(shared, "web", 4) == ("10.100.10.101", "10.100.10.102")
    assert default_route(shared, "web", 6) == ("fd00:1::1", "fd00:1::2")
    assert shared.ping(shared.H, "10.100.10.102") == 3
    assert shared.ping(shared.H, "fd00:1::2") == 3
    assert shared.guest_ping("web", HOST_4, count=1) == 1


def test_both_ends_know_each_other_without_asking(shared: Topology) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6])

    host_side = shared.ip_json(shared.H, "neigh", "show", "dev", shared.veth("web"), "nud", "permanent")
    guest_side = shared.guest_ip_json("web", "neigh", "show", "dev", "eth0", "nud", "permanent")
    guest_mac = shared.guest_ip_json("web", "link", "show", "dev", "eth0")[0]["address"]
    host_mac = shared.ip_json(shared.H, "link", "show", "dev", shared.veth("web"))[0]["address"]

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
def test_the_router_reaches_a_container_at_once_when_it_starts(shared: Topology, address: str) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4", "2001:db8:2::4"], start=False)
    shared.ping(shared.R, HOST_6, count=1)
    shared.ping(shared.R, HOST_4, count=1)

    for _ in range(3):  # the first start, and others, each with a host link that is new
        starved = starved_seconds()
        pinger = Pinger(shared, address)
        shared.osctl("ct", "start", "web")
        returned = time.time()
        answered = pinger.first_answer()

        starved = starved_seconds() - starved  # what the pinger and the guest waited for processors
        assert answered - returned - starved < 0.1
        assert answered - start_of_process(shared.init_pid("web")) - starved < 0.1
        shared.osctl("ct", "stop", "-k", "web")


@pytest.mark.parametrize("address", ["1.2.3.4", "2001:db8:2::4"])
def test_the_router_reaches_an_interface_at_once_when_it_is_plugged_in(shared: Topology, address: str) -> None:
    shared.new_container("web")
    shared.ping(shared.R, HOST_6, count=1)
    shared.ping(shared.R, HOST_4, count=1)
    via = VIA_6 if ":" in address else VIA_4
    shared.osctl("ct", "netif", "new", "routed", "--via", via, "web", "eth0")

    starved = starved_seconds()
    pinger = Pinger(shared, address)
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", address)
    returned = time.time()

    assert pinger.first_answer() - returned - (starved_seconds() - starved) < 0.1


# --- public and private ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "prohibited"), [(VIA_4, "Packet filtered"), (VIA_6, "Administratively prohibited")], ids=["IPv4", "IPv6"]
)
def test_a_private_network_talks_to_the_host_and_local_containers_and_is_refused_beyond(
    shared: Topology, via: str, prohibited: str
) -> None:
    version, outside, local = (6, WORLD_6, HOST_6) if ":" in via else (4, WORLD_4, HOST_4)
    neighbour_via = "fd00:9::/126" if version == 6 else "10.100.10.200/30"
    shared.new_container("web", via=[via])
    shared.new_container("other", via=[neighbour_via])
    end, neighbour = container_end(shared, "web", version), container_end(shared, "other", version)

    assert shared.guest_ping("web", local) == 3
    assert shared.guest_ping("web", neighbour) == 3
    refused = shared.in_guest_network("web", "ping", "-n", "-c1", "-W2", outside, check=False)
    assert prohibited in refused.stdout
    with known_to_router(shared, via):
        refused = shared.in_namespace(shared.R, "ping", "-n", "-c1", "-W2", end, check=False)
    assert prohibited in refused.stdout

    assert int(shown(shared, "rejected_private")) == 2
    assert int(shown(shared, "dropped_spoofed")) == 0

    # What is routed to the container goes out as before.
    address = "2001:db8:2::4" if version == 6 else "1.2.3.4"
    shared.osctl("ct", "netif", "ip", "add", "web", "eth0", address)
    assert shared.ping(shared.R, address) == 3
    assert shared.guest_ping("web", outside) == 3

    shared.osctl("ct", "stop", "-k", "web")
    assert shown(shared, "rejected_private") == "-"
    assert (
        shared.veth("web")
        not in shared.in_namespace(shared.H, "nft", "list", "set", "inet", "osctl", "rejected").stdout
    )
    assert end not in shared.in_namespace(shared.H, "nft", "list", "set", "inet", "osctl", f"private{version}").stdout


@pytest.mark.parametrize("via", [VIA_4, VIA_6], ids=["IPv4", "IPv6"])
def test_a_public_network_is_reached_from_beyond(shared: Topology, via: str) -> None:
    version, outside = (6, WORLD_6) if ":" in via else (4, WORLD_4)
    shared.new_container("web", via=[via])
    end = container_end(shared, "web", version)
    with known_to_router(shared, via):
        assert shared.ping(shared.R, end, count=1) == 0

        shared.osctl("ct", "netif", "set", "--via-public", "--via", via, "web", "eth0")

        assert shared.ping(shared.R, end) == 3
        assert shared.guest_ping("web", outside) == 3

        shared.osctl("ct", "netif", "set", "--no-via-public", "--via", via, "web", "eth0")

        assert shared.ping(shared.R, end, count=1) == 0


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
    scope = ["scope", "global"] if version == 6 else []
    (link,) = host.guest_ip_json(container, f"-{version}", "addr", "show", "dev", "eth0", *scope)
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
    shared: Topology, is_running_before: bool
) -> None:
    two_interfaces(shared, is_running_before=is_running_before)

    for address in ("1.2.3.4", "198.51.100.5", "2001:db8:2::4", "2001:db8:2::5"):
        assert shared.ping(shared.R, address) == 3, address
        assert shared.ping(shared.H, address) == 3, address
    metrics = {
        version: {
            each["dev"]: each.get("metric", 0)
            for each in shared.guest_ip_json("web", f"-{version}", "route", "show", "default")
        }
        for version in (4, 6)
    }
    assert metrics == {4: {"eth0": 0, "eth1": 100}, 6: {"eth0": 16, "eth1": 116}}


def test_neither_of_two_interfaces_may_send_what_is_routed_to_another_container(shared: Topology) -> None:
    two_interfaces(shared, is_running_before=False)
    shared.new_container("other", via=["10.100.30.0/30", "fd00:3::/126"], addresses=["1.2.3.9", "2001:db8:2::9"])

    # What is not its own is taken as if it were, from both interfaces.
    for number, interface in enumerate(("eth0", "eth1")):
        shared.in_guest_network("web", "ip", "addr", "add", f"1.2.3.{8 + number}/32", "dev", interface)
        shared.in_guest_network("web", "ip", "addr", "add", f"2001:db8:2::{8 + number}/128", "dev", interface, "nodad")
    with shared.capture(shared.R, "down0", "icmp or icmp6") as capture:
        for gateway, interface in (("10.100.10.101", "eth0"), ("10.100.20.1", "eth1")):
            shared.in_guest_network("web", "ip", "route", "replace", f"{WORLD_4}/32", "via", gateway, "dev", interface)
            for source in ("1.2.3.8", "1.2.3.9"):
                shared.in_guest_network("web", "ping", "-c1", "-W0.1", "-I", source, WORLD_4, check=False)
            for source in ("1.2.3.4", "198.51.100.5"):
                shared.in_guest_network("web", "ping", "-c1", "-W1", "-I", source, WORLD_4)
        for gateway, interface in (("fd00:1::1", "eth0"), ("fd00:2::1", "eth1")):
            shared.in_guest_network("web", "ip", "route", "replace", f"{WORLD_6}/128", "via", gateway, "dev", interface)
            for source in ("2001:db8:2::8", "2001:db8:2::9"):
                shared.in_guest_network("web", "ping", "-c1", "-W0.1", "-I", source, WORLD_6, check=False)
            for source in ("2001:db8:2::4", "2001:db8:2::5"):
                shared.in_guest_network("web", "ping", "-c1", "-W1", "-I", source, WORLD_6)
        capture.wait_for(f"2001:db8:2::5 > {WORLD_6}")
        seen = "\n".join(capture.lines)

    for source in ("1.2.3.8", "1.2.3.9", "2001:db8:2::8", "2001:db8:2::9"):
        assert f" {source} > " not in seen


# --- words of the original ---------------------------------------------------------------------------------------


def test_aliases_of_the_original_work_with_options_before_or_after_arguments(shared: Topology) -> None:
    shared.osctl("vps", "create", "myct01", "--distribution", "busybox")
    shared.osctl("vps", "net", "create", "routed", "myct01", "eth0", "--via", VIA_4)
    shared.osctl("ct", "net", "create", "routed", "myct01", "--via", "10.100.20.0/30", "eth1")
    shared.osctl("vps", "net", "ip", "add", "default:myct01", "eth0", "1.2.3.4")
    shared.osctl("vps", "start", "--wait", "30", "myct01", "--pool", "default")

    assert shared.ping(shared.R, "1.2.3.4") == 3
    assert shared.osctl("vps", "list", "-H", "-o", "id").stdout.split() == ["myct01"]
    assert "myct01" in shared.osctl("vps", "info", "myct01").stdout
    assert "10.100.10.101/30" in shared.osctl("vps", "net", "info", "myct01", "eth0").stdout
    assert shared.osctl("vps", "net", "ip", "list", "myct01", "eth0", "-H", "-o", "addr").stdout.split() == [
        "1.2.3.4/32"
    ]
    shared.osctl("vps", "net", "ip", "delete", "myct01", "eth0", "1.2.3.4")
    shared.osctl("vps", "net", "delete", "myct01", "eth1")
    assert [each["name"] for each in shared.osctl_json("vps", "net", "list", "myct01")] == ["eth0"]
    shared.osctl("vps", "delete", "myct01", "--force")
    assert shared.osctl_json("ct", "ls") == []


def test_words_and_options_may_be_shortened_where_they_stay_clear(shared: Topology) -> None:
    shared.osctl("ct", "new", "--dist=busybox", "web")
    shared.osctl("ct", "neti", "new", "rou", f"--via={VIA_4}", "--mt=1400", "web", "eth0")

    assert shared.osctl_json("ct", "netif", "show", "web", "eth0")["via"] == {"4": VIA_4}
    assert shared.refusal("ct", "st", "web", status=64)
    assert ROUTER_4 not in shared.osctl("ct", "netif", "ls").stdout
