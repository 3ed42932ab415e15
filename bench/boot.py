"""How long a host's containers need to answer after osctld was started on a new boot. Run by `./dev bench boot`.

    python3 bench/boot.py [--containers 200] [--bare] [--at-once N]

Makes busybox guests (with --bare: network namespaces alone) with a routed interface and an address of each IP version,
starts them, shuts them down as the host's shutdown does, and starts osctld again in a new network namespace, which is a
new boot to it. From then on the router beyond the host pings all addresses until each has answered. Exit status 1 when
the goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

import osctl.client
from whole.bare_daemon import BARE
from whole.host import Topology, wait_until

CLONE_NEWNET = 0x40000000
#: Seconds from the start of osctld until all 200 answer.
GOAL = 30.0
LONGEST = 600.0
#: Seconds between two pings of an address.
AGAIN = 0.1


class Pinger:
    """Pings addresses from a namespace, through one socket of each IP version."""

    def __init__(self, namespace: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            assert libc.setns(there, CLONE_NEWNET) == 0
            self._four = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self._six = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.getprotobyname("ipv6-icmp"))
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0
            os.close(before)
            os.close(there)

    def close(self) -> None:
        self._four.close()
        self._six.close()

    def until_all_answer(self, addresses: Sequence[str], *, since: float) -> list[float]:
        """When each address answered first, in seconds since a time, in order of time."""
        missing = set(addresses)
        answered: list[float] = []
        asked = 0.0
        while missing and time.monotonic() - since < LONGEST:
            if time.monotonic() - asked >= AGAIN:
                asked = time.monotonic()
                for each in missing:
                    self._ask(each)
            for ready in select.select([self._four, self._six], [], [], AGAIN / 4)[0]:
                data, (sender, *_) = ready.recvfrom(256)
                is_answer = data[0] == 129 if ready is self._six else data[20] == 0
                if is_answer and sender in missing:
                    missing.discard(sender)
                    answered.append(time.monotonic() - since)
        assert not missing, f"{len(missing)} of {len(addresses)} do not answer after {LONGEST:g} s"
        return answered

    def _ask(self, address: str) -> None:
        is_six = ":" in address
        head = struct.pack("!BBHHH", 128 if is_six else 8, 0, 0, os.getpid() & 0xFFFF, 1)
        if not is_six:  # the kernel does it for IPv6
            total = sum(struct.unpack("!4H", head))
            head = head[:2] + struct.pack("!H", 0xFFFF - ((total & 0xFFFF) + (total >> 16))) + head[4:]
        with contextlib.suppress(OSError):  # no route, or a full queue: asked again
            (self._six if is_six else self._four).sendto(head, (address, 0))


def make(host: Topology, count: int) -> list[str]:
    addresses = []
    with osctl.client.connect(str(host.socket)) as daemon:
        for number in range(1, count + 1):
            name, four, six = f"ct{number}", f"1.2.3.{number}", f"2001:db8:2::{number:x}"
            daemon.call("ct_new", container=name, distribution="busybox")
            daemon.call("ct_netif_new_routed", container=name, netif="eth0")
            daemon.call("ct_netif_ip_add", container=name, netif="eth0", addresses=[four, six])
            daemon.call("ct_start", container=name)
            addresses += [four, six]
    return addresses


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--containers", type=int, default=200, choices=range(1, 255), metavar="1-254")
    options.add_argument("--bare", action="store_true")
    options.add_argument("--at-once", type=int)
    chosen = options.parse_args()
    settings = f"[boot]\nat_once = {chosen.at_once}\n" if chosen.at_once else ""
    with Topology(settings=settings, **({"program": BARE} if chosen.bare else {}), start_daemon=True) as host:
        addresses = make(host, chosen.containers)
        before = wait_until(host.noted_boot, "the first boot is noted")
        begun = time.monotonic()
        host.osctl("self", "shutdown", "--force", seconds=300)
        print(f"{chosen.containers} containers are shut down after {time.monotonic() - begun:.2f} s", flush=True)
        host.cut_power()
        host.make_network()  # as a boot does, and before the clock runs
        pinger = Pinger(host.R)
        try:
            started = time.monotonic()
            host.start_daemon(seconds=60)
            ready = time.monotonic() - started
            answered = pinger.until_all_answer(addresses, since=started)
        finally:
            pinger.close()
        wait_until(lambda: host.noted_boot() != before, "all is started", seconds=60)
        print(f"osctld answers after {ready:.2f} s")
        for what, at in (("first", 0), ("half of", len(answered) // 2), ("last", -1)):
            print(f"{what} {len(addresses)} addresses of {chosen.containers} containers: {answered[at]:.2f} s")
        host.osctl("self", "shutdown", "--force", seconds=300)
        is_reached = answered[-1] <= GOAL
        print(f"all answer after {answered[-1]:.1f} s, goal {GOAL:g}{'' if is_reached else ', missed'}")
        return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
