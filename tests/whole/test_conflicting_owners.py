"""Two who want the same of the host: a route to one address, a link's state, its name."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.bare_daemon import BARE
from whole.bystander import Bystander
from whole.host import Topology, differences, stays, wait_until
from whole.monitor import events_of, everything

pytestmark = pytest.mark.requires_kernel("nftables fib")

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESS = {4: "1.2.3.4", 6: "2001:db8:2::4"}
NETWORK = {4: "1.2.3.4/32", 6: "2001:db8:2::4/128"}
#: The link by which the other owner routes it.
THEIRS = "other0"
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def web() -> Iterator[Topology]:
    """One running container, web, with an address of each version, and a link of somebody else's."""
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=list(ADDRESS.values()))
        host.ip(host.H, "link", "add", THEIRS, "type", "veth", "peer", "name", "other1")
        for each in (THEIRS, "other1"):
            host.ip(host.H, "link", "set", each, "up")
        yield host


def ip(version: int) -> tuple[str, ...]:
    return ("-6",) if version == 6 else ()


def links_to(host: Topology, version: int) -> list[str]:
    """The links by which there are routes to the address, the one that the kernel takes first."""
    routes = host.ip_json(host.H, *ip(version), "route", "show", "root", NETWORK[version])
    return [each["dev"] for each in sorted(routes, key=lambda route: route.get("metric", 0))]


def is_answered(host: Topology, version: int) -> bool:
    return host.ping(host.R, ADDRESS[version], count=1) == 1


# --- a route: the winner or the loser goes, or the link of one of them goes down ------------------------------------


def theirs_wins(host: Topology, version: int) -> None:
    """In IPv4 there is one route of a metric, and ours has the best; in IPv6 theirs has a better one."""
    if version == 4:
        host.ip(host.H, "route", "replace", NETWORK[4], "dev", THEIRS)
        wait_until(lambda: host.osctl_json("ct", "netif", "show", "web", "eth0")["blocked"], "ours is told as blocked")
    else:
        host.ip(host.H, "-6", "route", "add", NETWORK[6], "dev", THEIRS, "metric", "1")
    assert links_to(host, version)[0] == THEIRS


def is_as_before(host: Topology, version: int) -> bool:
    return links_to(host, version) == [host.veth("web")] and is_answered(host, version)


@pytest.mark.parametrize("version", [4, 6])
def test_the_winner_s_route_is_removed(web: Topology, version: int) -> None:
    bystander = Bystander(web)
    with bystander.unharmed():
        theirs_wins(web, version)
        stays(lambda: links_to(web, version)[0] == THEIRS, 1.5)  # nobody fights about it

        web.ip(web.H, *ip(version), "route", "del", NETWORK[version], "dev", THEIRS)

        wait_until(lambda: links_to(web, version) == [web.veth("web")], "ours leads there again", seconds=1)
        assert is_as_before(web, version)
        stays(lambda: links_to(web, version) == [web.veth("web")], 1.5)


def test_the_loser_s_route_is_removed(web: Topology) -> None:
    """Of IPv6 only: of IPv4 the loser has none."""
    bystander = Bystander(web)
    with bystander.unharmed():
        theirs_wins(web, 6)

        web.ip(web.H, "-6", "route", "del", NETWORK[6], "dev", web.veth("web"))

        wait_until(lambda: links_to(web, 6) == [THEIRS, web.veth("web")], "ours is back behind theirs", seconds=1)
        web.ip(web.H, "-6", "route", "del", NETWORK[6], "dev", THEIRS)
        assert is_as_before(web, 6)


@pytest.mark.parametrize("version", [4, 6])
def test_the_winner_s_link_goes_down(web: Topology, version: int) -> None:
    bystander = Bystander(web)
    with bystander.unharmed():
        theirs_wins(web, version)

        web.ip(web.H, "link", "set", THEIRS, "down")  # and the kernel takes their route along

        wait_until(lambda: links_to(web, version) == [web.veth("web")], "ours leads there again", seconds=1)
        assert is_as_before(web, version)
        web.ip(web.H, "link", "set", THEIRS, "up")
        stays(lambda: links_to(web, version) == [web.veth("web")], 1.5)


@pytest.mark.parametrize("version", [4, 6])
def test_the_loser_s_link_goes_down(web: Topology, version: int) -> None:
    bystander, other = Bystander(web), 10 - version
    with bystander.unharmed():
        theirs_wins(web, version)

        web.ip(web.H, "link", "set", web.veth("web"), "down")

        wait_until(lambda: is_answered(web, other), "what nobody else wants is back", seconds=2)
        assert links_to(web, version)[0] == THEIRS
        stays(lambda: links_to(web, version)[0] == THEIRS, 1.5)
        web.ip(web.H, *ip(version), "route", "del", NETWORK[version], "dev", THEIRS)
        wait_until(lambda: is_as_before(web, version), "and so is that when they give it up", seconds=2)


# --- flaps ---------------------------------------------------------------------------------------------------------

#: Shell lines of a flap, with our link as $1: a change and its opposite, twenty changes a second.
FLAPS = {
    "link": "ip link set $1 down; sleep 0.05; ip link set $1 up; sleep 0.05",
    "name": "ip link set $1 name flap0; sleep 0.05; ip link set flap0 name $1; sleep 0.05",
    "master": "ip link set $1 master vmbr0; sleep 0.05; ip link set $1 nomaster; sleep 0.05",
}
FLAP_SECONDS = 10


@contextlib.contextmanager
def flapping(host: Topology, lines: str) -> Iterator[None]:
    words = ["sh", "-c", f"while :; do {lines}; done 2>/dev/null", "sh", host.veth("web")]
    process = subprocess.Popen(["nsenter", f"--net=/run/netns/{host.H}", *words], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def processor_seconds(host: Topology) -> float:
    fields = Path(f"/proc/{host.daemon_pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.mark.requires_kernel("bridge")
@pytest.mark.parametrize("lines", FLAPS.values(), ids=FLAPS)
def test_a_flap_costs_little_harms_nobody_else_and_leaves_everything_as_it_was(web: Topology, lines: str) -> None:
    web.ip(web.H, "link", "add", "vmbr0", "type", "bridge")
    bystander = Bystander(web)
    veth = web.veth("web")
    before = web.comparable_state("web")
    with bystander.unharmed(), everything(web) as listener:
        with flapping(web, lines):
            used, began = processor_seconds(web), time.monotonic()
            stays(lambda: web.ping(web.R, bystander.addresses[0], count=1) == 1, FLAP_SECONDS)
            share = (processor_seconds(web) - used) / (time.monotonic() - began)
        # The one who flaps may have been ended between a change and its opposite.
        wait_until(lambda: is_answered(web, 4) and is_answered(web, 6), "it answers again", seconds=20)
        wait_until(
            lambda: not [each for each in differences(before, web.comparable_state("web")) if "vmbr0" not in each],
            "all is as it was", seconds=20,
        )  # fmt: skip
        fights, mended = events_of(listener, "fight"), events_of(listener, "mended")

    assert web.veth("web") == veth
    assert share < 0.25
    # Once; but whose a link by a strange name is only a look at the whole host tells, and that is a place of its own.
    places = [each["id"] for each in fights]
    assert len(places) == len(set(places)) <= (2 if "name" in lines else 1)
    assert len(mended) <= 30
    assert not [line for line in web.log_text().splitlines() if line.startswith("ERROR")]
