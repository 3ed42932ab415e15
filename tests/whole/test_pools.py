"""Pools of addresses: one after another to whoever asks, none twice, and none again for a while."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import osctl.client
from whole.bare_daemon import BARE
from whole.host import Settled, Topology, wait_until

SETTINGS = """
[addresses.web]
networks = ["198.51.100.0/24"]
quiet_seconds = 3600
[addresses.short]
networks = ["203.0.113.0/30", "2001:db8:2::/126"]
quiet_seconds = 2
[addresses.uplink]
networks = ["192.0.2.0/24"]
"""

ADD = ("ct", "netif", "ip", "add")
TAKE = (*ADD, "--from-pool")


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host with pools of addresses, on which `web` runs."""
    with Topology(program=BARE, settings=SETTINGS) as topology:
        topology.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"])
        yield topology


def test_many_clients_at_once_get_each_an_address_of_its_own(web: Topology) -> None:
    def take(_: int) -> tuple[int, str]:
        with osctl.client.connect(str(web.socket)) as daemon:
            answer = daemon.call("cli", argv=[*TAKE, "web", "web", "eth0"])
        return answer["exit"], answer["stdout"].strip()

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(take, range(250)))

    assert {status for status, _ in answers} == {0}
    given = {address for _, address in answers}
    assert given == {f"198.51.100.{number}" for number in range(1, 251)}
    for last in ("251", "252", "253", "254"):
        assert web.osctl(*TAKE, "web", "web", "eth0").stdout == f"198.51.100.{last}\n"
    message = Settled(web, running=["web"]).refusal(*TAKE, "web", "web", "eth0")
    assert message == "'web': no free address in addresses.web = 198.51.100.0/24"
    (used,) = [each for each in web.osctl_json("net", "pool", "ls") if each["name"] == "web"]
    assert (used["size"], used["used"], used["free"], used["resting"]) == (254, 254, 0, 0)


def test_an_address_that_was_given_back_rests(web: Topology) -> None:
    for expected in ("198.51.100.1", "198.51.100.2"):
        assert web.osctl(*TAKE, "web", "web", "eth0").stdout == f"{expected}\n"
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", "198.51.100.1")

    assert web.osctl(*TAKE, "web", "web", "eth0").stdout == "198.51.100.3\n"
    web.restart_daemon()
    assert web.osctl(*TAKE, "web", "web", "eth0").stdout == "198.51.100.4\n"
    (used,) = [each for each in web.osctl_json("net", "pool", "ls") if each["name"] == "web"]
    assert (used["used"], used["resting"], used["free"]) == (3, 1, 250)
    web.osctl(*ADD, "web", "eth0", "198.51.100.1")  # by name it is nobody's


def test_it_is_given_again_after_its_time(web: Topology) -> None:
    def take(*options: str, check: bool = True) -> str:
        return web.osctl(*TAKE, "short", *options, "web", "eth0", check=check).stdout.strip()

    assert [take(), take()] == ["203.0.113.1", "203.0.113.2"]
    web.osctl("ct", "netif", "ip", "del", "web", "eth0", "203.0.113.2")
    assert take() == "2001:db8:2::1"
    assert "no free IPv4 address in addresses.short = 203.0.113.0/30, 2001:db8:2::/126; 1 rel" in web.refusal(
        *TAKE, "short", "-v", "4", "web", "eth0"
    )

    assert wait_until(lambda: take("-v", "4", check=False), "it has rested") == "203.0.113.2"
    assert take("-v", "6") == "2001:db8:2::2"


def test_what_makes_no_sense_of_a_pool_is_refused(web: Topology) -> None:
    nothing_changes = Settled(web, running=["web"])

    for argv, says, status in (
        ((*TAKE, "mail", "web", "eth0"), "'mail': address pool not found; there are: web, short, uplink", 1),
        ((*TAKE, "web", "web", "eth0", "1.2.3.4"), "--from-pool web: cannot be used with 1.2.3.4", 64),
        ((*ADD, "web", "eth0"), "missing argument <addr>, or --from-pool NAME", 64),
        ((*ADD, "-v", "4", "web", "eth0", "1.2.3.4"), "-v 4: requires --from-pool, cannot be used with 1.2.3.4", 64),
        ((*TAKE, "uplink", "web", "eth0"), "osctl net uplink add up0 permits it", 1),
    ):
        assert says in nothing_changes.refusal(*argv, status=status), argv

    web.osctl("net", "uplink", "add", "up0")
    assert web.osctl(*TAKE, "uplink", "web", "eth0").stdout == "192.0.2.3\n"  # .1 is the host, .2 its router


def test_a_dry_run_takes_nothing(web: Topology) -> None:
    planned = web.osctl(*TAKE, "web", "--dry-run", "web", "eth0").stdout

    assert "198.51.100.1" in planned
    assert web.osctl(*TAKE, "web", "web", "eth0").stdout == "198.51.100.1\n"
