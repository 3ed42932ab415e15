"""What comes from beyond for a stopped container goes round between the host and its router, unless it is rejected."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE, power_off
from whole.host import ROUTER_4, ROUTER_6, Topology, differences, stays, wait_until
from whole.pings import pings

pytestmark = pytest.mark.requires_kernel("nftables fib")

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESS = {4: "1.2.3.4", 6: "2001:db8:2::4"}
UNROUTED = {4: "1.2.3.77", 6: "2001:db8:2::77"}
ROUTER = {4: ROUTER_4, 6: ROUTER_6}
BYSTANDER = ["203.0.113.9", "2001:db8:2::9"]
PLENTY = 30.0

ADD = ("ct", "netif", "ip", "add")
both_modes = pytest.mark.parametrize("mode", ["reject", "unreachable"])
both_versions = pytest.mark.parametrize("version", [4, 6])


def a_router(mode: str) -> Topology:
    """A host that is a router for others too, so that nothing but the setting keeps packets from going round."""
    return Topology(program=BARE, settings=settings(mode), start_daemon=False)


def settings(mode: str) -> str:
    return f'[host]\ntransit = "allow"\nstopped = "{mode}"\n'


@pytest.fixture
def mode() -> str:
    return "reject"


@pytest.fixture
def redirects() -> bool:
    return False


@pytest.fixture
def web(mode: str, redirects: bool) -> Iterator[Topology]:
    """With a running `web`, and a bystander that loses nothing and keeps all that it has."""
    with a_router(mode) as host:
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            host.sysctl(host.H, key, "1")
        # A redirect goes before the packet is rejected, and takes the token that telling of that would need; after nine
        # of them, half a minute later, there are no more (ip_rt_send_redirect in linux/net/ipv4/route.c).
        for link in ("all", "up0"):
            host.sysctl(host.H, f"net/ipv4/conf/{link}/send_redirects", str(int(redirects)))
        host.start_daemon()
        host.new_container("beside", via=["10.100.20.100/30", "fd00:2::/126"], addresses=BYSTANDER)
        host.new_container("web", via=VIAS, addresses=[*ADDRESS.values()])
        # What it pings from is its own, and comes back to it: others' would go round anyhow.
        host.sysctl(host.R, "net/ipv4/conf/all/accept_local", "1")
        veth = host.veth("beside")
        before = own_state(host, veth)
        with pings(host, *BYSTANDER) as counts:
            yield host
        assert {sent - answered for sent, answered in counts.values()} == {0}
        assert not differences(before, own_state(host, veth))


def own_state(host: Topology, veth: str) -> dict[str, list[str]]:
    """Of the bystander: inside, and on its link of the host."""
    state = host.comparable_state("beside")
    del state["host nftables"]
    return {
        place: [each for each in lines if place.startswith("beside") or veth in each] for place, lines in state.items()
    }


def stop(host: Topology, name: str = "web") -> None:
    host.osctl("ct", "stop", "-k", name)


def rounds(host: Topology, address: str) -> int:
    """How often one packet from beyond for an address is seen on the wire to the host."""
    word = "icmp6 and ip6[40] == 128" if ":" in address else "icmp[icmptype] == icmp-echo"
    with host.capture(host.R, "down0", f"{word} and dst host {address}") as capture:
        host.ping(host.R, address, count=1, seconds=0.5)
        capture.wait_for(f" > {address}", seconds=PLENTY)
        # Of an address that is answered for, and behind the others: what has not been seen by now never comes.
        host.ping(host.R, BYSTANDER[0], count=1)
        return sum(f" > {address}" in line for line in capture.lines)


def is_told_unreachable(host: Topology, address: str) -> bool:
    argv = ["ping", "-n", "-c", "1", "-W", "1", address]
    return "nreachable" in host.in_namespace(host.R, *argv, check=False).stdout


def is_rejected(host: Topology, *addresses: str) -> None:
    def is_told_slowly(address: str) -> bool:
        # Of a route to nowhere the kernel tells by two token buckets that share their tokens, one a second (ip_error in
        # linux/net/ipv4/route.c, icmpv4_xrlim_allow in icmp.c): who asks each second is never answered.
        if not (is_told := is_told_unreachable(host, address)):
            time.sleep(2.5)
        return is_told

    for each in addresses or ADDRESS.values():
        wait_until(functools.partial(is_told_slowly, each), f"{each} is rejected", seconds=PLENTY)
        assert rounds(host, each) == 1


def in_set(host: Topology, version: int = 4) -> str:
    return host.in_namespace(host.H, "nft", "list", "set", "inet", "osctl", f"stopped{version}").stdout


def unreachable(host: Topology) -> list[tuple[str, int, str]]:
    return [
        (each["dst"], each["metric"], each["protocol"])
        for version in ("-4", "-6")
        for each in host.ip_json(host.H, version, "route", "show", "type", "unreachable")
        if each.get("protocol") != "kernel"
    ]


@pytest.mark.parametrize("mode", ["none"])
def test_without_anything_a_packet_goes_round_until_its_hops_are_used_up(web: Topology) -> None:
    stop(web)

    assert [rounds(web, each) > 10 for each in ADDRESS.values()] == [True, True]
    assert "elements" not in in_set(web)
    assert unreachable(web) == []


@pytest.mark.parametrize(
    ("mode", "redirects"),
    [("reject", False), ("reject", True), ("unreachable", False)],
    ids=["reject", "reject, on a host that sends redirects", "unreachable"],
)
def test_what_comes_for_a_stopped_container_is_rejected_until_it_starts(web: Topology, mode: str) -> None:
    stop(web)
    is_rejected(web)
    expected = [("1.2.3.4", 2**32 - 1, "112"), ("2001:db8:2::4", 2**32 - 1, "112")] if mode == "unreachable" else []
    assert unreachable(web) == expected

    web.osctl("ct", "start", "web")

    assert [web.ping(web.R, each) for each in ADDRESS.values()] == [3, 3]
    wait_until(lambda: "elements" not in in_set(web) + in_set(web, 6), "nothing is rejected any more", seconds=PLENTY)
    wait_until(lambda: not unreachable(web), "no route to nowhere is left", seconds=PLENTY)


@both_modes
def test_changes_of_a_stopped_container_change_what_is_rejected(web: Topology) -> None:
    stop(web)
    web.osctl(*ADD, "web", "eth0", "1.2.3.5", "2001:db8:2::5")
    web.osctl(*ADD, "--no-route", "web", "eth0", *UNROUTED.values())
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.4")

    is_rejected(web, "1.2.3.5", "2001:db8:2::5", "2001:db8:2::4")
    assert [rounds(web, each) > 10 for each in ("1.2.3.4", *UNROUTED.values())] == [True] * 3

    web.osctl("ct", "del", "web")
    wait_until(lambda: rounds(web, "1.2.3.5") > 10, "what is nobody's is as it was without osctl", seconds=PLENTY)


@both_modes
@pytest.mark.parametrize("end", ["stop_daemon", "kill_daemon"])
def test_a_container_that_ends_while_no_daemon_lives_is_seen_to_by_the_next(web: Topology, end: str) -> None:
    getattr(web, end)()
    power_off(web.run_dir, "web")

    web.start_daemon()

    is_rejected(web)


@both_modes
def test_a_daemon_that_is_killed_right_after_a_stop_leaves_it_to_the_next(web: Topology) -> None:
    stop(web)
    web.kill_daemon()

    web.start_daemon()

    is_rejected(web)
    web.kill_daemon()
    is_rejected(web)  # the kernel has it


@both_modes
@both_versions
def test_an_address_that_somebody_moved_to_another_host_is_reached_by_the_host_and_its_containers(
    web: Topology, mode: str, version: int
) -> None:
    address = ADDRESS[version]
    stop(web)
    is_rejected(web, address)
    web.ip(web.R, "addr", "add", f"{address}/{32 if version == 4 else 128}", "dev", "lo")

    if mode == "unreachable":
        assert web.ping(web.H, address, count=1) == 0  # until somebody says where it is
        web.ip(web.H, "route", "add", address, "via", ROUTER[version], "metric", "4000000")

    assert web.ping(web.H, address) == 3
    argv = ["ping", "-n", "-q", "-c", "1", "-W", "1", address]
    web.in_guest_network("beside", *argv)


@both_versions
def test_a_routing_daemon_that_brings_the_network_back_makes_no_loop(web: Topology, version: int) -> None:
    stop(web)
    is_rejected(web, ADDRESS[version])

    web.ip(web.H, "route", "add", ADDRESS[version], "via", ROUTER[version], "proto", "bird", "metric", "32")

    stays(lambda: rounds(web, ADDRESS[version]) == 1, 1.5)
    is_rejected(web, ADDRESS[version])


@both_modes
def test_a_part_that_another_container_has_is_reached_while_the_rest_is_rejected(web: Topology) -> None:
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24")
    web.new_container("part", via=["10.100.40.100/30"])
    web.osctl(*ADD, "--delegate", "part", "eth0", "10.5.5.7")
    stop(web)

    is_rejected(web, "10.5.5.8")
    assert web.ping(web.R, "10.5.5.7") == 3
    stop(web, "part")
    is_rejected(web, "10.5.5.7", "10.5.5.8")
    web.osctl("ct", "start", "web")
    web.osctl("ct", "start", "part")
    assert web.ping(web.R, "10.5.5.7") == 3


def test_whoever_takes_the_packet_filter_away_gets_it_back_filled(web: Topology) -> None:
    stop(web)
    is_rejected(web)

    web.in_namespace(web.H, "nft", "flush", "ruleset")
    is_rejected(web)
    web.in_namespace(web.H, "nft", "flush", "set", "inet", "osctl", "stopped4")
    is_rejected(web)


def test_the_setting_may_be_changed_while_containers_are_stopped(web: Topology) -> None:
    def holds(expected: tuple[int, bool]) -> bool:
        return (len(unreachable(web)), "elements" in in_set(web)) == expected

    stop(web)
    for mode, expected in (("unreachable", (2, False)), ("reject", (0, True)), ("none", (0, False))):
        web.stop_daemon()
        web.config.write_text(settings(mode))
        web.start_daemon()
        wait_until(functools.partial(holds, expected), mode, seconds=PLENTY)


def test_a_dry_run_says_what_is_rejected_and_what_no_more() -> None:
    with a_router("reject") as host:
        host.start_daemon()
        host.new_container("web", via=VIAS, addresses=[*ADDRESS.values(), "1.2.3.5"])

        stopping = host.osctl("--dry-run", "ct", "stop", "web").stdout.splitlines()
        stop(host)
        starting = host.osctl("--dry-run", "ct", "start", "web").stdout.splitlines()
        changing = host.osctl("--dry-run", *ADD, "web", "eth0", "1.2.3.9").stdout

    assert "nft add element inet osctl stopped4 '{ 1.2.3.4/31 }'" in stopping
    assert "nft add element inet osctl stopped6 '{ 2001:db8:2::4/128 }'" in stopping
    assert "nft delete element inet osctl stopped4 '{ 1.2.3.4/31 }'" in starting
    assert changing == "# on the host\nnft add element inet osctl stopped4 '{ 1.2.3.9/32 }'\n"


def test_a_dry_run_prints_routes_to_nowhere() -> None:
    with a_router("unreachable") as host:
        host.start_daemon()
        host.new_container("web", via=VIAS, addresses=[*ADDRESS.values()])

        stopping = host.osctl("--dry-run", "ct", "stop", "web").stdout.splitlines()
        stop(host)
        wait_until(lambda: len(unreachable(host)) == 2, "there are routes", seconds=PLENTY)
        starting = host.osctl("--dry-run", "ct", "start", "web").stdout.splitlines()

    assert "ip route add unreachable 1.2.3.4/32 proto 112 metric 4294967295" in stopping
    assert "ip -6 route add unreachable 2001:db8:2::4/128 proto 112 metric 4294967295" in stopping
    assert "ip route del unreachable 1.2.3.4/32 proto 112 metric 4294967295" in starting


@both_modes
@pytest.mark.time_limit(300)
def test_very_many_networks_are_rejected_after_the_answer_and_nobody_waits_for_it(web: Topology) -> None:
    # Every second address, so that they are no fewer networks.
    scattered = "".join(f"10.{128 + (n >> 15)}.{n >> 7 & 255}.{n << 1 & 255}/32\n" for n in range(100_000))
    for each in ("10.128.0.0/10",):
        web.ip(web.R, "route", "add", each, "via", "192.0.2.1")
    web.osctl("ct", "netif", "route", "add", "web", "eth0", "-", stdin=scattered)
    stop(web)
    last = "10.131.13.62"

    began = time.monotonic()
    assert web.osctl("ct", "ls").status == 0
    assert time.monotonic() - began < PLENTY
    is_rejected(web, "10.128.0.0", last)
    assert rounds(web, "10.128.0.1") > 10

    web.osctl("ct", "start", "web")
    wait_until(lambda: "elements" not in in_set(web), "nothing is rejected any more", seconds=120)
    wait_until(lambda: not unreachable(web), "no route to nowhere is left", seconds=120)
