"""Bare containers: what tests and benchmarks of large hosts rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE, power_off, reboot
from whole.host import Topology, wait_until


@pytest.fixture
def host() -> Iterator[Topology]:
    with Topology(program=BARE) as made:
        yield made


def state(host: Topology, container: str) -> str:
    return str(host.osctl_json("ct", "show", container)["state"])


def test_a_bare_container_has_the_network_of_a_real_one_and_is_reached_from_the_router(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])

    assert host.ping(host.R, "1.2.3.4") == 3
    assert host.guest_ip_json("web", "-4", "route")[0]["dst"] == "default"
    assert host.guest("web", "cat", "/proc/sys/net/ipv4/ip_forward").stdout == "0\n"


def test_a_bare_container_outlives_its_daemon_and_is_found_again(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    pid = host.init_pid("web")

    host.kill_daemon()
    host.start_daemon()

    assert host.init_pid("web") == pid
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    assert host.ping(host.R, "1.2.3.5") == 3


def test_a_bare_guest_powers_itself_off_and_reboots(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    pid = host.init_pid("web")

    reboot(host.run_dir, "web")

    wait_until(lambda: host.has_rebooted("web", since=pid), "rebooted")
    assert host.ping(host.R, "1.2.3.4") == 3

    power_off(host.run_dir, "web")

    wait_until(lambda: state(host, "web") == "stopped", "powered off")
    assert not host.ip_json(host.H, "route", "show", "1.2.3.4")


def test_a_bare_container_that_is_deleted_leaves_no_process(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"])
    pid = host.init_pid("web")

    host.osctl("ct", "del", "-f", "web")

    wait_until(lambda: not _exists(pid), "the process is gone")
    assert not list((host.run_dir / "bare").iterdir())


def _exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
