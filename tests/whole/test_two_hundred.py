"""Two hundred containers on one daemon."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from whole.host import Topology, differences, wait_until

NUMBERS = range(1, 201)
#: Clients at a time; the machine may have two processors.
AT_ONCE = 4


def unanswered(host: Topology, addresses: Iterable[str]) -> list[str]:
    """The addresses of which the router gets no answer."""
    prefix = ("nsenter", f"--net=/run/netns/{host.R}", "ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2")
    running = {
        address: subprocess.Popen([*prefix, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for address in addresses
    }
    return [address for address, process in running.items() if process.wait(timeout=60) != 0]


@pytest.mark.time_limit(900)
def test_two_hundred_containers_are_all_reachable_and_none_leaves_anything(host: Topology) -> None:
    host.new_container("first")  # the host forwards from then on
    host.delete_containers()
    before = host.comparable_state()
    names = {f"ct{number}": (f"1.2.3.{number}", f"2001:db8:2::{number:x}") for number in NUMBERS}

    def make(name: str) -> None:
        host.osctl("ct", "new", "--distribution", "busybox", name)
        host.osctl("ct", "netif", "new", "routed", name, "eth0")
        host.osctl("ct", "netif", "ip", "add", name, "eth0", *names[name])
        host.osctl("ct", "start", name, seconds=120)

    with ThreadPoolExecutor(AT_ONCE) as clients:
        list(clients.map(make, names))

    assert [row["state"] for row in host.osctl_json("ct", "ls")] == ["running"] * len(names)
    vias = [row["via"] for row in host.osctl_json("ct", "netif", "ls")]
    assert len({via["4"] for via in vias}) == len({via["6"] for via in vias}) == len(names)
    assert unanswered(host, [four for four, _ in names.values()]) == []
    assert unanswered(host, [six for _, six in names.values()]) == []
    assert host.osctl("net", "reconcile", seconds=120).stdout == "nothing to repair\n"

    # What becomes free is taken again.
    freed = next(row["via"] for row in host.osctl_json("ct", "netif", "ls", "ct7"))
    host.osctl("ct", "del", "--force", "ct7")
    host.osctl("ct", "new", "--distribution", "busybox", "late")
    host.osctl("ct", "netif", "new", "routed", "late", "eth0")
    assert next(row["via"] for row in host.osctl_json("ct", "netif", "ls", "late")) == freed

    with ThreadPoolExecutor(AT_ONCE) as clients:
        rest = sorted({*names, "late"} - {"ct7"})
        list(clients.map(lambda name: host.osctl("ct", "del", "--force", name, seconds=120), rest))

    assert host.osctl_json("ct", "ls") == []
    assert not differences(before, host.comparable_state())
    # The networks of stopped containers are taken out after the answer.
    wait_until(
        lambda: "elements" not in host.in_namespace(host.H, "nft", "list", "table", "inet", "osctl").stdout,
        "the packet filter holds nothing any more",
    )
    assert not [path for path in host.state_dir.glob("ct/*") if path.is_dir()]
