"""A second link of the host with a machine on it, and what the host lets pass between that and its router.

L is a machine on lan0 of H, which has 172.16.7.1/24 and 2001:db8:77::1/64 there; L has those that end in 2 at eth0, and
sends everything to H. R's routes to L lead to H, so that only H decides what passes between the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from whole.host import HOST_4, HOST_6, ROUTER_4, ROUTER_6, Topology, run

#: The host's address on the LAN, that of the machine there, and the length of the network.
LAN = {4: ("172.16.7.1", "172.16.7.2", 24), 6: ("2001:db8:77::1", "2001:db8:77::2", 64)}
HOST, ROUTER = {4: HOST_4, 6: HOST_6}, {4: ROUTER_4, 6: ROUTER_6}
EVERYTHING = {4: "default", 6: "::/0"}
#: What `passing` says of a host that is a router.
ALL_WAYS = {"out 4", "in 4", "out 6", "in 6"}


@contextlib.contextmanager
def lan_of(host: Topology) -> Iterator[str]:
    """The namespace of L, while it is there."""
    machine = f"{host.H}-lan"
    run("ip", "netns", "add", machine)
    try:
        host.sysctl(machine, "net/ipv6/conf/default/accept_dad", "0")
        host.ip(host.H, "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", machine)
        for namespace, link in ((host.H, "lan0"), (machine, "eth0")):
            host.ip(namespace, "link", "set", link, "up")
        for version, (near, far, length) in LAN.items():
            flags = ["nodad"] if version == 6 else []
            host.ip(host.H, "addr", "add", f"{near}/{length}", "dev", "lan0", *flags)
            host.ip(machine, "addr", "add", f"{far}/{length}", "dev", "eth0", *flags)
            host.ip(machine, "route", "add", EVERYTHING[version], "via", near)
            host.ip(host.R, "route", "add", far, "via", HOST[version])
        yield machine
    finally:
        run("ip", "netns", "del", machine)


def arrives(host: Topology, source: tuple[str, str], target: tuple[str, str, str]) -> bool:
    """Whether a ping to an address is seen beyond the host, at a link there; answers are of no interest."""
    namespace, own = source
    there, link, address = target
    with host.capture(there, link, f"(icmp or icmp6) and host {own}") as capture:
        host.ping(namespace, address, count=2, source=own, seconds=0.5)
        # The last one is the host's own, and arrives: what has not been seen by now never comes.
        host.ping(host.H, address, count=1)
        return any(f"{own} > {address}" in line for line in capture.lines)


def passing(host: Topology, lan: str, *, beyond: Mapping[int, str] = ROUTER) -> set[str]:
    """What the host lets pass between its LAN and its uplink, by direction and IP version.

    `beyond`: addresses of R.
    """
    found = set()
    for version, (_, far, _) in LAN.items():
        if arrives(host, (lan, far), (host.R, "down0", beyond[version])):
            found.add(f"out {version}")
        if arrives(host, (host.R, beyond[version]), (lan, "eth0", far)):
            found.add(f"in {version}")
    return found
