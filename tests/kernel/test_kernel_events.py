"""What is heard of the host's kernel, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from kernel.container_objects import GUEST, GUEST_LINK, HOST_LINK, HOST_MAC, errors, make_links, plan_of
from kernel.network_namespaces import Host, until
from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.plan.changes import Add, Remove
from osctld.core.plan.kernel_state import HOST, AssignedAddress, KernelObject, Neighbour, Route, SiblingLinks
from osctld.core.plan.packet_filter import packet_filter
from osctld.core.reconcile.kernel_events import ALL_LINKS, Heard, LinkNews
from osctld.shell.kernel.events import MOST_LEARNED_ON, KernelEvents
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")

ADDRESS_4 = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/24"))
ADDRESS_6 = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("fd00::1/64"))
NOTHING = Heard()


@pytest.fixture
def events(host: Host, kernel: Kernel) -> Iterator[KernelEvents]:
    """A listener on a host with one pair of links, after all that making them led to."""
    make_links(kernel, host.namespaces, ADDRESS_4, ADDRESS_6)
    host.run("ip link add other0 type veth peer name other1")
    host.run("ip addr add 10.9.0.1/24 dev other0")
    for each in ("other0", "other1"):
        host.run(f"ip link set {each} addrgenmode none up")
    with contextlib.closing(kernel.listen((111, 112))) as made:
        until(lambda: have_carriers(host))
        made.read()
        yield made


def have_carriers(host: Host) -> bool:
    """Whether the kernel has told all that it tells of a link that comes up: it does so when it likes."""
    return all(each["operstate"] in ("UP", "UNKNOWN") for each in host.ip("link"))


def concerns_our_link(heard: Heard) -> bool:
    return HOST_LINK in {*heard.changed_on, *heard.settings_of, *(each.name for each in heard.links)}


@pytest.mark.parametrize(
    "command",
    [
        "ip route add 1.2.3.4/32 via 10.0.0.2 proto 111",
        "ip -6 route add 2001:db8::/64 via fd00::2 proto 112",
        "ip route del 10.0.0.0/24 dev {}",
        "ip addr del 10.0.0.1/24 dev {}",
        "ip addr add 10.1.0.1/24 dev {}",
        "ip -6 addr flush dev {}",
        "ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev {} nud permanent",
        "ip neigh add fd00::2 lladdr 02:00:00:00:00:09 dev {}",
        "ip link set {} down",
        "ip link set {} mtu 1400",
        "ip link set {} group 5",
        "ip link set {} address 02:00:00:00:00:09",
        "ip link del {}",
        "sysctl -w net.ipv4.conf.{}.rp_filter=1",
        "sysctl -w net.ipv4.conf.{}.forwarding=1",
        "sysctl -w net.ipv6.conf.{}.forwarding=1",
        "sysctl -w net.ipv6.conf.{}.disable_ipv6=1",
    ],
)
def test_what_others_change_on_a_link_is_heard_at_once(host: Host, events: KernelEvents, command: str) -> None:
    host.run(command.format(HOST_LINK))

    assert concerns_our_link(events.read())
    assert not events.read().was_lost


def test_a_route_that_is_removed_or_replaced_is_heard(host: Host, events: KernelEvents) -> None:
    for version, network, gateway in ((4, "1.2.3.4/32", "10.0.0.2"), (6, "2001:db8::/64", "fd00::2")):
        route = f"{network} via {gateway} metric 8"
        host.run(f"ip -{version} route add {route} proto 111")
        host.run(f"ip -{version} route del {route}")
        host.run(f"ip -{version} route add {route} proto 111")
        events.read()

        # By another's, which leads elsewhere: nobody says that ours is gone.
        host.run(f"ip -{version} route replace {network} dev other0 metric 8 proto static")

        assert events.read().networks == {Network.parse(network)}

        host.run(f"ip -{version} route replace {route} proto 111")
        events.read()
        host.run(f"ip -{version} route del {route}")
        heard = events.read()
        assert heard.networks == {Network.parse(network)}
        assert heard.changed_on == {HOST_LINK}


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
@pytest.mark.parametrize(("ip", "network"), [("ip", "1.2.3.4/32"), ("ip -6", "2001:db8::/64")])
def test_a_null_route_is_heard_to_come_and_to_go(
    host: Host, events: KernelEvents, ip: str, network: str, kind: str
) -> None:
    for verb in ("add", "del"):
        host.run(f"{ip} route {verb} {kind} {network} proto static")

        assert events.read().networks == {Network.parse(network)}


def test_a_link_is_heard_of_as_it_is_now(host: Host, events: KernelEvents) -> None:
    host.run(f"ip link set {HOST_LINK} down")  # before Linux 6.2 none that is up is renamed
    host.run(f"ip link set {HOST_LINK} name mine")
    host.run("ip link set mine up")

    news = {each for each in events.read().links if each.name == "mine"}
    (index,) = {each.index for each in news}
    assert LinkNews(index, "mine", 111, 1500, is_up=True, is_gone=False) in news

    host.run("ip link del mine")
    assert LinkNews(index, "mine", 111, 1500, is_up=False, is_gone=True) in events.read().links


def test_a_guest_that_takes_its_end_down_is_heard_on_the_host(host: Host, events: KernelEvents) -> None:
    host.run(f"ip link set {GUEST_LINK} down", GUEST)

    until(lambda: HOST_LINK in {each.name for each in events.read().links})


@pytest.mark.parametrize(
    "command",
    [
        "ip route add 1.2.3.4/32 dev other0 proto static",
        "ip route add 1.2.3.4/32 dev other0 proto bird",
        "ip route add 1.2.3.4/32 dev other0 proto 111 table 100",
        "ip route add 1.2.3.4/32 dev other0 proto 111 table 1000",
        "ip -6 route add 2001:db8::/64 dev other0 proto static",
        "nft add table inet mine",
        "nft add table ip osctl",
    ],
)
def test_what_does_not_matter_is_kept_back_by_the_kernel_or_passed_over(
    host: Host, events: KernelEvents, command: str
) -> None:
    host.run(command)

    assert events.read() == NOTHING


def test_a_default_route_and_settings_of_all_links_are_heard(host: Host, events: KernelEvents) -> None:
    host.run("ip route add default via 10.9.0.2")
    assert Network.parse("0.0.0.0/0") in events.read().networks

    host.run("sysctl -w net.ipv6.conf.all.forwarding=1")
    assert ALL_LINKS in events.read().settings_of


@pytest.mark.requires_kernel("nftables fib")
@pytest.mark.parametrize(
    "command",
    [
        "nft flush ruleset",
        "nft delete table inet osctl",
        "nft delete table arp osctl",
        "nft delete table bridge osctl",
        "nft flush table inet osctl",
        "nft add chain inet osctl another",
        "nft flush set inet osctl own",
    ],
)
def test_what_others_change_in_our_tables_is_heard(
    host: Host, kernel: Kernel, events: KernelEvents, command: str
) -> None:
    plan = plan_of(Add(packet_filter(111, bridge_group=112)), Add(SiblingLinks(HOST, HOST_LINK, HOST_LINK)))
    assert errors(kernel.apply(plan, {})) == [None, None]
    events.read()

    host.run(command)

    assert events.read() == Heard(is_filter_changed=True)


@pytest.mark.requires_kernel("nftables fib")
def test_what_we_do_ourselves_tells_nobody(kernel: Kernel, events: KernelEvents) -> None:
    kernel.apply(plan_of(Add(packet_filter(111, bridge_group=112))), {})
    events.read()
    gateway, gateway_6 = Address.parse("10.0.0.2"), Address.parse("fd00::2")
    first, first_6 = Network.parse("20.0.0.0/32").number, Network.parse("2001:db8::/128").number
    routes = [
        *(Route(HOST, Network(4, first + each, 32), HOST_LINK, gateway, 111, 0) for each in range(2000)),
        *(Route(HOST, Network(6, first_6 + each, 128), HOST_LINK, gateway_6, 111, 8) for each in range(2000)),
    ]
    neighbour, siblings = Neighbour(HOST, HOST_LINK, gateway, HOST_MAC), SiblingLinks(HOST, HOST_LINK, HOST_LINK)
    objects: list[KernelObject] = [*routes, neighbour, siblings]

    added = kernel.apply(plan_of(*(Add(each) for each in objects)), {})
    removed = kernel.apply(plan_of(*(Remove(each) for each in objects)), {})
    kernel.forget_counted([HOST_LINK])

    assert errors((*added, *removed)) == [None] * (2 * len(objects))
    heard = events.read()
    # What an old kernel tells late of other links that came up is none of this.
    assert not concerns_our_link(heard)
    assert (heard.networks, heard.is_filter_changed, heard.was_lost) == (frozenset(), False, False)


LEARNED = "proto bgp metric 20"


@pytest.mark.parametrize(
    "route",
    [
        f"ip route add 198.18.0.0/24 via 10.9.0.2 dev other0 {LEARNED}",
        f"ip route add 198.18.0.0/24 via inet6 fe80::2 dev other0 onlink {LEARNED}",
        f"ip route add 198.18.0.0/24 dev other0 table 500 {LEARNED}",
        f"ip -6 route add 2001:db8::/48 via fe80::2 dev other0 onlink {LEARNED}",
        f"ip -6 route add 2001:db8::/48 dev other0 {LEARNED}",
        f"ip route add 198.18.0.0/24 {LEARNED} nexthop dev other0 nexthop dev other1",
        f"ip route add 198.18.0.0/24 {LEARNED} nexthop dev other1 nexthop via inet6 fe80::2 dev other0 onlink",
        f"ip route add 198.18.0.0/24 {LEARNED} nexthop dev other1 nexthop via 10.9.0.2 dev other0",
        f"ip -6 route add 2001:db8::/48 {LEARNED} nexthop via fe80::3 dev other1 nexthop via fe80::2 dev other0",
    ],
)
def test_what_a_routing_daemon_brings_is_heard_on_the_links_that_are_listened_to(
    host: Host, events: KernelEvents, route: str
) -> None:
    host.run(route)
    assert events.read() == NOTHING
    host.run(route.replace(" add ", " del "))
    assert events.read() == NOTHING

    assert events.hear_learned_on(["other0", "absent"])
    host.run(route)

    assert "other0" in events.read().changed_on
    assert not events.hear_learned_on([])
    host.run(route.replace(" add ", " del "))
    assert events.read() == NOTHING


def test_what_is_not_brought_by_a_routing_daemon_and_to_these_links_is_not_heard(
    host: Host, events: KernelEvents
) -> None:
    events.hear_learned_on(["other0"])

    host.run(f"ip route add 198.18.0.0/24 dev other1 {LEARNED}")
    host.run(f"ip route add 198.18.1.0/24 {LEARNED} nexthop dev other1 nexthop dev {HOST_LINK}")
    host.run("ip route add 198.18.2.0/24 dev other0 proto static")
    host.run("ip route add 198.18.3.0/24 dev other0 proto dhcp table 500")
    host.run("ip route del 198.18.0.0/24")

    assert events.read() == NOTHING


def test_as_many_links_are_listened_to_as_a_filter_has_room_for(host: Host, events: KernelEvents) -> None:
    for number in range(MOST_LEARNED_ON + 4):
        host.run(f"ip link add many{number} type veth peer name peer{number}")
    links = [f"many{number}" for number in range(MOST_LEARNED_ON + 4)]
    host.run("ip link set many3 up")
    events.read()

    assert events.hear_learned_on(links)
    assert not events.hear_learned_on(links)
    host.run(f"ip route add 198.18.0.0/24 dev many3 {LEARNED}")

    assert events.read().changed_on == {"many3"}


@pytest.mark.parametrize("table", ["100", "500"])
@pytest.mark.parametrize("version", [4, 6])
def test_default_routes_of_every_table_are_heard(host: Host, events: KernelEvents, version: int, table: str) -> None:
    network = Network.parse("0.0.0.0/0" if version == 4 else "::/0")
    for action in ("add", "del"):
        host.run(f"ip -{version} route {action} default dev other0 table {table}")

        assert events.read().networks == {network}
    host.run(f"ip -{version} route add {'1.2.3.0/24' if version == 4 else '2001:db8::/48'} dev other0 table {table}")
    assert events.read() == NOTHING


def test_ipv6_routes_that_the_kernel_takes_with_a_link_are_not_told_one_by_one(
    host: Host, events: KernelEvents
) -> None:
    routes = (f"route add 2001:db8:{number:x}::/48 via fd00::2 proto 111" for number in range(1, 500))
    host.run("ip -6 -batch -", stdin="\n".join(routes))
    events.read()

    host.run(f"ip link set {HOST_LINK} down")

    heard = events.read()
    assert HOST_LINK in {each.name for each in heard.links}
    assert not heard.networks


def test_more_than_can_be_kept_is_told_as_lost_and_then_all_is_heard_again(host: Host, events: KernelEvents) -> None:
    routes = (f"route add 20.{number >> 8}.{number & 255}.0/24 dev other0 proto 111" for number in range(20_000))
    host.run("ip -batch -", stdin="\n".join(routes))

    assert events.read() == Heard(was_lost=True)
    assert events.read() == NOTHING
    host.run(f"ip addr add 10.1.0.1/24 dev {HOST_LINK}")
    assert concerns_our_link(events.read())


def test_who_waits_is_woken_by_news_of_both_kinds_and_by_the_end_of_the_time(host: Host, events: KernelEvents) -> None:
    def is_woken(within_seconds: float) -> bool:
        return asyncio.run(events.wait(within_seconds))

    assert not is_woken(0.05)

    host.run(f"ip addr add 10.1.0.1/24 dev {HOST_LINK}")
    assert is_woken(5)
    events.read()
    assert not is_woken(0)

    host.run("nft add table inet osctl")
    assert is_woken(5)
    assert events.read().is_filter_changed
