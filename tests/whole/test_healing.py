"""What somebody changes by hand on the host's side is put back within a second, without anybody asking."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from whole.bare_daemon import BARE
from whole.host import Topology, differences, wait_until
from whole.monitor import events_of, everything, happened
from whole.old_kernel_daemon import OLD_KERNEL
from whole.pings import pings

pytestmark = pytest.mark.requires_kernel("nftables fib")

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESSES = ["1.2.3.4", "2001:db8:2::4"]
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def web() -> Iterator[Topology]:
    """One running container, web, with an address of each version; containers are bare namespaces."""
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        yield host


def processor_seconds(host: Topology) -> float:
    """What the daemon has used of processors so far; proc_pid_stat(5)."""
    fields = Path(f"/proc/{host.daemon_pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def settled(host: Topology) -> float:
    """Wait until the daemon has nothing to do any more; what it has used so far."""
    used = [processor_seconds(host)]

    def is_idle() -> bool:
        time.sleep(0.3)  # a stretch in which nothing happens is what is looked for
        used.append(processor_seconds(host))
        return used[-1] == used[-2]

    wait_until(is_idle, "the daemon is idle")
    return used[-1]


# --- put back ----------------------------------------------------------------------------------------------------

#: What is done to the host, with the host's link as {}, and words of what is told to have been put back.
CHANGES = {
    "an IPv4 route": ("ip route del 1.2.3.4", "route 1.2.3.4/32"),
    "an IPv6 route": ("ip -6 route del 2001:db8:2::4", "route 2001:db8:2::4/128"),
    "the network of the ends": ("ip route del 10.100.10.100/30 dev {}", "addr 10.100.10.101/30"),
    "the link-local network": ("ip -6 route del fe80::/64 dev {}", "addr fe80::1/64"),
    "addresses": ("ip addr flush dev {}", "addr 10.100.10.101/30"),
    "neighbours": ("ip neigh flush dev {} nud permanent", "neigh 10.100.10.102"),
    "a neighbour's state": ("ip neigh replace 10.100.10.102 dev {} lladdr 02:00:00:00:00:07 nud stale", "neigh"),
    "its own address": ("ip link set {} address 02:00:00:00:00:07", "link {}"),
    "down": ("ip link set {} down", "link {}"),
    "MTU": ("ip link set {} mtu 1400", "link {}"),
    "group": ("ip link set {} group default", "link {}"),
    "a route too many": ("ip route add 203.0.113.9 dev {} proto 111", "route 203.0.113.9"),
    "an address too many": ("ip addr add 10.77.0.1/24 dev {}", "addr 10.77.0.1/24"),
    "rp_filter": ("sysctl -qw net/ipv4/conf/{}/rp_filter=2", "net.ipv4.conf.{}.rp_filter = 1"),
    "forwarding": ("sysctl -qw net/ipv4/conf/{}/forwarding=0", "net.ipv4.conf.{}.forwarding = 1"),
    "address generation": ("ip link set {} addrgenmode eui64", "net.ipv6.conf.{}.addr_gen_mode = 1"),
    "forwarding of an uplink": ("sysctl -qw net/ipv4/conf/up0/forwarding=0", "net.ipv4.conf.up0.forwarding = 1"),
    "forwarding of IPv6": ("sysctl -qw net/ipv6/conf/all/forwarding=0", "net.ipv6.conf.all.forwarding = 1"),
    "the firewall": ("nft flush ruleset", "table inet osctl"),
    "a table": ("nft delete table inet osctl", "table inet osctl"),
    "the table for ARP": ("nft delete table arp osctl", "table inet osctl"),
    "the table for bridges": ("nft delete table bridge osctl", "table inet osctl"),
    "the rules": ("nft flush table inet osctl", "table inet osctl"),
    "elements": ("nft flush set inet osctl own", ""),
}


@pytest.mark.parametrize(("command", "words"), CHANGES.values(), ids=list(CHANGES))
def test_what_is_changed_by_hand_on_the_host_is_put_back_within_a_second_and_told(
    web: Topology, command: str, words: str
) -> None:
    before, veth = web.comparable_state("web"), web.veth("web")
    is_of_host = any(word in command for word in ("up0", "all", "nft"))
    with everything(web) as listener:
        web.in_namespace(web.H, *command.format(veth).split())
        wait_until(lambda: events_of(listener, "mended"), "an event tells", seconds=1)

        wait_until(lambda: not differences(before, web.comparable_state("web")), "it is as it was", seconds=1)
        (told,) = events_of(listener, "mended")

    assert told["id"] == (None if is_of_host and words else "web")
    assert words.format(veth) in json.dumps(told["what"])
    assert web.osctl_json("self", "status")["drift"] == []


def test_a_firewall_that_is_flushed_cuts_nobody_off(web: Topology) -> None:
    web.new_container("other", via=["10.100.10.96/30"], addresses=["1.2.3.5"])
    before = web.comparable_state("web", "other")
    with pings(web, *ADDRESSES, "1.2.3.5") as counts:
        for _ in range(3):
            web.in_namespace(web.H, "nft", "flush", "ruleset")
            wait_until(lambda: not differences(before, web.comparable_state("web", "other")), "it is back", seconds=1)

    assert all(sent - answered <= 1 and answered > 10 for sent, answered in counts.values()), counts


def test_a_start_after_the_firewall_was_flushed_cuts_nobody_off(web: Topology) -> None:
    web.new_container("other", via=["10.100.10.96/30"], start=False)
    web.in_namespace(web.H, "nft", "flush", "ruleset")

    web.osctl("ct", "start", "other")

    assert all(web.ping(web.R, address) == 3 for address in ADDRESSES)
    assert "table inet osctl" in web.in_namespace(web.H, "nft", "list", "tables").stdout


def test_very_many_routes_that_are_put_back_are_told_by_their_number(web: Topology) -> None:
    many = [f"20.0.{number >> 8}.{number & 255}/32" for number in range(3000)]
    web.osctl("ct", "netif", "route", "add", "web", "eth0", *many)
    before, veth = web.comparable_state("web"), web.veth("web")
    with everything(web) as listener:
        web.ip(web.H, "link", "set", veth, "down")
        wait_until(lambda: events_of(listener, "mended"), "it is told")
        (told,) = events_of(listener, "mended")

    assert not differences(before, web.comparable_state("web"))
    assert isinstance(told["what"], list)
    assert f"repaired 3001 routes via 10.100.10.102 dev {veth} proto 111" in told["what"]
    assert len(told["what"]) < 20


def test_what_is_changed_while_an_edit_is_under_way_is_put_back_too(web: Topology) -> None:
    before = web.comparable_state("web")
    many = [f"20.{number >> 8}.{number & 255}.0/24" for number in range(3000)]

    web.osctl("ct", "netif", "route", "add", "web", "eth0", *many)
    web.ip(web.H, "route", "del", "1.2.3.4")
    web.osctl("ct", "netif", "route", "del", "web", "eth0", *many)

    wait_until(lambda: not differences(before, web.comparable_state("web")), "it is as it was", seconds=1)


def test_an_uplink_that_comes_later_is_made_to_forward_at_once(web: Topology) -> None:
    web.ip(web.H, "link", "add", "up1", "type", "veth", "peer", "name", "up1-far")
    web.ip(web.H, "addr", "add", "198.18.7.1/24", "dev", "up1")
    for each in ("up1", "up1-far"):
        web.ip(web.H, "link", "set", each, "up")
    assert web.sysctl(web.H, "net/ipv4/conf/up1/forwarding") == "0"

    web.ip(web.H, "route", "add", "default", "via", "198.18.7.2", "metric", "50")

    wait_until(lambda: web.sysctl(web.H, "net/ipv4/conf/up1/forwarding") == "1", "it forwards", seconds=1)


def test_our_links_take_the_mtu_of_an_uplink_that_gets_another(web: Topology) -> None:
    web.ip(web.H, "link", "set", "up0", "mtu", "1400")

    def mtu() -> int:
        (link,) = web.ip_json(web.H, "link", "show", "dev", web.veth("web"))
        return int(link["mtu"])

    wait_until(lambda: mtu() == 1400, "our link has it too", seconds=1)


# --- left alone --------------------------------------------------------------------------------------------------


def test_routes_of_others_through_our_links_are_kept(web: Topology) -> None:
    veth = web.veth("web")
    web.ip(web.H, "route", "add", "203.0.113.7", "dev", veth, "proto", "static")
    web.ip(web.H, "route", "add", "203.0.113.8", "via", "10.100.10.102", "proto", "bird")

    web.ip(web.H, "route", "del", "1.2.3.4")
    wait_until(lambda: web.ip_json(web.H, "route", "show", "1.2.3.4"), "ours is back", seconds=1)

    for network, protocol in (("203.0.113.7", "static"), ("203.0.113.8", "bird")):
        (route,) = web.ip_json(web.H, "route", "show", network)
        assert (route["dev"], route["protocol"]) == (veth, protocol)


@pytest.mark.parametrize("program", [BARE, OLD_KERNEL], ids=["while it is up", "an old kernel"])
def test_a_link_that_somebody_renames_gets_its_name_back_with_all_that_is_on_it(program: Sequence[str]) -> None:
    with Topology(program=program) as host:
        host.new_container("web", via=VIAS, addresses=ADDRESSES)
        before, veth = host.comparable_state("web"), host.veth("web")
        index = host.ip_json(host.H, "link", "show", "dev", veth)[0]["ifindex"]

        host.ip(host.H, "link", "set", veth, "name", "osmine")

        wait_until(lambda: not differences(before, host.comparable_state("web")), "it is as it was", seconds=2)
        assert host.ip_json(host.H, "link", "show", "dev", veth)[0]["ifindex"] == index
        assert all(host.ping(host.R, each) == 3 for each in ADDRESSES)
        assert host.osctl("net", "reconcile").stdout == "nothing to repair\n"


def test_a_link_that_is_made_anew_under_its_name_is_taken_for_what_it_is(web: Topology) -> None:
    """By us, after somebody deleted it, three times: each time under another number."""
    web.osctl("ct", "netif", "set", "--guest", "enforce", "web", "eth0")
    before, veth = web.comparable_state("web"), web.veth("web")
    numbers = set()
    for _ in range(3):
        numbers.add(web.ip_json(web.H, "link", "show", "dev", veth)[0]["ifindex"])
        web.ip(web.H, "link", "del", veth)
        wait_until(lambda: not differences(before, web.comparable_state("web")), "it is as it was", seconds=2)

    assert len(numbers) == 3
    assert all(web.ping(web.R, each) == 3 for each in ADDRESSES)


def test_a_link_of_somebody_elses_under_our_name_is_never_touched(web: Topology) -> None:
    veth = web.veth("web")
    web.ip(web.H, "link", "set", veth, "name", "away", check=False)
    # Whoever is faster: a daemon that found its link gone may have made it anew.
    web.ip(web.H, "link", "del", "away", check=False)
    web.ip(web.H, "link", "del", veth, check=False)
    theirs = web.directory / "theirs"
    theirs.write_text(f"link add {veth} type veth peer name theirs\naddr add 10.200.0.1/30 dev {veth}\n")

    def is_theirs() -> bool:
        web.ip(web.H, "link", "del", veth, check=False)
        web.ip(web.H, "-batch", str(theirs), check=False)
        (link,) = web.ip_json(web.H, "addr", "show", "dev", veth)
        return [each["local"] for each in link["addr_info"]] == ["10.200.0.1"]

    wait_until(is_theirs, "somebody has made a link of the name")
    web.ip(web.H, "link", "set", veth, "up")
    said = web.osctl("net", "reconcile", "web", check=False)

    assert said.status == 1
    assert veth in said.stderr
    (link,) = web.ip_json(web.H, "addr", "show", "dev", veth)
    assert "10.200.0.1" in [each["local"] for each in link["addr_info"]]
    assert web.ip_json(web.H, "route", "show", "1.2.3.4") == []

    web.ip(web.H, "link", "del", veth)
    wait_until(lambda: web.ip_json(web.H, "route", "show", "1.2.3.4"), "ours is back", seconds=1.5)


def test_a_dry_run_of_a_reconcile_tells_of_leftovers_and_strayed_links_too(web: Topology) -> None:
    veth = web.veth("web")

    def is_told(command: str, *lines: str) -> bool:
        """Whether a dry run was faster than the daemon that hears of the change."""
        web.in_namespace(web.H, *command.split(), check=False)
        told = web.osctl("net", "reconcile", "--dry-run").stdout.splitlines()
        return set(lines) <= set(told)

    add = "ip link add osleft-eth0 group 111 type veth peer name left"
    wait_until(lambda: is_told(add, "# on the host", "ip link del dev osleft-eth0"), "a leftover is told")
    strays = f"ip link set {veth} name away"
    later = "# then the differences in container web and on its host side"
    wait_until(lambda: is_told(strays, f"ip link set dev away name {veth}", later), "a strayed link is told")

    def names() -> set[str]:
        return {each["ifname"] for each in web.ip_json(web.H, "link", "show")}

    wait_until(lambda: veth in names() and "osleft-eth0" not in names(), "all has been mended")


# --- inside ------------------------------------------------------------------------------------------------------


def test_a_link_that_a_guest_takes_down_is_told_and_left_so(web: Topology) -> None:
    with everything(web) as listener:
        web.in_guest_network("web", "ip", "link", "set", "eth0", "down")
        wait_until(lambda: events_of(listener, "drift"), "it is told", seconds=3)
        told = events_of(listener, "drift")[-1]

    assert told["id"] == "web"
    assert any("eth0" in each for each in web.osctl_json("self", "status")["drift"])
    (link,) = web.guest_ip_json("web", "link", "show", "dev", "eth0")
    assert "UP" not in link["flags"]


def test_a_link_that_a_guest_takes_down_comes_up_again_where_that_is_enforced(web: Topology) -> None:
    web.osctl("ct", "netif", "set", "--guest", "enforce", "web", "eth0")
    before = web.comparable_state("web")

    web.in_guest_network("web", "ip", "link", "set", "eth0", "down")

    wait_until(lambda: not differences(before, web.comparable_state("web")), "it is as it was", seconds=3)
    assert all(web.ping(web.R, each) == 3 for each in ADDRESSES)


def test_a_container_that_stops_and_one_that_starts_are_not_mended_half_way(web: Topology) -> None:
    before = web.comparable_state("web")
    with everything(web) as listener:
        for _ in range(5):
            web.osctl("ct", "stop", "-k", "web")
            web.osctl("ct", "start", "web")
        for each in ("stop", "start"):
            web.osctl("ct", each, "web")
        told = [each for each in happened(listener) if each["type"] in ("mended", "fight", "drift")]

    assert not told
    assert not [line for line in web.log_text().splitlines() if line.startswith("ERROR")]
    wait_until(lambda: not differences(before, web.comparable_state("web")), "it is as it was", seconds=2)


# --- what it costs -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ten_times_a_second(host: Topology, *argv: str) -> Iterator[Callable[[], int]]:
    """Somebody who does something ten times a second; how often it was done so far with success."""
    script = 'while :; do "$@" 2>/dev/null && echo; sleep 0.1; done'
    done = host.directory / "done"
    with done.open("wb") as output:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{host.H}", "sh", "-c", script, "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        yield lambda: done.stat().st_size
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("argv", "place"),
    [(("ip", "route", "del", "1.2.3.4"), "web"), (("nft", "delete", "table", "inet", "osctl"), None)],
    ids=["a route", "the firewall"],
)
def test_who_changes_the_same_again_and_again_is_told_of_and_costs_little(
    web: Topology, argv: Sequence[str], place: str | None
) -> None:
    before = web.comparable_state("web")
    with everything(web) as listener:
        with ten_times_a_second(web, *argv) as done:
            wait_until(lambda: events_of(listener, "fight"), "a fight is told", seconds=5)
            assert done() > 5
            used, began = processor_seconds(web), time.monotonic()
            wait_until(lambda: time.monotonic() > began + 4, "it goes on for a while")
            share = (processor_seconds(web) - used) / (time.monotonic() - began)
            assert len(events_of(listener, "mended")) < 20

        # Then it is left to the other one for some seconds at most, and whole again.
        wait_until(lambda: not differences(before, web.comparable_state("web")), "it is as it was", seconds=20)
        (told,) = events_of(listener, "fight")

    assert told["id"] == place
    assert share < 0.05


def test_a_daemon_with_nothing_to_do_does_nothing(web: Topology) -> None:
    used, began = settled(web), time.monotonic()

    wait_until(lambda: time.monotonic() > began + 3, "time has passed")

    # In whole ticks: of two sums in seconds the difference is a little more than one.
    assert round((processor_seconds(web) - used) * TICKS) <= 1


def test_ten_thousand_routes_of_somebody_else_cost_the_daemon_nothing(web: Topology) -> None:
    routes = (f"route add 20.{number >> 8}.{number & 255}.0/24 via 192.0.2.2 proto bird" for number in range(10_000))
    file = web.directory / "routes"
    file.write_text("\n".join(routes))
    used = settled(web)

    web.ip(web.H, "-batch", str(file))

    assert round((settled(web) - used) * TICKS) <= 2


def test_a_storm_of_changes_is_survived_at_a_bounded_price(web: Topology) -> None:
    """Of our protocol, on a link that is not ours: as much as can be heard, and of no consequence."""
    web.ip(web.H, "link", "set", "lo", "up")
    script = (f"route {verb} 20.{number}.0.0/16 dev lo proto 111" for number in range(250) for verb in ("add", "del"))
    file = web.directory / "storm"
    file.write_text("\n".join(script))
    with ten_times_a_second(web, "ip", "-batch", str(file)) as done:
        wait_until(lambda: done() > 2, "the storm blows")
        used, began = processor_seconds(web), time.monotonic()
        wait_until(lambda: done() > 20, "the storm has blown for a while", seconds=30)
        share = (processor_seconds(web) - used) / (time.monotonic() - began)

        web.ip(web.H, "route", "del", "1.2.3.4")
        wait_until(lambda: web.ip_json(web.H, "route", "show", "1.2.3.4"), "ours is back all the same", seconds=1)

    assert share < 0.35
