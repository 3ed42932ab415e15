"""Routes that are asked for one by one are what a look at the whole table tells of them, whatever others have there."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import pytest

from kernel.network_namespaces import Host
from osctld.core.address.addresses import Network
from osctld.core.plan.kernel_state import HOST, KernelState, LinkScope, Route, SoughtRoutes, sought_routes
from osctld.shell.kernel import rtnetlink_dumps
from osctld.shell.kernel.netlink import NetlinkSocket
from osctld.shell.kernel.port import Kernel
from osctld.shell.kernel.rtnetlink import RTM_GETROUTE

pytestmark = pytest.mark.requires_kernel("veth")

LINK = "osweb01-eth0"
#: Gateway of each version, and what is routed by it.
WAYS = {4: "10.100.10.102", 6: "fd00:1::2"}
KNOWN = {4: ("203.0.113.4/32", "203.0.113.64/28"), 6: ("2001:db8:7::4/128", "2001:db8:7:40::/64")}
NEW = {4: "203.0.113.5/32", 6: "2001:db8:7::5/128"}
ADDRESSES = ("10.100.10.101/30", "10.100.20.0/31", "fd00:1::1/126", "fe80::1/64")


class Watched(NetlinkSocket):
    """It remembers whether it went through the routes."""

    went_through = False

    def dump(self, kind: int, body: bytes) -> Sequence[bytes]:
        self.went_through |= kind == RTM_GETROUTE
        return super().dump(kind, body)


@pytest.fixture
def routed(host: Host) -> Host:
    """A host with a link of ours and another one, up0, and a daemon's routes by that."""
    for name in (LINK, "up0"):
        host.run(f"ip link add {name} type veth peer name {name[:5]}-peer")
        host.run(f"ip link set {name} addrgenmode none")
        host.run(f"ip link set {name[:5]}-peer up")
        host.run(f"ip link set {name} up")
    for each in ADDRESSES:
        host.run(f"ip addr add {each} dev {LINK} nodad")
    host.run("ip addr add 198.18.0.1/24 dev up0")
    host.run("ip addr add 2001:db8:99::1/64 dev up0 nodad")
    for version, way in WAYS.items():
        for each in KNOWN[version]:
            host.run(f"ip -{version} route add {each} via {way} dev {LINK} proto 111 metric {METRIC[version]}")
    return host


METRIC = {4: 0, 6: 16}


def sought() -> SoughtRoutes:
    networks = [Network.parse(each).packed for version in KNOWN for each in KNOWN[version]]
    new = [Network.parse(each).packed for each in NEW.values()]
    return SoughtRoutes(frozenset((LINK, each) for each in networks), frozenset((LINK, each) for each in new))


@pytest.fixture
def through(routed: Host) -> Iterator[Watched]:  # noqa: ARG001 - opened inside of it
    with contextlib.closing(Watched()) as opened:
        yield opened


def look(through: Watched, asked: SoughtRoutes | None) -> KernelState:
    through.went_through = False
    link = rtnetlink_dumps.find_link(through, LINK)
    assert link is not None
    return KernelState(rtnetlink_dumps.objects_on(through, [link], HOST, sought=asked))


def without_unsought(state: KernelState, asked: SoughtRoutes) -> KernelState:
    wanted = asked.known | asked.new
    return KernelState(
        each for each in state.objects if not isinstance(each, Route) or (each.link, each.network.packed) in wanted
    )


