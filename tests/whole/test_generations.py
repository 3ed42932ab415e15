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
def host(made: Topology) -> Iterator[Topology]:
    made.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    yield made
    made.delete_containers()


def generation(host: Topology) -> int:
    return int(host.osctl_json("ct", "show", "web")["generation"])


def test_each_change_has_the_next_number_and_nothing_else_has(host: Topology) -> None:
    before = generation(host)

    host.osctl("ct", "netif", "ip", "add", "web", "1.2.3.5")
    host.osctl("ct", "set", "autostart", "web")
    host.osctl("ct", "netif", "set", "--mtu", "1400", "web")
    assert generation(host) == before + 3

    host.osctl("ct", "netif", "ip", "add", "--if-needed", "web", "1.2.3.5")
    host.osctl("ct", "netif", "ip", "add", "--dry-run", "web", "1.2.3.6")
    host.refusal("ct", "netif", "ip", "add", "web", "1.2.3.5")
    host.osctl("ct", "restart", "-k", "web")
    host.restart_daemon()
    assert generation(host) == before + 3


def test_the_second_of_two_who_saw_the_same_is_refused_and_nothing_changes(host: Topology) -> None:
    seen = str(generation(host))

    host.osctl("ct", "netif", "ip", "add", "--if-generation", seen, "web", "1.2.3.5")
    told = host.refusal_without_trace(
        "ct", "netif", "ip", "del", "--if-generation", seen, "web", "all", running=["web"]
    )

    assert told == f"'web': its configuration has generation {int(seen) + 1}, not {seen}: somebody changed it"
    assert host.refusal("--dry-run", "--if-generation", seen, "ct", "netif", "ip", "del", "web", "all") == told
    host.osctl("ct", "netif", "ip", "del", "--if-generation", str(generation(host)), "web", "all")
    assert host.osctl_json("ct", "netif", "ip", "ls", "web") == []


def test_it_goes_with_changes_of_a_configuration_alone(host: Topology) -> None:
    for argv in (("ct", "ls"), ("ct", "stop", "web"), ("net", "reconcile")):
        told = host.refusal_without_trace("--if-generation", "1", *argv, running=["web"], status=64)
        assert told == "--if-generation goes with commands that change the configuration of a container"


def test_programs_say_it_too(host: Topology) -> None:
    with osctl.client.connect(str(host.socket)) as daemon:
        seen = generation(host)
        daemon.call("ct_netif_ip_add", container="web", addresses=["1.2.3.5"], if_generation=seen)
        with pytest.raises(osctl.client.RequestFailed) as refused:
            daemon.call("netif_ip_del", id="web", name="eth0", addr="1.2.3.5", if_generation=seen)

    assert (refused.value.code, refused.value.subject) == ("generation", "web")
