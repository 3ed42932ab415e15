"""`--if-generation`: of two administrators who looked at the same configuration, the second one is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import osctl.client
from whole.bare_daemon import BARE
from whole.host import Topology


@pytest.fixture(scope="module")
def made() -> Iterator[Topology]:
    with Topology(program=BARE) as topology:
        yield topology


@pytest.fixture
def web(made: Topology) -> Iterator[Topology]:
    """The host of this file, with a running container `web`, which is gone afterwards."""
    made.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    yield made
    made.delete_containers()


def generation(host: Topology) -> int:
    return int(host.osctl_json("ct", "show", "web")["generation"])


def test_each_change_has_the_next_number_and_nothing_else_has(web: Topology) -> None:
    before = generation(web)

    web.osctl("ct", "netif", "ip", "add", "web", "1.2.3.5")
    web.osctl("ct", "set", "autostart", "web")
    web.osctl("ct", "netif", "set", "--mtu", "1400", "web")
    assert generation(web) == before + 3

    web.osctl("ct", "netif", "ip", "add", "--if-needed", "web", "1.2.3.5")
    web.osctl("ct", "netif", "ip", "add", "--dry-run", "web", "1.2.3.6")
    web.refusal("ct", "netif", "ip", "add", "web", "1.2.3.5")
    web.osctl("ct", "restart", "-k", "web")
    web.restart_daemon()
    assert generation(web) == before + 3


def test_the_second_of_two_who_saw_the_same_is_refused_and_nothing_changes(web: Topology) -> None:
    seen = str(generation(web))

    web.osctl("ct", "netif", "ip", "add", "--if-generation", seen, "web", "1.2.3.5")
    told = web.refusal_without_trace("ct", "netif", "ip", "del", "--if-generation", seen, "web", "all", running=["web"])

    assert told == f"'web': the configuration has generation {int(seen) + 1}, not {seen}; it was changed meanwhile"
    assert web.refusal("--dry-run", "--if-generation", seen, "ct", "netif", "ip", "del", "web", "all") == told
    web.osctl("ct", "netif", "ip", "del", "--if-generation", str(generation(web)), "web", "all")
    assert web.osctl_json("ct", "netif", "ip", "ls", "web") == []


def test_it_goes_with_changes_of_a_configuration_alone(web: Topology) -> None:
    for argv in (("ct", "ls"), ("ct", "stop", "web"), ("net", "reconcile")):
        told = web.refusal_without_trace("--if-generation", "1", *argv, running=["web"], status=64)
        assert told == "--if-generation requires a command that changes the configuration of a container"


def test_programs_say_it_too(web: Topology) -> None:
    with osctl.client.connect(str(web.socket)) as daemon:
        seen = generation(web)
        daemon.call("ct_netif_ip_add", container="web", addresses=["1.2.3.5"], if_generation=seen)
        with pytest.raises(osctl.client.RequestFailed) as refused:
            daemon.call("netif_ip_del", id="web", name="eth0", addr="1.2.3.5", if_generation=seen)

    assert (refused.value.code, refused.value.subject) == ("generation", "web")