#: What others do, and whether asking still suffices.
DISTURBANCES = {
    "nothing": ([], True),
    "routes to the same by another link": (
        [
            "ip route add 203.0.113.4 dev up0 metric 50",
            "ip -6 route add 2001:db8:7::4 dev up0 metric 5000",
            "ip -6 route add 2001:db8:7:40::/64 dev up0 metric 1",
        ],
        True,
    ),
    "longer and shorter routes by another link": (
        [
            "ip route add 203.0.113.64/32 dev up0",
            "ip route add 203.0.113.0/24 dev up0",
            "ip route add default via 198.18.0.2",
            "ip -6 route add 2001:db8:7:40::/128 dev up0",
            "ip -6 route add 2001:db8:7::/48 dev up0",
            "ip -6 route add default via 2001:db8:99::2",
        ],
        True,
    ),
    "a rule to a table of another link": (
        [
            "ip rule add pref 100 lookup 100",
            "ip route add 203.0.113.4 dev up0 table 100",
            "ip -6 rule add pref 100 lookup 100",
            "ip -6 route add 2001:db8:7::4 dev up0 table 100",
        ],
        True,
    ),
    "a rule to a table of our link": (
        ["ip rule add pref 100 lookup 100", f"ip route add 203.0.113.4 dev {LINK} table 100"],
        False,
    ),
    "the same for IPv6": (
        ["ip -6 rule add pref 100 lookup 100", f"ip -6 route add 2001:db8:7::4 dev {LINK} table 100"],
        False,
    ),
    "what is new is there, and behind a rule": (
        [
            "ip rule add pref 100 lookup 100",
            f"ip route add 203.0.113.5 dev {LINK} table 100",
            f"ip route add 203.0.113.5 via 10.100.10.102 dev {LINK} proto 111",
        ],
        False,
    ),
    "another gateway and protocol": (
        [
            f"ip route replace 203.0.113.4 via 10.100.20.1 dev {LINK} proto static",
            f"ip -6 route replace 2001:db8:7::4 via fe80::2 dev {LINK} proto static metric 16",
        ],
        True,
    ),
    "one of ours is gone": ([f"ip route del 203.0.113.64/28 dev {LINK}"], False),
    "one of ours of IPv6 is gone": ([f"ip -6 route del 2001:db8:7:40::/64 dev {LINK}"], False),
    "a null route in place of ours": (["ip route replace blackhole 203.0.113.4"], False),
    "a null route over ours": (
        ["ip route add blackhole 203.0.113.4 metric 9", "ip -6 route add unreachable 2001:db8:7::4 metric 1"],
        None,  # a matter of the kernel's taste, and right in either case
    ),
    "what is new is there": (
        [
            f"ip route add 203.0.113.5 via 10.100.10.102 dev {LINK} proto 111",
            f"ip -6 route add 2001:db8:7::5 via fd00:1::2 dev {LINK} proto 111 metric 16",
        ],
        True,
    ),
    "what nobody wants is there": ([f"ip route add 203.0.113.77 via 10.100.10.102 dev {LINK} proto 111"], True),
    "a longer route of ours hides one": ([f"ip route add 203.0.113.64/32 via 10.100.10.102 dev {LINK}"], False),
    "several next hops": (
        [f"ip -6 route append 2001:db8:7::4 via fe80::2 dev {LINK} proto 111 metric 16"],
        False,
    ),
    "the link was down": ([f"ip link set {LINK} down", f"ip link set {LINK} up"], False),
    "the link is down": ([f"ip link set {LINK} down"], False),
    "nothing at the other end": ([f"ip link set {LINK[:5]}-peer down"], None),
    "the prefix route is gone": ([f"ip route del 10.100.10.100/30 dev {LINK}"], False),
    "that of IPv6 is gone": ([f"ip -6 route del fd00:1::/126 dev {LINK}"], False),
    "an address without a prefix route": (
        [f"ip addr add 10.100.30.1/30 dev {LINK} noprefixroute", f"ip addr add 192.0.2.1/32 dev {LINK}"],
        True,
    ),
}


@pytest.mark.parametrize(("commands", "suffices"), DISTURBANCES.values(), ids=DISTURBANCES)
def test_routes_asked_for_one_by_one_are_what_a_look_at_all_tells(
    routed: Host, through: Watched, commands: Sequence[str], suffices: bool | None
) -> None:
    for each in commands:
        routed.run(each)

    seen = look(through, sought())
    went_through = through.went_through
    everything = look(through, None)

    assert through.went_through
    assert without_unsought(seen, sought()) == without_unsought(everything, sought())
    if suffices is not None:
        assert went_through is not suffices
    if not went_through:
        assert seen == without_unsought(seen, sought())


def test_many_are_asked_for_one_by_one_once_a_look_at_all_took_long(
    routed: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [f"203.0.114.{n}" for n in range(100)]
    routed.run("ip -batch -", stdin="".join(f"route add {each} via {WAYS[4]} dev {LINK} proto 111\n" for each in ours))
    wanted = SoughtRoutes(frozenset((LINK, Network.parse(each).packed) for each in ours), frozenset())
    went_through: list[bool] = []
    dump = NetlinkSocket.dump

    def watched(through: NetlinkSocket, kind: int, body: bytes) -> Sequence[bytes]:
        went_through[-1] |= kind == RTM_GETROUTE
        return dump(through, kind, body)

    monkeypatch.setattr(NetlinkSocket, "dump", watched)
    # What a look takes is the machine's matter (bench/large_hosts.py measures it): here it is said.
    seconds_of_each, worked = 0.001, itertools.count()
    with contextlib.closing(Kernel(clock=lambda: seconds_of_each * next(worked))) as kernel:

        def sees() -> KernelState:
            went_through.append(False)
            return kernel.observe([LinkScope(HOST, LINK)], routed.namespaces, sought=wanted)

        quick = [sees() for _ in range(2)]
        seconds_of_each = 0.02
        slow = [sees() for _ in range(2)]

    assert went_through == [True, True, True, False]
    assert without_unsought(quick[0], wanted) == without_unsought(slow[1], wanted)
    assert len([each for each in slow[1].objects if isinstance(each, Route) and each.protocol == 111]) == len(ours)


def test_states_say_which_routes_are_known_and_which_are_new(routed: Host, kernel: Kernel) -> None:  # noqa: ARG001
    def state(version: int, *networks: str) -> KernelState:
        return KernelState(Route(HOST, Network.parse(each), LINK, None, 111, METRIC[version]) for each in networks)

    before = state(4, *KNOWN[4])

    assert sought_routes(before, state(4, KNOWN[4][0], NEW[4])) == SoughtRoutes(
        frozenset((LINK, Network.parse(each).packed) for each in KNOWN[4]),
        frozenset({(LINK, Network.parse(NEW[4]).packed)}),
    )
    assert sought_routes(before, state(4, *(f"10.{n >> 8}.{n & 255}.0/24" for n in range(2000)))) is None
