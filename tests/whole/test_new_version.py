"""A version that wants something else inside containers changes it in those that run: once, without loss, and as no
tenant's doing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from osctld.core.config.edition import LATEST
from whole.bare_daemon import BARE
from whole.host import Topology, differences
from whole.pings import pings

pytestmark = pytest.mark.requires_kernel("nftables fib")

#: By interface: the container ends with their prefix lengths, the host ends, and the addresses.
INTERFACES = {
    "eth0": {4: ("10.100.10.102/30", "10.100.10.101", "1.2.3.4"), 6: ("fd00:1::2/126", "fd00:1::1", "2001:db8:2::4")},
    "eth1": {4: ("10.100.30.2/30", "10.100.30.1", "198.51.100.5"), 6: ("fd00:3::2/126", "fd00:3::1", "2001:db8:2::5")},
}
ADDRESSES = [own[2] for each in INTERFACES.values() for own in each.values()]
BYSTANDER = ["203.0.113.9", "2001:db8:2::9"]


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, with two interfaces, and a bystander, `beside`."""
    with Topology(program=BARE) as host:
        host.new_container("beside", via=["10.100.20.100/30", "fd00:2::/126"], addresses=BYSTANDER)
        host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4", "2001:db8:2::4"])
        new = ("ct", "netif", "new", "routed", "--via", "10.100.30.0/30", "--via", "fd00:3::/126", "web", "eth1")
        host.osctl(*new)
        host.osctl("ct", "netif", "ip", "add", "web", "eth1", "198.51.100.5", "2001:db8:2::5")
        host.guest_state("web")  # it is entered when no daemon tells where it is
        yield host


def ip(host: Topology, words: str) -> None:
    host.in_guest_network("web", "ip", *words.split())


def make_it_old(host: Topology, *, half_way: bool = False) -> None:
    """As the first edition configured a container; `half_way`, as a version left it that was killed while renewing."""
    (host.run_dir / "editions" / "web").unlink()
    for rank, (link, versions) in enumerate(INTERFACES.items()):
        end, gateway, address = versions[4]
        if not (half_way and link == "eth0"):
            ip(host, f"addr del {end} dev {link}")
            ip(host, f"addr add {end} brd + dev {link}")
            metric = f" metric {100 * rank}" if rank else ""
            ip(host, f"route replace default via {gateway} dev {link} proto static src {address}{metric}")
            host.in_guest_network("web", "sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=0")
        end, gateway, address = versions[6]
        ip(host, f"addr change {end} dev {link} nodad valid_lft forever preferred_lft forever")
        way = f"default via {gateway} dev {link} proto static src {address} metric"
        ip(host, f"-6 route add {way} {1024 + 100 * rank}")
        if not half_way:
            ip(host, f"-6 route del {way} {16 + 100 * rank}")


def defaults(host: Topology, version: int) -> list[int]:
    found = host.guest_ip_json("web", f"-{version}", "route", "show", "default")
    return sorted(each.get("metric", 0) for each in found)


@pytest.mark.parametrize("half_way", [False, True])
@pytest.mark.parametrize("end", ["stop_daemon", "kill_daemon"])
def test_what_an_earlier_version_configured_is_renewed_once_without_loss_and_drift(
    web: Topology, end: str, half_way: bool
) -> None:
    wanted, beside = web.comparable_state("web"), web.comparable_state("beside")
    getattr(web, end)()
    make_it_old(web, half_way=half_way)
    assert differences(wanted, web.comparable_state("web"))

    with pings(web, *ADDRESSES, *BYSTANDER) as counts:
        assert web.ping(web.R, ADDRESSES[0], count=5) == 5
        web.start_daemon()
        status = web.osctl_json("self", "status")
        assert web.ping(web.R, ADDRESSES[0], count=5) == 5

    assert {sent - answered for sent, answered in counts.values()} == {0}
    assert "web: updated for this version" in status["last_reconcile"]
    assert "mended" not in status["last_reconcile"]
    assert status["drift"] == []
    assert "changed inside" not in web.log_text()
    assert (defaults(web, 4), defaults(web, 6)) == ([0, 100], [16, 116])
    assert not differences(wanted, web.comparable_state("web"))
    assert not differences(beside, web.comparable_state("beside"))
    assert (web.run_dir / "editions" / "web").read_text() == f"{LATEST}\n"

    web.restart_daemon()
    assert web.osctl_json("self", "status")["last_reconcile"] == "nothing to repair"


def test_what_the_tenant_changed_before_is_told_as_before_and_left(web: Topology) -> None:
    web.stop_daemon()
    make_it_old(web)
    ip(web, "addr del 198.51.100.5/32 dev eth1")

    web.start_daemon()

    status = web.osctl_json("self", "status")
    assert "addr 198.51.100.5/32 dev eth1" in json.dumps(status["drift"])
    assert "not repaired" not in status["last_reconcile"]
    assert defaults(web, 6) == [16, 116]
    assert web.ping(web.R, "1.2.3.4") == 3


@pytest.mark.parametrize("how", ["switched off", "too small"])
def test_a_tenant_without_ipv6_is_left_without(web: Topology, how: str) -> None:
    web.stop_daemon()
    make_it_old(web)
    if how == "switched off":
        web.in_guest_network("web", "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    else:
        ip(web, "link set eth0 mtu 1200")

    web.start_daemon()

    status = web.osctl_json("self", "status")
    assert "not repaired" not in status["last_reconcile"]
    assert (defaults(web, 4), defaults(web, 6)) == ([0, 100], [116])
    assert (web.run_dir / "editions" / "web").exists()
    assert [web.ping(web.R, each) for each in ("1.2.3.4", "198.51.100.5", "2001:db8:2::5")] == [3, 3, 3]


def test_a_life_that_this_version_begins_is_noted_and_one_that_ended_is_not(web: Topology) -> None:
    note = web.run_dir / "editions" / "web"

    web.osctl("ct", "stop", "-k", "web")
    assert not note.exists()
    web.osctl("ct", "start", "web")
    assert note.read_text() == f"{LATEST}\n"
