"""Networks routed to a container, without an address of them on its interface."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from whole.host import HOST_4, HOST_6, WORLD_4, WORLD_6, Settled, Topology, differences, run

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

ADD = ("ct", "netif", "route", "add")
DEL = ("ct", "netif", "route", "del")


@pytest.fixture
def web(shared: Topology) -> Topology:
    """A host with a running container `web`, both versions, no address and no route yet."""
    shared.new_container("web", via=[VIA_4, VIA_6])
    return shared


def listed(host: Topology, *argv: str) -> list[str]:
    return [each["addr"] for each in host.osctl_json("ct", "netif", "route", "ls", *(argv or ("web", "eth0")))]


def host_routes(host: Topology, container: str = "web") -> dict[str, str]:
    """What the host's kernel routes to the container, and via which gateway."""
    return {
        route["dst"]: route["gateway"]
        for version in ("-4", "-6")
        for route in host.ip_json(host.H, version, "route", "show", "dev", host.veth(container), "proto", "111")
    }


def on_link(host: Topology) -> set[str]:
    (link,) = host.guest_ip_json("web", "addr", "show", "dev", "eth0")
    assigned = (each for each in link["addr_info"] if not each["local"].startswith("fe80:"))
    return {f"{each['local']}/{each['prefixlen']}" for each in assigned}


def pinged(host: Topology, address: str) -> bool:
    return host.ping(host.R, address, count=1, seconds=0.2) == 1


def restart(host: Topology, name: str = "web") -> None:
    host.osctl("ct", "stop", "-k", name)
    host.osctl("ct", "start", name)


