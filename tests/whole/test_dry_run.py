"""What `--dry-run` prints is what the next real run does: performed by iproute2, sysctl and nft it leads to the same.

Two hosts with the same saved configuration, hence the same names and addresses. The one gets the commands; the other
one has no daemon any more and gets the printed lines.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from osctld import commands
from osctld.cli.catalogue import find_commands
from osctld.core.command import ActCommand, EditCommand
from whole.bare_daemon import BARE
from whole.bridges import make_bridge
from whole.host import Topology, differences, run, wait_until

pytestmark = pytest.mark.requires_kernel("nftables fib")

VIAS = ("--via", "10.100.10.100/30", "--via", "fd00:1::/126")
NEW = ("ct", "netif", "new", "routed")

SHUTDOWN = ("self", "shutdown", "--force")
ABORT = ("self", "shutdown", "--abort")

#: Each changing command with words of its own, one after the other on a running container with eth0.
CASES: tuple[tuple[str, ...], ...] = (
    ("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "1.2.3.5", "10.5.5.1/24", "2001:db8:2::4", "2001:db8:2::5"),
    ("ct", "netif", "ip", "add", "--no-route", "web", "eth0", "192.168.7.1/24"),
    ("ct", "netif", "route", "add", "web", "eth0", "203.0.113.0/28", "2001:db8:2:5::/64"),
    ("ct", "netif", "route", "add", "--via", "1.2.3.5", "web", "eth0", "198.51.100.0/25"),
    ("ct", "netif", "route", "add", "--via", "2001:db8:2::5", "web", "eth0", "2001:db8:2:6::/64"),
    ("ct", "netif", "source", "add", "web", "eth0", "100.64.0.0/24", "100.65.0.0/16", "2001:db8:64::/48"),
    ("ct", "netif", "source", "add", "--force", "web", "eth0", "100.64.0.0/10", "::/0"),
    ("ct", "netif", "ip", "reorder", "--first", "web", "eth0", "1.2.3.5"),
    ("ct", "netif", "ip", "reorder", "--before", "2001:db8:2::4", "web", "eth0", "2001:db8:2::5"),
    (*NEW, "web", "eth1"),
    ("ct", "netif", "new", "bridge", "--link", "br0", "--no-dhcp", "--gateway-v4", "172.16.9.1", "web", "lan0"),
    ("ct", "netif", "ip", "add", "web", "lan0", "172.16.9.10/24", "172.16.9.11/24", "2001:db8:9::10/64"),
    ("ct", "netif", "ip", "reorder", "--first", "web", "lan0", "172.16.9.11"),
    ("ct", "netif", "set", "--link", "br1", "--mtu", "1400", "web", "lan0"),
    ("ct", "netif", "set", "--gateway-v4", "10.77.77.1", "--gateway-v6", "fe80::1", "web", "lan0"),
    ("ct", "netif", "set", "--default", "web", "lan0"),
    ("ct", "netif", "standby", "web", "lan0", "172.16.9.10"),
    ("ct", "netif", "take", "web", "lan0", "172.16.9.10"),
    ("ct", "netif", "ip", "del", "web", "lan0", "172.16.9.11"),
    ("ct", "netif", "set", "--default", "web", "eth0"),
    ("ct", "netif", "rename", "web", "lan0", "lan1"),
    ("ct", "netif", "del", "web", "lan1"),
    (*NEW, "--via", "10.0.0.0/24", "--host-addr", "10.0.0.9", "--ct-addr", "10.0.0.1", "--mtu", "1400", "web", "eth2"),
    ("ct", "netif", "rename", "web", "eth2", "wan0"),
    ("ct", "netif", "ip", "move", "web", "eth0", "web", "wan0", "1.2.3.4"),
    ("ct", "netif", "ip", "move", "web", "wan0", "web", "eth0", "1.2.3.4"),
    ("net", "block", "1.2.3.4", "2001:db8:2:5::/64"),
    ("net", "unblock", "1.2.3.4", "2001:db8:2:5::/64"),
    ("ct", "netif", "set", "--via", "10.100.20.0/31", "--via", "fd00:2::/64", "web", "eth0"),
    ("ct", "netif", "set", "--host-addr", "10.100.20.1", "--ct-addr", "10.100.20.0", "web", "eth0"),
    ("ct", "netif", "set", "--no-via", "4", "web", "eth1"),
    ("ct", "netif", "set", "--via", "auto", "--via-public", "web", "eth1"),
    ("ct", "netif", "set", "--hwaddr", "02:xx:xx:xx:xx:01", "web", "eth0"),
    ("ct", "netif", "set", "--mtu", "1280", "web", "eth0"),
    ("ct", "netif", "set", "--default", "web", "wan0"),
    ("ct", "netif", "set", "--guest", "enforce", "web", "eth0"),
    ("ct", "netif", "ip", "del", "--keep-route", "web", "eth0", "1.2.3.4"),
    ("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.5", "2001:db8:2::5"),
    ("ct", "netif", "route", "del", "--force", "web", "eth0", "1.2.3.4/32", "10.5.5.0/24"),
    ("ct", "netif", "route", "del", "-v", "6", "--force", "web", "eth0", "all"),
    ("ct", "netif", "standby", "web", "eth0", "all"),
    ("ct", "netif", "take", "web", "eth0", "all"),
    ("ct", "netif", "ip", "del", "web", "eth0", "all"),
    ("ct", "netif", "source", "del", "web", "eth0", "100.64.0.0/10"),
    ("ct", "netif", "source", "del", "-v", "6", "web", "eth0", "all"),
    ("ct", "netif", "del", "web", "eth1"),
    ("ct", "set", "nesting", "web"),
    ("ct", "unset", "nesting", "web"),
    ("ct", "set", "autostart", "-p", "5", "-d", "2", "web"),
    ("ct", "unset", "autostart", "web"),
    ("ct", "set", "guest-files", "web", "report"),
    ("ct", "guest-files", "apply", "web"),
    ("ct", "guest-files", "restore", "web"),
    ("net", "reconcile", "web"),
    ("ct", "new", "--distribution", "busybox", "shop"),
    ("ct", "restart", "-k", "web"),
    ("ct", "stop", "-k", "web"),
    ("ct", "start", "web"),
    SHUTDOWN,
    ABORT,
    ("ct", "del", "-f", "web"),
)  # fmt: skip
#: Those that only act: they change no configuration and nothing of the network. A copy is restored onto containers that
#: are stopped (test_store_care.py).
ACTING_ONLY = {
    *(("ct", "exec"), ("ct", "monitor"), ("ct", "wait"), ("monitor",), ("history",), ("self", "check")),
    *(("self", "backup"), ("self", "restore"), ("ct", "guest-files", "diff")),
    *(("net", "who"), ("net", "ls"), ("net", "blocks"), ("net", "pool", "ls"), ("status",), ("self", "metrics")),
    *(("router", "static"), ("router", "show")),
    *(("router", "enable"), ("router", "disable")),  # with a routing daemon, in test_announcing
    *(("net", "uplink", "ls"), ("net", "uplink", "add"), ("net", "uplink", "del")),
}


def test_every_changing_command_has_its_lines_tried() -> None:
    changing = {each.words for each in find_commands(commands) if issubclass(each, EditCommand | ActCommand)}

    untried = [words for words in changing - ACTING_ONLY if not any(case[: len(words)] == words for case in CASES)]

    assert untried == []


class Twin:
    """A host without a daemon that gets lines; its container is a network namespace held by a process."""

    def __init__(self, host: Topology) -> None:
        self.host = host
        self.held: list[subprocess.Popen[bytes]] = []

    def make_guest(self) -> None:
        """A fresh namespace, as there is one when a container starts."""
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        self.held.append(holder)
        ours = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != ours, "a namespace")
        self.host.guests["web"] = holder.pid, os.readlink(f"/proc/{holder.pid}/ns/net")
        self.host.in_guest_network("web", "ip", "link", "set", "lo", "up")

    def lose_guest(self) -> None:
        pid, namespace = self.host.guests.pop("web")
        for each in self.held:
            each.kill()
            each.wait()
        if not self.held:
            (self.host.run_dir / "bare/web.power").write_text("off\n")
            wait_until(lambda: not os.path.exists(f"/proc/{pid}/ns/net"), f"{namespace} is gone")
        self.held.clear()

    def perform(self, lines: Sequence[str]) -> None:
        """Run what was printed, as it was printed, each line in the namespace that the heading before it names."""
        pid = self.host.guests.get("web", (0, ""))[0]
        script = ["set -e", "mount -t tmpfs none /run", *([f"ip netns attach web {pid}"] if pid else [])]
        inside = ""
        for line in lines:
            if line.startswith("# on the host"):
                inside = ""
            elif line.startswith("# in container web"):
                inside = f"nsenter --net=/proc/{pid}/ns/net "
            elif not line.startswith("#"):
                # What is to be removed may be gone already, with something else; that is as good.
                script.append(inside + line + (" 2>/dev/null || true" if " del" in line else ""))
        argv = ["nsenter", f"--net=/run/netns/{self.host.H}", "unshare", "--mount", "sh", "-s"]
        done = run(*argv, stdin="\n".join(script) + "\n", check=False)
        assert done.status == 0, done.stderr + "\n".join(script)

    def close(self) -> None:
        for each in self.held:
            each.kill()
            each.wait()


@pytest.fixture
def pair() -> Iterator[tuple[Topology, Twin]]:
    """A host with a running container, and its twin whose daemon is gone."""
    with Topology(program=BARE) as host, Topology(program=BARE, start_daemon=False) as other:
        for number, bridge in enumerate(("br0", "br1")):
            for each in (host, other):
                make_bridge(each, bridge, mac=f"02:00:00:00:b{number}:00")
        host.new_container("web", via=VIAS[1::2])
        host.stop_daemon()
        shutil.copytree(host.state_dir, other.state_dir)
        other.start_daemon()
        host.start_daemon()
        other.osctl("ct", "start", "web")
        other.guest_state("web")
        other.kill_daemon()
        twin = Twin(other)
        try:
            yield host, twin
        finally:
            twin.close()


def test_the_lines_of_every_changing_command_lead_where_the_command_leads(pair: tuple[Topology, Twin]) -> None:
    host, twin = pair
    _demand_equality(host, twin, ["before"])
    for case in CASES:
        is_end = case[:2] in {("ct", "stop"), ("ct", "del")} or case == SHUTDOWN
        is_start = case[:2] == ("ct", "start") or case == ABORT
        before = host.stored(), host.comparable_state(*_running(host))
        lines = host.osctl(*case, "--dry-run").stdout.splitlines()
        assert lines, case
        assert host.osctl("--dry-run", *case).stdout.splitlines() == lines
        assert (host.stored(), host.comparable_state(*_running(host))) == before, case

        if case[:2] == ("ct", "restart"):
            at = next(number for number, line in enumerate(lines) if line.startswith("# start container"))
            twin.perform(lines[:at])
            twin.lose_guest()
            twin.make_guest()
            twin.perform(lines[at:])
        elif is_end:
            twin.perform(lines)
            twin.lose_guest()
        else:
            if is_start:
                twin.make_guest()
            twin.perform(lines)
        host.osctl(*case)
        if case == ABORT:  # which does not wait for what it starts
            wait_until(lambda: _running(host) == ["web"], "web runs again")

        _demand_equality(host, twin, (" ".join(case), *lines))


def _demand_equality(host: Topology, twin: Twin, about: Sequence[str]) -> None:
    """Both networks are the same, or will be when the kernel has made what it makes at its own time."""
    running, found = _running(host), ["not looked yet"]

    def is_same() -> bool:
        found[:] = differences(_network(host, running), _network(twin.host, running))
        return not found

    with contextlib.suppress(AssertionError):
        wait_until(is_same, "both are the same", seconds=3)
    assert not found, "\n".join((*about, *found))


def _network(host: Topology, running: Sequence[str]) -> dict[str, list[str]]:
    """All but the uplinks themselves, whose hardware addresses are random."""
    return {
        section: [line for line in lines if '"ifname": "up0"' not in line]
        for section, lines in host.comparable_state(*running).items()
    }


def _running(host: Topology) -> list[str]:
    return [each["id"] for each in host.osctl_json("ct", "ls") if each["state"] == "running"]
