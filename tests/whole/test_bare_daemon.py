"""Bare containers: what tests and benchmarks of large hosts rely on."""

from __future__ import annotations

from whole.bare_daemon import power_off, reboot
from whole.host import Topology, wait_until


def state(host: Topology, container: str) -> str:
    return str(host.osctl_json("ct", "show", container)["state"])


def test_a_bare_container_has_the_network_of_a_real_one_and_is_reached_from_the_router(bare: Topology) -> None:
    bare.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])

    assert bare.ping(bare.R, "1.2.3.4") == 3
    assert bare.guest_ip_json("web", "-4", "route")[0]["dst"] == "default"
    assert bare.guest("web", "cat", "/proc/sys/net/ipv4/ip_forward").stdout == "0\n"


def test_a_bare_container_outlives_its_daemon_and_is_found_again(bare: Topology) -> None:
    bare.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    pid = bare.init_pid("web")

    bare.kill_daemon()
    bare.start_daemon()

    assert bare.init_pid("web") == pid
    bare.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    assert bare.ping(bare.R, "1.2.3.5") == 3


def test_a_bare_guest_powers_itself_off_and_reboots(bare: Topology) -> None:
    bare.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    pid = bare.init_pid("web")

    reboot(bare.run_dir, "web")

    wait_until(lambda: bare.has_rebooted("web", since=pid), "rebooted")
    assert bare.ping(bare.R, "1.2.3.4") == 3

    power_off(bare.run_dir, "web")

    wait_until(lambda: state(bare, "web") == "stopped", "powered off")
    assert not bare.ip_json(bare.H, "route", "show", "1.2.3.4")


def test_a_bare_container_that_is_deleted_leaves_no_process(bare: Topology) -> None:
    bare.new_container("web", via=["10.100.10.100/30"])
    pid = bare.init_pid("web")

    bare.osctl("ct", "del", "-f", "web")

    wait_until(lambda: not _exists(pid), "the process is gone")
    assert not list((bare.run_dir / "bare").iterdir())


def _exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
