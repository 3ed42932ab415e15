"""A routed veth, shown: a real container, reached from the host, from a router beyond it, and from a neighbour.

Everything happens in two network namespaces, `host` and `router`, made for this and gone afterwards. Each command is
printed before it runs; each claim is checked, and the first that does not hold ends the demonstration with status 1.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from whole.host import WORLD_4, WORLD_6, Topology, run, wait_until

IS_COLOURED = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


class StepFailed(Exception):
    """Something that this demonstration claims does not hold."""


def coloured(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if IS_COLOURED else text


def heading(text: str) -> None:
    print(f"\n{coloured('1;36', '== ' + text)}", flush=True)


def explain(text: str) -> None:
    print(textwrap.fill(" ".join(text.split()), 100), flush=True)


def claim(what: str, *, holds: bool) -> None:
    print(f"  {coloured('1;32', 'ok') if holds else coloured('1;31', 'NOT')}  {what}", flush=True)
    if not holds:
        raise StepFailed(what)


class Demonstration:
    def __init__(self, host: Topology) -> None:
        self.host = host

    # --- showing -------------------------------------------------------------------------------------------------

    def _show(self, prompt: str, words: Sequence[str], output: str) -> str:
        print(f"{coloured('33', prompt + '#')} {coloured('1', shlex.join(words))}")
        print(textwrap.indent(output.rstrip(), "    "), end="\n" if output.strip() else "", flush=True)
        return output

    def osctl(self, line: str) -> str:
        """Run an osctl command on the host, as it would be typed."""
        words = shlex.split(line)
        result = self.host.osctl(*words, check=False)
        output = self._show("host", ["osctl", *words], result.stdout + result.stderr)
        if result.status != 0:
            raise StepFailed(f"osctl {line}: status {result.status}")
        return output

    def on_host(self, line: str) -> str:
        return self._show("host", shlex.split(line), self.host.in_namespace(self.host.H, *shlex.split(line)).stdout)

    def inside(self, container: str, line: str) -> str:
        return self._show(container, shlex.split(line), self.host.guest(container, *shlex.split(line)).stdout)

    def is_reached(self, address: str, *, name: str) -> None:
        """The host and the router ping an address of a container."""
        for place, namespace in (("host", self.host.H), ("router", self.host.R)):
            received = self.host.ping(namespace, address, count=3)
            claim(f"the {place} pings {address} of {name}: {received} of 3 answered", holds=received == 3)

    def comes_from(self, container: str, address: str, *, source: str) -> None:
        """The world beyond the router is pinged from inside, and the router writes down who that was."""
        key, types = ("ip6", "icmpv6") if ":" in address else ("ip", "icmp")
        kind = "ipv6_addr" if ":" in address else "ipv4_addr"
        watch = (
            f"table inet watch {{ set sources {{ type {kind}; flags dynamic; size 16; }}; "
            f"chain input {{ type filter hook input priority 0; "
            f"{types} type echo-request {key} daddr {address} update @sources {{ {key} saddr }}; }}; }}"
        )
        self.host.in_namespace(self.host.R, "nft", watch)
        self.inside(container, f"ping -c 2 -q {address}")
        listed = self.host.in_namespace(self.host.R, "nft", "list", "set", "inet", "watch", "sources").stdout
        self.host.in_namespace(self.host.R, "nft", "delete", "table", "inet", "watch")
        seen = listed.partition("elements = {")[2].partition("}")[0].strip()
        claim(f"the router saw these pings come from {seen or 'nobody'}", holds=seen == source)

    # --- the story -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.introduce()
        self.first_example()
        self.live_change()
        self.second_example()
        self.neighbours()
        self.killed_daemon()
        self.nothing_is_left()

    def introduce(self) -> None:
        heading("A host and a router beside it")
        explain(
            """Two network namespaces stand for two machines, joined by a cable. osctld runs on the host, in the
            background; the router sends 1.2.3.0/24, 10.5.5.0/24, 10.0.0.0/24 and 2001:db8:2::/48 to it."""
        )
        self.on_host("ip -brief addr show dev up0")
        self.on_host("ip route show")
        self.osctl("ping")

    def first_example(self) -> None:
        heading("The first example: an interconnecting network, and an address routed through it")
        explain("A container with a busybox root directory and its own range of user ids: its root is unprivileged.")
        self.osctl("ct new --distribution busybox myct01")
        self.osctl("ct netif new routed --via 10.100.10.100/30 myct01 eth0")
        self.osctl("ct netif ip add myct01 eth0 1.2.3.4/32")
        explain("The same for IPv6, on the same interface:")
        self.osctl("ct netif set --via fd00:10:100::/126 myct01 eth0")
        self.osctl("ct netif ip add myct01 eth0 2001:db8:2::4/128")
        self.osctl("ct start myct01")
        self.osctl("ct netif ls myct01")

        veth = self.host.veth("myct01")
        explain(f"The host's end is {veth}, with the first address of each network, and a route for each address:")
        addresses = self.on_host(f"ip addr show dev {veth}")
        claim("the host's end has 10.100.10.101/30", holds="inet 10.100.10.101/30" in addresses)
        claim("the host's end has fd00:10:100::1/126", holds="inet6 fd00:10:100::1/126" in addresses)
        routes = self.on_host(f"ip route show dev {veth}") + self.on_host(f"ip -6 route show dev {veth}")
        claim("1.2.3.4 goes via 10.100.10.102", holds="1.2.3.4 via 10.100.10.102" in routes)
        claim("2001:db8:2::4 goes via fd00:10:100::2", holds="2001:db8:2::4 via fd00:10:100::2" in routes)

        explain("Inside, configured before the first process ran:")
        addresses = self.inside("myct01", "ip addr show dev eth0")
        claim("eth0 has 10.100.10.102/30", holds="inet 10.100.10.102/30" in addresses)
        claim("eth0 has 1.2.3.4/32", holds="inet 1.2.3.4/32" in addresses)
        claim("eth0 has 2001:db8:2::4/128", holds="inet6 2001:db8:2::4/128" in addresses)
        routes = self.inside("myct01", "ip route show")
        claim(
            "the default route is via the host, from 1.2.3.4",
            holds="default via 10.100.10.101" in routes and "src 1.2.3.4" in routes,
        )
        routes = self.inside("myct01", "ip -6 route show")
        claim("and the same for IPv6", holds="default via fd00:10:100::1" in routes and "src 2001:db8:2::4" in routes)

        self.is_reached("1.2.3.4", name="myct01")
        self.is_reached("2001:db8:2::4", name="myct01")
        self.comes_from("myct01", WORLD_4, source="1.2.3.4")
        self.comes_from("myct01", WORLD_6, source="2001:db8:2::4")

    def live_change(self) -> None:
        heading("A live change: a network is routed to the running container, then one of its addresses assigned")
        self.osctl("ct netif route add myct01 eth0 10.5.5.0/24")
        veth = self.host.veth("myct01")
        claim("the host routes it", holds="10.5.5.0/24 via" in self.on_host(f"ip route show dev {veth}"))
        claim("no address inside yet", holds="10.5.5." not in self.inside("myct01", "ip addr show dev eth0"))
        self.osctl("ct netif ip add myct01 eth0 10.5.5.1/24")
        self.osctl("ct netif ip ls myct01 eth0")
        self.is_reached("10.5.5.1", name="myct01")

    def second_example(self) -> None:
        heading("The second example: explicitly chosen ends, from public networks")
        self.osctl("ct new --distribution busybox myct02")
        self.osctl(
            "ct netif new routed --via 10.0.0.0/24 --host-addr 10.0.0.254 --ct-addr 10.0.0.1"
            " --via 2001:db8:2:1::/64 --host-addr 2001:db8:2:1::fe --ct-addr 2001:db8:2:1::1 myct02 eth0"
        )
        self.osctl("ct start myct02")
        self.on_host(f"ip addr show dev {self.host.veth('myct02')}")
        self.inside("myct02", "ip addr show dev eth0")
        self.is_reached("10.0.0.1", name="myct02")
        self.is_reached("2001:db8:2:1::1", name="myct02")
        self.comes_from("myct02", WORLD_4, source="10.0.0.1")
        self.comes_from("myct02", WORLD_6, source="2001:db8:2:1::1")

    def neighbours(self) -> None:
        heading("One container pings the other: as packets that the host routes; they share no link")
        for address in ("1.2.3.4", "2001:db8:2::4"):
            received = self.host.guest_ping("myct02", address, count=2)
            claim(f"myct02 pings {address} of myct01: {received} of 2 answered", holds=received == 2)
        self.osctl("ct ls")

    def killed_daemon(self) -> None:
        heading("kill -9 of the daemon, while the router pings the container twenty times a second")
        words = ["ping", "-n", "-q", "-i", "0.05", "1.2.3.4"]
        pings = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.host.R}", *words], stdout=subprocess.PIPE, text=True
        )
        try:
            init = self.host.init_pid("myct01")
            print(f"{coloured('33', 'host#')} {coloured('1', f'kill -9 {self.host.daemon_pid}')}", flush=True)
            self.host.kill_daemon()
            claim("no daemon answers", holds=self.host.osctl("ping", check=False).status == 69)
            self.is_reached("1.2.3.4", name="myct01, without a daemon")
            self.is_reached("2001:db8:2::4", name="myct01, without a daemon")
            explain("A new daemon finds the containers running, and everything as saved:")
            self.host.start_daemon()
            self.osctl("ct ls")
            claim("it has adopted myct01, not started it again", holds=self.host.init_pid("myct01") == init)
            self.osctl("ct netif ip add myct01 eth0 1.2.3.5/32")
            self.is_reached("1.2.3.5", name="myct01, added by the new daemon")
        finally:
            pings.send_signal(signal.SIGINT)
            summary = pings.communicate(timeout=10)[0].splitlines()[-2]
        claim(f"the router's pings meanwhile: {summary}", holds=" 0% packet loss" in summary)

    def nothing_is_left(self) -> None:
        heading("Deleted containers leave nothing behind")
        for name in ("myct01", "myct02"):
            self.osctl(f"ct del -f {name}")
        wait_until(lambda: "os" not in links(self.host), "the host's ends are gone")
        self.on_host("ip -brief link show")
        routes = self.on_host("ip route show") + self.on_host("ip -6 route show")
        claim("no route to a container is left", holds="1.2.3." not in routes and "2001:db8:2:" not in routes)


def links(host: Topology) -> str:
    """The first two letters of each link on the host."""
    return " ".join(str(each["ifname"])[:2] for each in host.ip_json(host.H, "link", "show"))


def main() -> int:
    if os.geteuid() != 0:
        print("error: network namespaces and containers require root: run ./dev demo as root", file=sys.stderr)
        return 1

    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in endings:
            signal.signal(each, signal.SIG_IGN)  # a second one must not interrupt the clean-up
        raise SystemExit(128 + number)

    for each in endings:
        signal.signal(each, stop)
    topology = Topology()
    try:
        with topology as host:
            Demonstration(host).run()
    except (StepFailed, AssertionError) as error:
        print(f"\n{coloured('1;31', 'error:')} this step failed: {error}", file=sys.stderr)
        return 1
    left = run("ip", "netns", "list").stdout
    if topology.H in left or topology.directory.exists():
        print(f"error: {topology.H} was left behind", file=sys.stderr)
        return 1
    print(f"\n{coloured('1;32', 'Every step succeeded; nothing was left behind.')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
