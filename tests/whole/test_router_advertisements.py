"""A host that forwards for containers hears routers as it did before: on every link, whenever that comes.

The links of these tests lead from H to a router in R that speaks only when it is asked.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from whole.advertising_router import AdvertisingRouter
from whole.bare_daemon import BARE
from whole.host import Topology, wait_until

PREFIX = "2001:db8:77::"
VIA = "10.100.10.100/30"
PUT_BACK = Path(__file__).parents[2] / "packaging/put-back"


@pytest.fixture
def unrouted() -> Iterator[Topology]:
    """A host without a default route of IPv6, and no container yet."""
    with Topology(program=BARE) as topology:
        topology.ip(topology.H, "-6", "route", "del", "default")
        yield topology


def forward(host: Topology) -> None:
    """Have somebody to forward for."""
    host.new_container("web", via=[VIA])


def add_link(host: Topology, name: str = "late0", *, carrier: bool = False) -> None:
    """A link of H that is up, and whose other end `far0` in R is not, so that there is no carrier."""
    host.ip(host.H, "link", "add", name, "type", "veth", "peer", "name", "far0", "netns", host.R)
    host.ip(host.R, "addr", "add", "fe80::77/64", "dev", "far0", "nodad")
    host.ip(host.H, "link", "set", name, "up")
    if carrier:
        give_carrier(host)


def give_carrier(host: Topology) -> None:
    host.ip(host.R, "link", "set", "far0", "up")


def router(host: Topology) -> AdvertisingRouter:
    return AdvertisingRouter(host.R, "far0", prefix=PREFIX)


def accept_ra(host: Topology, link: str, value: str | None = None) -> str:
    return host.sysctl(host.H, f"net/ipv6/conf/{link}/accept_ra", value)


def advertised(host: Topology, link: str) -> list[dict[str, Any]]:
    """Default routes that the kernel made of advertisements."""
    routes = host.ip_json(host.H, "-6", "route", "show", "default", "dev", link)
    return [each for each in routes if each["protocol"] == "ra"]


def has_ipv6(host: Topology, link: str) -> bool:
    addresses = host.ip_json(host.H, "-6", "addr", "show", "dev", link)
    has_address = any(each["local"].startswith("2001:db8:77:") for one in addresses for each in one["addr_info"])
    return has_address and bool(advertised(host, link))


def is_reached_from(host: Topology, link: str) -> None:
    wait_until(lambda: has_ipv6(host, link), f"{link} has an address and a default route")


def findings(host: Topology, *codes: str) -> list[dict[str, Any]]:
    told = json.loads(host.osctl("-j", "self", "check", check=False).stdout)
    return [each for each in told if each["code"] in codes]


def run_commands(host: Topology, commands: list[str]) -> None:
    for each in commands:
        words = each.split()
        if words[0] == "osctl":
            host.osctl(*words[1:])
        else:
            host.in_namespace(host.H, *words)


def test_a_carrier_that_comes_after_forwarding_brings_address_and_default_route(unrouted: Topology) -> None:
    add_link(unrouted)
    assert accept_ra(unrouted, "late0") == "1"
    forward(unrouted)

    with router(unrouted) as asked:
        give_carrier(unrouted)
        is_reached_from(unrouted, "late0")

    assert asked.solicited
    assert (accept_ra(unrouted, "late0"), accept_ra(unrouted, "default")) == ("2", "2")
    assert unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding") == "1"


def test_a_link_that_comes_after_forwarding_has_address_and_default_route(unrouted: Topology) -> None:
    forward(unrouted)

    add_link(unrouted)

    with router(unrouted) as asked:
        give_carrier(unrouted)
        is_reached_from(unrouted, "late0")
        assert asked.solicited


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_link_may_be_renamed_at_any_time(unrouted: Topology, when: str) -> None:
    add_link(unrouted, "eth0")
    if when == "after":
        forward(unrouted)
    unrouted.ip(unrouted.H, "link", "set", "eth0", "down")
    unrouted.ip(unrouted.H, "link", "set", "eth0", "name", "enp1s0.7")
    unrouted.ip(unrouted.H, "link", "set", "enp1s0.7", "up")
    if when == "before":
        forward(unrouted)

    with router(unrouted):
        give_carrier(unrouted)
        is_reached_from(unrouted, "enp1s0.7")


def test_a_link_may_be_moved_in_from_another_namespace(unrouted: Topology) -> None:
    forward(unrouted)
    unrouted.ip(unrouted.R, "link", "add", "moved0", "type", "veth", "peer", "name", "far0")
    unrouted.ip(unrouted.R, "link", "set", "moved0", "netns", unrouted.H)
    unrouted.ip(unrouted.H, "link", "set", "moved0", "up")

    with router(unrouted):
        give_carrier(unrouted)
        is_reached_from(unrouted, "moved0")


def test_what_links_take_over_may_be_set_back_and_nobody_tells(unrouted: Topology) -> None:
    forward(unrouted)
    # As `sysctl --system` does from a file that a package brings.
    accept_ra(unrouted, "default", "1")

    # Without detection of duplicates it is too late at once: the kernel would not ask any more.
    assert unrouted.sysctl(unrouted.H, "net/ipv6/conf/default/accept_dad") == "0"
    unrouted.ip(unrouted.R, "link", "add", "late0", "type", "veth", "peer", "name", "far0")
    give_carrier(unrouted)
    with router(unrouted) as asked:
        unrouted.ip(unrouted.R, "link", "set", "late0", "netns", unrouted.H)
        unrouted.ip(unrouted.H, "link", "set", "late0", "up")
        is_reached_from(unrouted, "late0")

    assert asked.solicited
    assert (accept_ra(unrouted, "late0"), accept_ra(unrouted, "default")) == ("2", "2")


def test_a_tool_that_sets_one_on_a_link_is_heard_by_what_else_it_does_there(unrouted: Topology) -> None:
    forward(unrouted)
    add_link(unrouted, carrier=True)
    # Settled: from here on only the tool does something.
    wait_until(lambda: unrouted.ip_json(unrouted.H, "-6", "addr", "show", "dev", "late0"), "late0 is up")

    with router(unrouted) as asked:
        # ifupdown's `inet6 dhcp`: the setting, then the link, then what DHCP said.
        accept_ra(unrouted, "late0", "1")
        unrouted.ip(unrouted.H, "addr", "add", "198.51.100.77/24", "dev", "late0")
        is_reached_from(unrouted, "late0")

    assert asked.solicited
    assert accept_ra(unrouted, "late0") == "2"
    assert "late0: router solicitation sent" in unrouted.log_text()


def test_who_leaves_advertisements_to_another_program_is_left_alone(unrouted: Topology) -> None:
    accept_ra(unrouted, "up0", "0")
    forward(unrouted)
    add_link(unrouted, carrier=True)

    accept_ra(unrouted, "late0", "0")
    unrouted.ip(unrouted.H, "addr", "add", "198.51.100.77/24", "dev", "late0")
    accept_ra(unrouted, "default", "1")
    unrouted.osctl("net", "reconcile")

    # That it looked is seen by the other setting.
    assert (accept_ra(unrouted, "default"), accept_ra(unrouted, "late0"), accept_ra(unrouted, "up0")) == ("2", "0", "0")


@contextlib.contextmanager
def watched_routes(host: Topology) -> Iterator[list[str]]:
    """All that `ip monitor` tells of IPv6 routes of H from the beginning of the block to its end."""
    lines: list[str] = []
    watching = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{host.H}", "ip", "-6", "monitor", "route"], stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(watching.stdout,))
    reader.start()

    def mark(network: str) -> bool:
        host.ip(host.H, "-6", "route", "replace", "unreachable", network)
        host.ip(host.H, "-6", "route", "del", "unreachable", network)
        return any(network in line for line in lines)

    try:
        wait_until(lambda: mark("2001:db8:beef::/48"), "the beginning is seen")
        yield lines
        wait_until(lambda: mark("2001:db8:dead::/48"), "the end is seen")
    finally:
        watching.kill()
        watching.wait()
        reader.join()
        watching.stdout.close()


def test_an_advertised_default_route_is_there_at_every_moment_when_forwarding_is_switched_on(
    unrouted: Topology,
) -> None:
    add_link(unrouted)
    with router(unrouted):
        give_carrier(unrouted)
        is_reached_from(unrouted, "late0")
        assert unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding") == "0"

        with watched_routes(unrouted) as lines:
            forward(unrouted)
            assert unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding") == "1"

        assert not [line for line in lines if line.startswith("Deleted default")]
        assert has_ipv6(unrouted, "late0")


def all_settings(host: Topology) -> list[str]:
    places = "/proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf"
    return host.in_namespace(host.H, "grep", "-rs", ".", *places.split(), check=False).stdout.splitlines()


def test_a_host_without_containers_is_left_alone_whatever_comes(unrouted: Topology) -> None:
    before = all_settings(unrouted)

    unrouted.restart_daemon()
    unrouted.osctl("net", "reconcile")
    add_link(unrouted, carrier=True)
    unrouted.osctl("net", "reconcile")

    assert [line for line in all_settings(unrouted) if "/late0/" not in line] == before
    assert accept_ra(unrouted, "late0") == "1"
    assert findings(unrouted, "no-forwarding", "accept-ra") == []
    assert unrouted.osctl("--dry-run", "net", "reconcile").stdout == "# nothing to change\n"


def test_what_was_changed_stays_when_the_last_container_is_gone_and_can_be_put_back(unrouted: Topology) -> None:
    before = all_settings(unrouted)
    forward(unrouted)
    unrouted.osctl("ct", "del", "-f", "web")
    assert unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding") == "1"

    unrouted.in_namespace(unrouted.H, "sysctl", "-q", "-p", str(unrouted.run_dir / "host-settings.conf"))

    assert all_settings(unrouted) == before
    # Nobody is there to forward for.
    unrouted.osctl("net", "reconcile")
    assert all_settings(unrouted) == before


def put_back(host: Topology) -> str:
    """What `./dev uninstall` and the package do when they take osctl away, and what they say."""
    assert host.stop_daemon() == 0
    done = host.in_namespace(host.H, str(PUT_BACK), str(host.run_dir))
    assert done.stdout == ""
    return done.stderr


def tables(host: Topology) -> str:
    return host.in_namespace(host.H, "nft", "list", "tables").stdout


def test_what_was_changed_is_put_back_when_osctl_is_taken_away_and_routers_are_heard_all_the_time(
    unrouted: Topology,
) -> None:
    add_link(unrouted, carrier=True)
    before = all_settings(unrouted)
    forward(unrouted)
    assert accept_ra(unrouted, "late0") == "2"
    with router(unrouted):
        is_reached_from(unrouted, "late0")
        unrouted.osctl("ct", "stop", "-k", "web")
        with watched_routes(unrouted) as lines:
            said = put_back(unrouted)
        is_reached_from(unrouted, "late0")

    assert said == ""
    assert all_settings(unrouted) == before
    assert tables(unrouted) == ""
    assert not [line for line in lines if line.startswith("Deleted default")]
    # From now on forwarding is not what a daemon has switched on, though one ran on this boot.
    unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding", "1")
    unrouted.start_daemon()
    unrouted.osctl("ct", "start", "web")
    assert accept_ra(unrouted, "late0") == "1"


def test_while_a_container_runs_taking_osctl_away_changes_nothing_and_says_so(unrouted: Topology) -> None:
    forward(unrouted)
    before, filters = all_settings(unrouted), tables(unrouted)

    said = put_back(unrouted)

    assert (all_settings(unrouted), tables(unrouted)) == (before, filters)
    assert said.splitlines() == [
        "osctl: containers are running: forwarding, accept_ra and the packet filter stay until the next boot",
        f"osctl: once none is running, restore settings with: sysctl -p {unrouted.run_dir}/host-settings.conf",
    ]


def test_what_somebody_else_has_set_since_is_not_put_back(unrouted: Topology) -> None:
    add_link(unrouted, carrier=True)
    forward(unrouted)
    unrouted.osctl("ct", "stop", "-k", "web")
    accept_ra(unrouted, "up0", "0")
    unrouted.ip(unrouted.H, "link", "del", "late0")

    assert put_back(unrouted) == ""

    assert (accept_ra(unrouted, "up0"), accept_ra(unrouted, "default")) == ("0", "1")


def test_a_host_that_osctl_never_changed_is_left_alone_when_it_is_taken_away(unrouted: Topology) -> None:
    before = all_settings(unrouted)

    assert put_back(unrouted) == ""

    assert (all_settings(unrouted), tables(unrouted)) == (before, "")


def test_where_others_had_switched_forwarding_on_only_a_check_tells(unrouted: Topology) -> None:
    unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding", "1")
    add_link(unrouted)
    forward(unrouted)
    unrouted.restart_daemon()
    give_carrier(unrouted)
    unrouted.osctl("net", "reconcile")

    (finding,) = findings(unrouted, "accept-ra")

    assert {accept_ra(unrouted, each) for each in ("late0", "up0", "default")} == {"1"}
    assert finding["severity"] == "warning"
    with router(unrouted):
        run_commands(unrouted, [*finding["commands"], "osctl net reconcile"])
        is_reached_from(unrouted, "late0")
    assert findings(unrouted, "accept-ra", "no-advertised-route") == []


def test_after_a_restart_it_is_known_who_switched_forwarding_on(unrouted: Topology) -> None:
    forward(unrouted)
    unrouted.restart_daemon()
    accept_ra(unrouted, "default", "1")

    add_link(unrouted)

    wait_until(lambda: accept_ra(unrouted, "late0") == "2", "the new link takes advertisements")


def test_without_managed_forwarding_a_start_and_a_check_tell_what_to_do_in_a_safe_order(unrouted: Topology) -> None:
    unrouted.config.write_text("[host]\nmanage_forwarding = false\n")
    unrouted.restart_daemon()
    add_link(unrouted)
    with router(unrouted):
        give_carrier(unrouted)
        is_reached_from(unrouted, "late0")
        unrouted.new_container("web", via=[VIA], start=False)
        before = all_settings(unrouted)

        told = unrouted.osctl("ct", "start", "web").stdout
        found = findings(unrouted, "no-forwarding")

        assert [line for line in all_settings(unrouted) if "/osweb" not in line] == before
        commands = [line.rpartition(": ")[2] for line in told.splitlines() if "manage_forwarding" in line]
        assert [each for one in found for each in one["commands"] if "ipv6" in each] == [
            each for each in commands if "ipv6" in each
        ]
        assert commands[-1] == "sysctl -w net.ipv6.conf.all.forwarding=1"
        run_commands(unrouted, [each for one in found for each in one["commands"]])
        assert findings(unrouted, "no-forwarding", "accept-ra", "advertised-route", "no-advertised-route") == []
        assert has_ipv6(unrouted, "late0")


def test_a_lost_default_route_is_found_and_the_commands_bring_it_back(unrouted: Topology) -> None:
    unrouted.config.write_text("[host]\nmanage_forwarding = false\n")
    unrouted.restart_daemon()
    forward(unrouted)
    add_link(unrouted)
    with router(unrouted):
        give_carrier(unrouted)
        is_reached_from(unrouted, "late0")
        unrouted.sysctl(unrouted.H, "net/ipv6/conf/all/forwarding", "1")
        assert not advertised(unrouted, "late0")

        (finding,) = findings(unrouted, "advertised-route")

        assert finding["severity"] == "error"
        assert "late0 has lost" in finding["what"]
        run_commands(unrouted, finding["commands"])
        is_reached_from(unrouted, "late0")
        assert findings(unrouted, "advertised-route", "no-advertised-route") == []


def test_a_default_route_that_somebody_deleted_is_found_and_asked_for(unrouted: Topology) -> None:
    add_link(unrouted)
    with router(unrouted):
        give_carrier(unrouted)
        is_reached_from(unrouted, "late0")
        forward(unrouted)
        unrouted.ip(unrouted.H, "-6", "route", "del", "default", "dev", "late0")

        (finding,) = findings(unrouted, "no-advertised-route")

        assert finding["severity"] == "warning"
        run_commands(unrouted, finding["commands"])
        is_reached_from(unrouted, "late0")
        assert findings(unrouted, "no-advertised-route") == []


def test_a_link_that_becomes_the_uplink_later_forwards_ipv4(unrouted: Topology) -> None:
    forward(unrouted)
    add_link(unrouted, carrier=True)
    unrouted.ip(unrouted.H, "addr", "add", "198.18.77.1/24", "dev", "late0")
    assert unrouted.sysctl(unrouted.H, "net/ipv4/conf/late0/forwarding") == "0"

    unrouted.ip(unrouted.H, "route", "add", "default", "via", "198.18.77.2", "metric", "50")

    wait_until(lambda: unrouted.sysctl(unrouted.H, "net/ipv4/conf/late0/forwarding") == "1", "late0 forwards")


def test_a_tool_that_insists_is_told_of_and_the_link_hears_routers_in_the_end(unrouted: Topology) -> None:
    forward(unrouted)
    add_link(unrouted, carrier=True)

    def insisted() -> bool:
        accept_ra(unrouted, "late0", "1")
        unrouted.ip(unrouted.H, "link", "set", "late0", "mtu", "1400")
        unrouted.ip(unrouted.H, "link", "set", "late0", "mtu", "1500")
        return "forwarding: repeatedly changed by somebody else" in unrouted.log_text()

    wait_until(insisted, "it is told as a fight", seconds=30)

    wait_until(lambda: accept_ra(unrouted, "late0") == "2", "it is set again", seconds=30)


def test_links_that_come_and_go_while_it_looks_disturb_nothing(unrouted: Topology) -> None:
    accept_ra(unrouted, "default", "1")
    storm = """
        for each in $(seq 50); do
            echo 1 >/proc/sys/net/ipv6/conf/default/accept_ra
            ip link add storm$each type veth peer name mrots$each
            ip link del storm$each
        done
    """
    unrouted.new_container("web", via=[VIA], start=False)

    unrouted.in_namespace(unrouted.H, "sh", "-ec", storm)
    unrouted.osctl("ct", "start", "web")
    unrouted.in_namespace(unrouted.H, "sh", "-ec", storm)

    # What was set back so often is a fight, with pauses.
    wait_until(lambda: accept_ra(unrouted, "default") == "2", "it is set again", seconds=40)
    assert "ERROR" not in unrouted.log_text()