@contextlib.contextmanager
def nested(host: Topology, number: int, *, gateways: list[str], addresses: list[str]) -> Iterator[None]:
    """A network namespace behind `web`, which forwards to it: what a tenant's own router would have."""
    name, link = f"{host.H}-nested{number}", f"nested{number}"
    run("ip", "netns", "add", name)
    try:
        host.in_guest_network("web", "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        # The tenant's own link: its duplicate address detection is none of ours, and is not waited for.
        host.in_guest_network("web", "sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{link}/accept_dad")
        for each in gateways:
            host.in_guest_network("web", "ip", "addr", "add", each, "dev", link, *(["nodad"] if ":" in each else []))
        host.in_guest_network("web", "ip", "link", "set", link, "up")
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            host.in_guest_network("web", "sh", "-c", f"echo 1 >/proc/sys/net/{key}")
        for each in addresses:
            run("ip", "-n", name, "addr", "add", each, "dev", "eth0", *(["nodad"] if ":" in each else []))
        run("ip", "-n", name, "link", "set", "eth0", "up")
        for each in gateways:
            run("ip", "-n", name, "route", "add", "::/0" if ":" in each else "0.0.0.0/0", "via", each.partition("/")[0])
        yield
    finally:
        run("ip", "netns", "del", name)


def nested_ping(host: Topology, number: int, address: str) -> bool:
    argv = ("ping", "-n", "-c1", "-W1", address)
    return run("nsenter", f"--net=/run/netns/{host.H}-nested{number}", *argv, check=False).status == 0


# --- what lies behind a container --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_running", [False, True], ids=["stopped", "running"])
def test_what_lies_behind_a_container_is_reachable_with_nothing_on_its_interface(
    shared: Topology, is_running: bool
) -> None:
    shared.new_container("web", via=[VIA_4, VIA_6], start=is_running)
    assert shared.osctl(*ADD, "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64").stdout == ""
    if not is_running:
        shared.osctl("ct", "start", "web")

    assert on_link(shared) == {"10.100.10.102/30", "fd00:1::2/126"}
    assert host_routes(shared) == {"10.5.5.0/24": "10.100.10.102", "2001:db8:2:5::/64": "fd00:1::2"}
    assert shared.osctl_json("ct", "netif", "ip", "ls", "web") == []
    with nested(
        shared,
        1,
        gateways=["10.5.5.1/24", "2001:db8:2:5::1/64"],
        addresses=["10.5.5.7/24", "2001:db8:2:5::7/64"],
    ):
        for address in ("10.5.5.7", "2001:db8:2:5::7"):
            assert shared.ping(shared.R, address) == 3
            assert shared.ping(shared.H, address) == 3
        with shared.capture(shared.R, "down0", "icmp or icmp6") as capture:
            assert nested_ping(shared, 1, WORLD_4)
            assert nested_ping(shared, 1, WORLD_6)
            capture.wait_for(f"10.5.5.7 > {WORLD_4}: ICMP echo request")
            capture.wait_for(f"2001:db8:2:5::7 > {WORLD_6}: ICMP6, echo request")


def test_a_container_may_delegate_parts_of_its_network(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "2001:db8:2:5::/64")

    with (
        nested(web, 1, gateways=["2001:db8:2:5:1::1/80"], addresses=["2001:db8:2:5:1::7/80"]),
        nested(web, 2, gateways=["2001:db8:2:5:2::1/80"], addresses=["2001:db8:2:5:2::7/80"]),
    ):
        for number in (1, 2):
            assert web.ping(web.R, f"2001:db8:2:5:{number}::7") == 3
            assert nested_ping(web, number, WORLD_6)
        assert nested_ping(web, 1, "2001:db8:2:5:2::7")


# --- add and delete ----------------------------------------------------------------------------------------------


def test_routes_go_one_by_one_by_version_or_all(web: Topology) -> None:
    networks = ["10.5.5.0/24", "1.2.3.0/25", "1.2.3.128/32", "2001:db8:2:5::/64", "2001:db8:2:6::/64"]
    bare = web.comparable_state("web")
    web.osctl(*ADD, "web", "eth0", *networks)
    assert listed(web) == networks

    web.osctl(*DEL, "web", "eth0", "1.2.3.0/25")
    assert listed(web) == ["10.5.5.0/24", "1.2.3.128/32", "2001:db8:2:5::/64", "2001:db8:2:6::/64"]
    web.osctl(*DEL, "web", "eth0", "1.2.3.128")  # a single address needs no prefix length
    web.osctl(*DEL, "web", "eth0", "2001:db8:2:6::77/64")  # nor a network its host bits right
    assert set(host_routes(web)) == {"10.5.5.0/24", "2001:db8:2:5::/64"}
    web.osctl(*DEL, "-v", "6", "web", "eth0", "all")
    assert set(host_routes(web)) == {"10.5.5.0/24"}
    web.osctl(*DEL, "web", "eth0", "all", "-v", "6")
    assert listed(web) == ["10.5.5.0/24"]
    web.osctl(*ADD, "web", "eth0", "2001:db8:2:5::/64")
    web.osctl(*DEL, "web", "eth0", "all")

    assert listed(web) == []
    assert not differences(bare, web.comparable_state("web"))


def test_host_bits_are_dropped_and_shown_so(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "10.5.5.77/24", "2001:db8:2:5::77/64", "1.2.3.4")

    assert listed(web) == ["10.5.5.0/24", "1.2.3.4/32", "2001:db8:2:5::/64"]
    assert set(host_routes(web)) == {"10.5.5.0/24", "1.2.3.4", "2001:db8:2:5::/64"}


def test_an_automatic_route_becomes_the_operators_without_any_change_of_the_kernel(web: Topology) -> None:
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.1/24", "2001:db8:2:5::1/64")
    before = web.comparable_state("web")

    assert web.osctl("--dry-run", *ADD, "web", "eth0", "10.5.5.0/24").stdout == "# configuration only\n"
    web.osctl(*ADD, "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64")

    assert not differences(before, web.comparable_state("web"))
    assert {each["origin"] for each in web.osctl_json("ct", "netif", "route", "ls", "web")} == {"operator"}
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", "all")
    assert set(host_routes(web)) == {"10.5.5.0/24", "2001:db8:2:5::/64"}


def test_a_wider_route_may_come_around_a_narrower_one(web: Topology) -> None:
    web.osctl("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.1")

    web.osctl(*ADD, "web", "eth0", "10.5.5.0/24")

    assert set(host_routes(web)) == {"10.5.5.1", "10.5.5.0/24"}
    web.osctl(*DEL, "web", "eth0", "10.5.5.1/32")  # the wider one still leads there
    assert set(host_routes(web)) == {"10.5.5.0/24"}
    assert pinged(web, "10.5.5.1")
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", "10.5.5.1")
    assert set(host_routes(web)) == {"10.5.5.0/24"}


def test_many_routes_come_from_standard_input_as_one_change(web: Topology) -> None:
    networks = [f"198.51.100.{number}/32" for number in range(0, 250, 2)]
    networks += [f"2001:db8:2:{number:x}::/64" for number in range(1, 126)]

    before = web.stored()["history"]
    web.osctl(*ADD, "web", "eth0", "-", stdin="\n".join(networks))

    assert listed(web) == networks
    assert len(host_routes(web)) == 250
    (line,) = web.stored()["history"][len(before) :]
    assert line[2] == "osctl ct netif route add web eth0 -"
    live = web.comparable_state("web")
    restart(web)
    assert not differences(live, web.comparable_state("web"))


def test_live_changes_lead_to_the_state_of_a_fresh_start(web: Topology) -> None:
    for argv in (
        (*ADD, "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64"),
        ("ct", "netif", "ip", "add", "web", "eth0", "10.5.5.1/24", "1.2.3.4", "2001:db8:2:5::1/64"),
        (*DEL, "--force", "web", "eth0", "10.5.5.0/24"),
        (*DEL, "--force", "web", "eth0", "all"),
        (*ADD, "web", "eth0", "10.5.4.0/23", "2001:db8:2::/48"),
    ):
        web.osctl(*argv)
        live = web.comparable_state("web")
        restart(web)
        assert not differences(live, web.comparable_state("web")), argv


def test_an_unrouted_address_of_a_forwarding_container_is_no_loop(web: Topology) -> None:
    web.osctl(*ADD, "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64")
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        web.in_guest_network("web", "sh", "-c", f"echo 1 >/proc/sys/net/{key}")

    with web.capture(web.H, web.veth("web"), "icmp[icmptype] == icmp-echo or (icmp6 and ip6[40] == 128)") as capture:
        assert web.ping(web.R, "10.5.5.9", count=1, seconds=0.3) == 0
        assert web.ping(web.R, "2001:db8:2:5::9", count=1, seconds=0.3) == 0

    for address in ("10.5.5.9", "2001:db8:2:5::9"):
        assert 1 <= sum(f"> {address}: ICMP" in line for line in capture.lines) <= 3


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """A running `web` with routes of both versions, a stopped `other`; for what must change nothing."""
    with Topology() as topology:
        topology.new_container("web", via=[VIA_4, VIA_6], addresses=["1.2.3.4"])
        topology.osctl(*ADD, "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64")
        topology.new_container("other", via=["10.100.30.0/30"], start=False)
        topology.osctl(*ADD, "other", "eth0", "198.51.100.0/24")
        yield Settled(topology, running=["web"])


@pytest.mark.parametrize(
    ("arguments", "quoted", "words"),
    [
        # routed here already: equal, inside, and inside the via
        (("web", "eth0", "10.5.5.0/24"), "10.5.5.0/24", "already routed to eth0"),
        (("web", "eth0", "10.5.5.99/24"), "10.5.5.99/24", "already routed to eth0"),
        (("web", "eth0", "10.5.5.128/25"), "10.5.5.128/25", "10.5.5.0/24"),
        (("web", "eth0", "10.5.5.1"), "10.5.5.1", "10.5.5.0/24"),
        (("web", "eth0", "2001:db8:2:5:1::/80"), "2001:db8:2:5:1::/80", "2001:db8:2:5::/64"),
        (("web", "eth0", "203.0.113.0/25", "203.0.113.0/25"), "203.0.113.0/25", "already routed to eth0"),
        (("web", "eth0", "203.0.113.0/24", "203.0.113.0/25"), "203.0.113.0/25", "203.0.113.0/24"),
        (("web", "eth0", "10.100.10.102"), "10.100.10.102", "already routed"),
        # what can never be
        (("web", "eth0", "0.0.0.0/0"), "0.0.0.0/0", "default route"),
        (("web", "eth0", "::/0"), "::/0", "default route"),
        (("web", "eth0", "default"), "default", "not an IP network"),
        (("web", "eth0", "0.0.0.0"), "0.0.0.0", "this network"),
        (("web", "eth0", "0.0.0.0/8"), "0.0.0.0/8", "this network"),
        (("web", "eth0", "0.0.0.0/1"), "0.0.0.0/1", ""),
        (("web", "eth0", "::"), "::", "unspecified"),
        (("web", "eth0", "127.0.0.0/8"), "127.0.0.0/8", "loopback"),
        (("web", "eth0", "::1"), "::1", "loopback"),
        (("web", "eth0", "224.0.0.0/4"), "224.0.0.0/4", "multicast"),
        (("web", "eth0", "239.1.1.1"), "239.1.1.1", "multicast"),
        (("web", "eth0", "ff00::/8"), "ff00::/8", "multicast"),
        (("web", "eth0", "255.255.255.255"), "255.255.255.255", "broadcast"),
        (("web", "eth0", "::ffff:1.2.3.0/120"), "::ffff:1.2.3.0/120", "IPv4-mapped"),
        (("web", "eth0", "169.254.0.0/16"), "169.254.0.0/16", "link-local"),
        (("web", "eth0", "fe80::/64"), "fe80::/64", "link-local"),
        # around an end of the own via, and a version without one
        (("web", "eth0", "10.100.0.0/16"), "10.100.0.0/16", "10.100.10.101"),
        (("web", "eth0", "fd00:1::/64"), "fd00:1::/64", "fd00:1::1"),
        (("other", "eth0", "2001:db8:2:9::/64"), "2001:db8:2:9::/64", "not configured for IPv6"),
        # held by another
        (("web", "eth0", "198.51.100.0/24"), "198.51.100.0/24", "eth0 of other"),
        (("web", "eth0", "198.51.100.7"), "198.51.100.7", "eth0 of other"),
        (("web", "eth0", "198.51.0.0/16"), "198.51.0.0/16", "eth0 of other"),
        (("web", "eth0", "10.100.30.0/24"), "10.100.30.0/24", "eth0 of other"),
        # not to be read
        (("web", "eth0", "bogus"), "bogus", "not an IP network"),
        (("web", "eth0", "10.5.6.0/33"), "10.5.6.0/33", ""),
        (("web", "eth0", "10.5.6"), "10.5.6", "not an IP network"),
        (("web", "eth0", ""), "''", "not an IP network"),
        (("web", "eth7", "10.5.6.0/24"), "eth7", "not found"),
        (("nobody", "eth0", "10.5.6.0/24"), "nobody", "not found"),
        # one among many
        (("web", "eth0", "203.0.113.0/25", "203.0.113.128/25", "10.5.5.0/24"), "10.5.5.0/24", "already routed"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(
    settled: Settled, arguments: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*ADD, *arguments)

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("arguments", "quoted", "words", "status"),
    [
        (("web", "eth0", "10.5.6.0/24"), "10.5.6.0/24", "not found", 1),
        (("web", "eth0", "10.5.5.0/25"), "10.5.5.0/25", "not found", 1),
        (("web", "eth0", "10.5.5.0"), "10.5.5.0", "not found", 1),
        (("web", "eth0", "10.5.4.0/23"), "10.5.4.0/23", "not found", 1),
        (("web", "eth0", "2001:db8:2:5::/65"), "2001:db8:2:5::/65", "not found", 1),
        (("web", "eth0", "10.5.5.0/24", "10.5.5.0/24"), "10.5.5.0/24", "not found", 1),
        (("web", "eth0", "10.5.5.0/24", "bogus"), "bogus", "not an IP network", 1),
        (("web", "eth0", "1.2.3.4"), "1.2.3.4", "1.2.3.4", 1),
        (("web", "eth0", "all"), "all", "1.2.3.4", 1),
        (("web", "eth0", "default"), "default", "not an IP network", 1),
        (("web", "eth0", "10.100.10.100/30"), "10.100.10.100/30", "not found", 1),
        (("web", "eth7", "all"), "eth7", "not found", 1),
        (("web", "eth0"), "<network>", "missing", 64),
        (("-v", "4", "web", "eth0", "10.5.5.0/24"), "10.5.5.0/24", "all", 64),
        (("-v", "seven", "web", "eth0", "all"), "-v seven", "invalid", 64),
        (("--frob", "web", "eth0", "all"), "--frob", "unknown", 64),
    ],
)
def test_a_route_that_is_not_there_or_needed_cannot_be_deleted(
    settled: Settled, arguments: tuple[str, ...], quoted: str, words: str, status: int
) -> None:
    message = settled.refusal(*DEL, *arguments, status=status)

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("via", "next_hop", "network", "inside"),
    [
        ("10.100.10.100/30", "1.2.3.4", "10.5.5.0/24", "10.5.5.7"),
        ("fd00:1::/126", "2001:db8:2::4", "2001:db8:2:5::/64", "2001:db8:2:5::7"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_network_routed_by_an_assigned_address_is_reached(
    shared: Topology, via: str, next_hop: str, network: str, inside: str
) -> None:
    version = 6 if ":" in via else 4
    shared.new_container("web", via=[via], addresses=[next_hop])
    shared.in_guest_network("web", "ip", "addr", "add", inside, "dev", "lo")

    shared.osctl("ct", "netif", "route", "add", "--via", next_hop, "web", "eth0", network)

    (route,) = shared.ip_json(shared.H, f"-{version}", "route", "show", network)
    assert (route["gateway"], route["dev"], route["flags"]) == (next_hop, shared.veth("web"), ["onlink"])
    assert shared.ping(shared.R, inside) == 3
    shared.osctl("ct", "stop", "-k", "web")
    shared.osctl("ct", "start", "web")
    assert shared.ip_json(shared.H, f"-{version}", "route", "show", network) == [route]


# --- the host's own address --------------------------------------------------------------------------------------


def test_the_host_speaks_to_containers_from_the_address_that_the_settings_name() -> None:
    with Topology(settings=f"[routes]\nhost_source = ['{HOST_4}', '{HOST_6}']\n") as host:
        host.new_container("web", via=["10.0.0.0/24", "fd00:1::/126"], addresses=["1.2.3.4", "2001:db8:2::4"])
        host.osctl("ct", "netif", "route", "add", "--via", "1.2.3.4", "web", "eth0", "10.5.5.0/24")
        assert [source_for(host, each) for each in ("1.2.3.4", "10.0.0.7", "10.5.5.1")] == [HOST_4] * 3
        assert source_for(host, "2001:db8:2::4") == HOST_6
        assert host.ping(host.H, "1.2.3.4") == host.ping(host.H, "2001:db8:2::4") == 3

        host.stop_daemon()
        host.config.write_text("")
        host.start_daemon()

        assert [source_for(host, each) for each in ("1.2.3.4", "10.0.0.7", "10.5.5.1")] == ["10.0.0.1"] * 3
        assert source_for(host, "2001:db8:2::4") == "fd00:1::1"
        assert host.ping(host.R, "1.2.3.4") == 3


def source_for(host: Topology, address: str) -> str:
    """The address that the host's kernel chooses to speak from."""
    (route,) = host.ip_json(host.H, "route", "get", address)
    return str(route["prefsrc"])
