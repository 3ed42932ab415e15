"""The packet filter in the kernel: loaded, told apart, replaced, and what it does to real packets of both versions."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import msgspec
import pytest

from kernel.container_objects import GROUP, GUEST, HOST_LINK, errors, plan_of
from kernel.counters import counted
from kernel.network_namespaces import Host
from kernel.routed_guest import (
    GUEST_END,
    HOST_END,
    HOST_OUTSIDE,
    OUTSIDE,
    PRIVATE,
    ROUTED,
    TABLE,
    WORLD,
    configure,
    interface,
    private_guest_and_world,
)
from osctld.core.address.addresses import Address, Network
from osctld.core.plan import packet_filter
from osctld.core.plan.changes import Add, Remove, Replace, Restore
from osctld.core.plan.kernel_state import (
    HOST,
    FilterElement,
    KernelState,
    LinkScope,
    Namespace,
    PermittedSource,
    PrivateNetwork,
    Route,
    SiblingLinks,
)
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("nftables fib")

OTHER = msgspec.structs.replace(TABLE, version=TABLE.version + 1)

STRANGER = {4: "9.9.9.9", 6: "2001:db8:9::9"}


def send(host: Host, source: str, target: str, *, link: str = "") -> None:
    """One datagram from the guest, with any source address."""
    version = Address.parse(source).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def work() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            if version == 4:
                sender.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT: any source
            else:
                sender.setsockopt(socket.IPPROTO_IPV6, 75, 1)  # IPV6_TRANSPARENT
            if link:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
            sender.bind((source, 0))
            sender.sendto(b"hello", (target, 4000))

    host.within(GUEST, work)


def receives(address: str, act: Callable[[], None]) -> bytes | None:
    """What reaches a socket of the host while something is done. Between two ends of a veth nothing is on its way."""
    family = socket.AF_INET if "." in address else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as listener:
        listener.bind((address, 4000))
        listener.settimeout(0.3)
        act()
        try:
            return str(listener.recvfrom(100)[1][0]).encode()
        except TimeoutError:
            return None


# --- the table ---------------------------------------------------------------------------------------------------


def test_the_table_loads_and_its_mark_is_read_back(kernel: Kernel) -> None:
    assert kernel.observe_host_level([]) == KernelState()

    assert errors(kernel.apply(plan_of(Add(TABLE)), {})) == [None]

    assert kernel.observe_host_level([]) == KernelState([TABLE])


def test_another_program_sees_the_table(host: Host, kernel: Kernel) -> None:
    kernel.apply(plan_of(Add(TABLE)), {})

    listed = json.loads(host.run("nft -j list tables"))["nftables"]

    tables = {(each["table"]["family"], each["table"]["name"]) for each in listed if "table" in each}
    assert ("inet", "osctl") in tables


def test_a_table_of_another_version_is_replaced_in_one_transaction_and_keeps_its_elements(
    host: Host, kernel: Kernel
) -> None:
    elements: list[FilterElement] = [SiblingLinks(HOST, "osweb01-eth0", "osweb01-eth1"), *PRIVATE.values()]
    elements += [*PERMITTED.values(), *EVERYTHING.values()]
    configure(kernel, host, interface(0), interface(1), KernelState(elements))
    kernel.apply(plan_of(Replace(TABLE, OTHER)), {})
    assert kernel.observe_host_level([]) == KernelState([OTHER])

    assert errors(kernel.apply(plan_of(Replace(OTHER, TABLE)), {})) == [None]

    assert kernel.observe_host_level([]) == KernelState([TABLE])
    assert set(elements) <= set(kernel.observe_links(link_groups=[GROUP]).objects)


def test_a_table_without_the_sets_of_today_is_replaced(host: Host, kernel: Kernel) -> None:
    pair = SiblingLinks(HOST, "osweb01-eth0", "osweb01-eth1")
    configure(kernel, host, interface(0), interface(1), KernelState([pair]))
    kernel.apply(plan_of(Replace(TABLE, OTHER)), {})
    host.run("nft flush chain inet osctl from_container")
    host.run("nft delete map inet osctl sources4_by_link")

    assert errors(kernel.apply(plan_of(Restore(TABLE)), {})) == [None]

    assert kernel.observe_host_level([]) == KernelState([TABLE])
    assert pair in set(kernel.observe_links(link_groups=[GROUP]).objects)


#: As far as they differ, the tables before version 13, and with sets of a kind that no version had.
OTHER_LAYOUTS = {
    "before": """
        set sources4 { type ifname . ipv4_addr; flags interval; elements = { "osweb01-eth0" . 10.0.0.0/8 }; }
        set routed6 { type ifname . ipv6_addr; flags interval; elements = { "osweb01-eth0" . 2001:db8::/32 }; }
        chain from_container { iifname . ip saddr @sources4 accept; }
    """,
    "strange": """
        set sources4_by_link { type ipv4_addr; elements = { 184.255.192.1 }; }
        set own { type ipv6_addr; elements = { 2001:db8::1 }; }
        set private4 { type ether_addr; elements = { 02:00:00:00:00:01 }; }
    """,
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_a_table_of_another_layout_is_replaced(host: Host, kernel: Kernel, layout: str) -> None:
    mark = packet_filter.mark(OTHER)
    host.run("nft -f -", stdin=f"table inet osctl {{\n{OTHER_LAYOUTS[layout]}\nchain {mark} {{\n}}\n}}\n")
    kernel.observe_links(link_groups=[GROUP])

    assert errors(kernel.apply(plan_of(Restore(TABLE)), {}, filling=list(PERMITTED.values()))) == [None]

    assert kernel.observe_host_level([]) == KernelState([TABLE])
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState(PERMITTED.values())


def test_a_table_that_is_made_holds_what_it_is_filled_with_as_far_as_the_links_are_there(
    host: Host, kernel: Kernel
) -> None:
    kernel.apply(plan_changes(interface(0), KernelState()), host.namespaces)
    private = PrivateNetwork(HOST, HOST_LINK, Network.parse("10.0.0.0/30"))
    own, gone = SiblingLinks(HOST, HOST_LINK, HOST_LINK), SiblingLinks(HOST, HOST_LINK, "osgone-eth0")

    outcomes = kernel.apply(plan_of(Add(TABLE)), {}, filling=[own, gone, private])

    assert errors(outcomes) == [None]
    found = kernel.observe_links(link_groups=[GROUP]).objects
    assert {each for each in found if isinstance(each, SiblingLinks | PrivateNetwork)} == {own, private}


def test_a_table_is_removed_and_its_removal_repeated(host: Host, kernel: Kernel) -> None:
    kernel.apply(plan_of(Add(TABLE)), {})

    assert errors(kernel.apply(plan_of(Remove(TABLE), Remove(TABLE)), {})) == [None, None]

    assert kernel.observe_host_level([]) == KernelState()
    assert json.loads(host.run("nft -j list tables"))["nftables"][1:] == []


def test_a_table_that_somebody_flushed_is_seen_to_be_gone(host: Host, kernel: Kernel) -> None:
    kernel.apply(plan_of(Add(TABLE)), {})

    host.run("nft flush ruleset")

    assert kernel.observe_host_level([]) == KernelState()
    assert counted() == {}


# --- siblings ----------------------------------------------------------------------------------------------------


def test_siblings_are_added_observed_and_removed(host: Host, kernel: Kernel) -> None:
    configure(kernel, host, interface(0), interface(1))
    one, other = SiblingLinks(HOST, "osweb01-eth0", "osweb01-eth1"), SiblingLinks(HOST, "osweb01-eth1", "osweb01-eth0")

    assert errors(kernel.apply(plan_of(Add(one), Add(other), Add(one)), {})) == [None] * 3
    scope = [LinkScope(HOST, HOST_LINK)]
    assert kernel.observe(scope, {}, elements=[one])[one.key] == one
    assert other.key not in kernel.observe(scope, {}, elements=[one])

    assert errors(kernel.apply(plan_of(Remove(one), Remove(one)), {})) == [None, None]
    assert one not in set(kernel.observe_links(link_groups=[GROUP]).objects)
    assert other in set(kernel.observe_links(link_groups=[GROUP]).objects)


def test_of_several_siblings_the_one_that_is_refused_is_told(host: Host, kernel: Kernel) -> None:
    configure(kernel, host, interface(0), interface(1))
    good, bad = SiblingLinks(HOST, "osweb01-eth0", "osweb01-eth1"), SiblingLinks(HOST, "osweb01-eth0", "osgone")

    outcomes = kernel.apply(plan_of(Add(good), Add(bad), Add(good)), {})

    assert [each.succeeded for each in outcomes] == [True, False, False]
    assert [each.was_tried for each in outcomes] == [True, True, False]
    assert "Interface does not exist" in (outcomes[1].error or "")


def test_siblings_of_links_that_are_gone_are_reported_and_removable(host: Host, kernel: Kernel) -> None:
    pair = SiblingLinks(HOST, "osweb01-eth0", "osweb01-eth1")
    configure(kernel, host, interface(0), interface(1), KernelState([pair]))
    index = host.ip("link show osweb01-eth0")[0]["ifindex"]
    host.run("ip link del osweb01-eth0")

    stale = {SiblingLinks(HOST, str(index), other) for other in (str(index), "osweb01-eth1")}
    assert stale <= set(kernel.observe_links(link_groups=[GROUP]).objects)
    assert stale <= set(kernel.observe([], {}, elements=[pair]).objects)

    assert errors(kernel.apply(plan_of(*map(Remove, stale)), {})) == [None, None]
    assert stale.isdisjoint(kernel.observe_links(link_groups=[GROUP]).objects)


# --- counters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_counted_of_one_link_is_told_and_forgotten(host: Host, kernel: Kernel, version: int) -> None:
    configure(kernel, host, interface(0), interface(1))
    assert kernel.counted_of(HOST_LINK) == {}
    for link in ("eth0", "eth0", "eth1"):
        send(host, STRANGER[version], HOST_END[version].format(0), link=link)
    assert kernel.counted_of(HOST_LINK) == {"spoofed": 2}

    kernel.forget_counted([HOST_LINK, "osgone"])

    assert kernel.counted_of(HOST_LINK) == {}
    assert counted() == {"osweb01-eth1": {"spoofed": 1}}


# --- private networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_private_networks_are_added_observed_and_removed(host: Host, kernel: Kernel, version: int) -> None:
    """They need no link of that name: they are there before it is, and can be named when it is gone."""
    kernel.apply(plan_of(Add(TABLE)), {})
    one = PRIVATE[version]
    inside = msgspec.structs.replace(one, network=one.network.last.as_network())
    beyond = Address(version, one.network.last.number + 1)
    elsewhere = PrivateNetwork(HOST, "osmail-eth0", beyond.with_length(one.network.length).network)

    assert errors(kernel.apply(plan_of(Add(one), Add(elsewhere), Add(one)), {})) == [None] * 3

    assert kernel.observe([], {}, elements=[one, inside]) == KernelState([one])
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([one, elsewhere])
    listed = host.run(f"nft list set inet osctl private{version}")
    assert f'{one.network} comment "{one.network} dev {HOST_LINK}"' in listed

    assert errors(kernel.apply(plan_of(Remove(one), Remove(one)), {})) == [None, None]
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([elsewhere])


def test_of_several_private_networks_the_one_that_is_refused_is_told(kernel: Kernel) -> None:
    kernel.apply(plan_of(Add(TABLE)), {})
    around = msgspec.structs.replace(PRIVATE[4], network=Network.parse("10.0.0.0/24"))

    outcomes = kernel.apply(plan_of(Add(PRIVATE[6]), Add(PRIVATE[4]), Add(around)), {})

    assert [each.succeeded for each in outcomes] == [True, True, False]
    assert outcomes[2].error == "File exists"


def test_a_private_network_moves_to_another_link_and_makes_way_for_others_in_one_step(
    host: Host, kernel: Kernel
) -> None:
    moved = msgspec.structs.replace(PRIVATE[4], link="osweb01-eth1")
    around = msgspec.structs.replace(PRIVATE[6], network=Network.parse("2001:db8::/120"))
    have = configure(kernel, host, KernelState(PRIVATE.values()))
    want = KernelState([moved, around])

    plan = plan_changes(want, have)
    assert errors(kernel.apply(plan, {})) == [None] * 3
    assert kernel.observe_links(link_groups=[GROUP]) == want

    assert errors(kernel.apply(plan.undo(), {})) == [None] * 3
    assert kernel.observe_links(link_groups=[GROUP]) == have


def test_without_a_table_there_are_no_elements_and_adding_one_fails(kernel: Kernel) -> None:
    outcomes = kernel.apply(plan_of(Remove(PRIVATE[4]), Add(PRIVATE[4])), {})

    assert errors(outcomes) == [None, "No such file or directory"]
    assert kernel.observe([], {}, elements=PRIVATE.values()) == KernelState()
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState()


PROHIBITED = {4: "Packet filtered", 6: "Administratively prohibited"}


def ping(host: Host, namespace: Namespace, words: str) -> str:
    """What ping says of one packet."""
    return host.run(f"ping -n -c1 -W2 {words}", namespace, check=False)


@pytest.mark.parametrize("version", [4, 6])
def test_from_a_private_network_the_host_is_reached_and_what_lies_beyond_is_refused_and_counted(
    host: Host, kernel: Kernel, version: int
) -> None:
    private_guest_and_world(host, kernel)

    assert " 0% packet loss" in ping(host, GUEST, HOST_OUTSIDE[version].partition("/")[0])
    assert " 0% packet loss" in ping(host, GUEST, HOST_END[version].format(0))
    assert " 0% packet loss" in ping(host, GUEST, f"-I {ROUTED[version]} {OUTSIDE[version]}")
    assert counted() == {}

    assert PROHIBITED[version] in ping(host, GUEST, OUTSIDE[version])

    assert counted() == {HOST_LINK: {"rejected": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_a_private_network_is_refused_to_what_lies_beyond(host: Host, kernel: Kernel, version: int) -> None:
    private_guest_and_world(host, kernel)

    assert " 0% packet loss" in ping(host, WORLD, ROUTED[version])

    assert PROHIBITED[version] in ping(host, WORLD, GUEST_END[version].format(0))
    assert counted() == {HOST_LINK: {"rejected": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_a_private_network_is_refused_by_a_sibling_too(host: Host, kernel: Kernel, version: int) -> None:
    """The private address of the first link, sent through the second, which may carry it."""
    private_guest_and_world(host, kernel)
    kernel.apply(plan_of(Add(SiblingLinks(HOST, "osweb01-eth1", "osweb01-eth0"))), {})
    host.run("sysctl -w net.ipv4.conf.all.rp_filter=0")
    host.run("sysctl -w net.ipv4.conf.osweb01-eth1.rp_filter=0")

    send(host, GUEST_END[version].format(0), OUTSIDE[version], link="eth1")

    assert counted() == {"osweb01-eth1": {"rejected": 1}}


# --- sources that are not routed ---------------------------------------------------------------------------------

PERMITTED = {
    4: PermittedSource(HOST, HOST_LINK, Network.parse("9.9.0.0/16")),
    6: PermittedSource(HOST, HOST_LINK, Network.parse("2001:db8:9::/48")),
}
EVERYTHING = {version: PermittedSource(HOST, "osweb01-eth1", Network(version, 0, 0)) for version in (4, 6)}


@pytest.mark.parametrize("version", [4, 6])
def test_sources_are_permitted_observed_and_forbidden(host: Host, kernel: Kernel, version: int) -> None:
    """They need no link of that name, and each link has its own."""
    kernel.apply(plan_of(Add(TABLE)), {})
    one, everything = PERMITTED[version], EVERYTHING[version]
    single = msgspec.structs.replace(everything, network=one.network.address.as_network(), link="osmail-eth0")
    inside = msgspec.structs.replace(one, network=one.network.address.as_network())

    assert errors(kernel.apply(plan_of(*map(Add, (one, everything, single, one))), {})) == [None] * 4

    assert kernel.observe([], {}, elements=[one, inside]) == KernelState([one])
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([one, everything, single])
    for each in (one, everything):
        listed = host.run(f"nft list set inet osctl sources{version}_{each.link}")
        assert f'elements = {{ {each.network} comment "{each.network} dev {each.link}" }}' in listed

    assert errors(kernel.apply(plan_of(Remove(one), Remove(one), Remove(single)), {})) == [None] * 3
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([everything])


def listed_table(host: Host) -> list[str]:
    """Its lines, sorted: an order in which sets and chains are listed is nobody's matter."""
    return sorted(host.run("nft list table inet osctl").splitlines())


@pytest.mark.parametrize("link", ["osweb01-eth0", "os.a@b:1", "os_é"])
def test_what_a_link_s_sources_need_is_the_same_whether_made_with_the_table_or_later_and_goes_with_the_last(
    host: Host, kernel: Kernel, link: str
) -> None:
    kernel.apply(plan_of(Add(TABLE)), {})
    empty = listed_table(host)
    sources = [
        PermittedSource(HOST, link, Network.parse(text), is_routed=is_routed)
        for text in ("10.0.0.0/24", "10.0.1.0/24", "128.0.0.0/1", "2001:db8::/32", "8000::/1")
        for is_routed in (False, True)
    ]

    assert set(errors(kernel.apply(plan_of(*map(Add, sources)), {}))) == {None}
    one_by_one = listed_table(host)
    assert kernel.observe_host_level([]) == KernelState([TABLE])
    assert kernel.observe([], {}, elements=sources) == KernelState(sources)
    assert errors(kernel.apply(plan_of(Restore(TABLE)), {})) == [None]
    assert listed_table(host) == one_by_one != empty
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState(sources)

    for number, each in enumerate(sources, start=1):
        assert errors(kernel.apply(plan_of(Remove(each)), {})) == [None]
        assert kernel.observe_links(link_groups=[GROUP]) == KernelState(sources[number:])
    assert listed_table(host) == empty


def test_sources_that_make_way_for_others_of_their_link_leave_it_what_it_needs(host: Host, kernel: Kernel) -> None:
    """The old one is the last, and the new one comes in the same step."""
    old, new = PERMITTED[4], PERMITTED[6]
    kernel.apply(plan_of(Add(TABLE), Add(old)), {})

    assert errors(kernel.apply(plan_of(Remove(old), Add(new)), {})) == [None, None]
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([new])

    assert errors(kernel.apply(plan_of(Add(old), Remove(old), Remove(new)), {})) == [None] * 3
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState()
    assert f"sources4_{HOST_LINK}" not in host.run("nft list table inet osctl")


def test_a_link_s_chain_that_somebody_flushed_is_seen_to_be_gone(host: Host, kernel: Kernel) -> None:
    kernel.apply(plan_of(Add(TABLE), Add(PERMITTED[4])), {})
    assert kernel.observe_host_level([]) == KernelState([TABLE])

    host.run(f"nft flush chain inet osctl sources4_{HOST_LINK}")

    assert kernel.observe_host_level([]) == KernelState()
    assert errors(kernel.apply(plan_of(Restore(TABLE)), {})) == [None]
    assert kernel.observe_host_level([]) == KernelState([TABLE])
    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([PERMITTED[4]])


def test_a_source_inside_another_of_the_same_link_is_told_to_be_refused_or_holds_too(kernel: Kernel) -> None:
    """Linux 6.1 takes both, which is what was wanted: a packet passes when one of them lets it."""
    inside = msgspec.structs.replace(PERMITTED[4], network=Network.parse("9.9.9.0/24"))
    kernel.apply(plan_of(Add(TABLE)), {})

    outcomes = kernel.apply(plan_of(Add(PERMITTED[6]), Add(PERMITTED[4]), Add(inside)), {})

    there = kernel.observe_links(link_groups=[GROUP])
    if outcomes[2].succeeded:
        assert there == KernelState([PERMITTED[6], PERMITTED[4], inside])
        assert errors(kernel.apply(plan_of(Remove(inside)), {})) == [None]
        there = kernel.observe_links(link_groups=[GROUP])
    else:
        assert errors(outcomes) == [None, None, "File exists"]
    assert there == KernelState([PERMITTED[6], PERMITTED[4]])


@pytest.mark.parametrize("version", [4, 6])
def test_sources_inside_each_other_make_way_in_one_step(kernel: Kernel, version: int) -> None:
    wide = PERMITTED[version]
    narrow = msgspec.structs.replace(wide, network=Address.parse(STRANGER[version]).as_network())
    have, want = KernelState([wide]), KernelState([narrow])
    for plan in (plan_of(Add(TABLE)), plan_changes(have, KernelState()), plan_changes(want, have)):
        assert set(errors(kernel.apply(plan, {}))) == {None}
    assert kernel.observe_links(link_groups=[GROUP]) == want

    assert set(errors(kernel.apply(plan.undo(), {}))) == {None}
    assert kernel.observe_links(link_groups=[GROUP]) == have


def test_a_range_that_is_no_network_is_passed_over(host: Host, kernel: Kernel) -> None:
    kernel.apply(plan_of(Add(TABLE), Add(PERMITTED[4])), {})
    host.run(f"nft add element inet osctl sources4_{HOST_LINK} '{{ 10.0.0.1-10.0.0.6 }}'")

    assert kernel.observe_links(link_groups=[GROUP]) == KernelState([PERMITTED[4]])


def without_reverse_path_filter(host: Host, *links: str) -> None:
    for link in ("all", *links):
        host.run(f"sysctl -w net.ipv4.conf.{link}.rp_filter=0")


@pytest.mark.parametrize("version", [4, 6])
def test_a_permitted_source_passes_and_is_counted_apart_until_it_is_forbidden(
    host: Host, kernel: Kernel, version: int
) -> None:
    configure(kernel, host, interface(0), interface(1))
    without_reverse_path_filter(host, HOST_LINK, "osweb01-eth1")
    target, source = HOST_END[version].format(0), STRANGER[version]
    other = str(Address(version, PERMITTED[version].network.last.number + 1))

    def arrives(source: str, link: str = "eth0") -> bool:
        return receives(target, lambda: send(host, source, target, link=link)) == source.encode()

    kernel.apply(plan_of(Add(PERMITTED[version])), {})

    assert arrives(source)
    assert counted() == {HOST_LINK: {"permitted": 1}}
    # Its own address needs no permission, the next network has none, and the other link neither.
    assert arrives(ROUTED[version])
    assert not arrives(other)
    assert not arrives(source, "eth1")
    assert counted() == {HOST_LINK: {"permitted": 1, "spoofed": 1}, "osweb01-eth1": {"spoofed": 1}}

    kernel.apply(plan_of(Remove(PERMITTED[version])), {})

    assert not arrives(source)
    assert kernel.counted_of(HOST_LINK) == {"permitted": 1, "spoofed": 2}


@pytest.mark.parametrize("version", [4, 6])
def test_where_everything_is_permitted_the_hosts_own_addresses_are_not(
    host: Host, kernel: Kernel, version: int
) -> None:
    configure(kernel, host, interface(0), interface(1), KernelState(EVERYTHING.values()))
    without_reverse_path_filter(host, "osweb01-eth1")
    target, own = HOST_END[version].format(1), HOST_END[version].format(0)

    assert receives(target, lambda: send(host, STRANGER[version], target, link="eth1")) == STRANGER[version].encode()
    assert receives(target, lambda: send(host, own, target, link="eth1")) is None

    assert counted() == {"osweb01-eth1": {"permitted": 1, "spoofed": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_from_a_permitted_source_nothing_goes_round_between_links_of_one_container(
    host: Host, kernel: Kernel, version: int
) -> None:
    """What strangers sent to the first link and a forwarding guest sends back by the second."""
    pair = SiblingLinks(HOST, "osweb01-eth1", "osweb01-eth0")
    configure(kernel, host, interface(0), interface(1), KernelState([*EVERYTHING.values(), pair]))

    send(host, STRANGER[version], ROUTED[version], link="eth1")

    assert counted() == {"osweb01-eth1": {"bounced": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_a_private_network_stays_on_the_host_although_it_is_a_permitted_source(
    host: Host, kernel: Kernel, version: int
) -> None:
    private_guest_and_world(host, kernel)
    without_reverse_path_filter(host, "osweb01-eth1")
    kernel.apply(plan_of(Add(EVERYTHING[version])), {})

    send(host, GUEST_END[version].format(0), OUTSIDE[version], link="eth1")

    assert counted() == {"osweb01-eth1": {"permitted": 1, "rejected": 1}}


# --- packets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_routed_to_a_link_may_be_sent_from_it_and_nothing_else(
    host: Host, kernel: Kernel, version: int
) -> None:
    configure(kernel, host, interface(0))
    target = HOST_END[version].format(0)

    for source in (ROUTED[version], str(Address.parse(GUEST_END[version].format(0)))):
        assert receives(target, lambda source=source: send(host, source, target)) == source.encode()  # type: ignore[misc]
    assert counted() == {}

    assert receives(target, lambda: send(host, STRANGER[version], target)) is None
    assert counted() == {HOST_LINK: {"spoofed": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_a_part_that_was_given_to_another_container_is_no_source_of_the_whole_s_any_more(
    host: Host, kernel: Kernel, version: int
) -> None:
    """The network around is routed to the first link, a part of it to the second."""
    whole = Network.parse("9.9.0.0/16" if version == 4 else "2001:db8:9::/48")
    part = Address.parse(STRANGER[version]).as_network()
    metric = 0 if version == 4 else 8
    first, second = (Address.parse(GUEST_END[version].format(number)) for number in (0, 1))
    around = Route(HOST, whole, HOST_LINK, first, 111, metric)
    inside = Route(HOST, part, "osweb01-eth1", second, 111, metric)
    configure(kernel, host, interface(0), interface(1), KernelState([around]))
    host.run("sysctl -w net.ipv4.conf.all.rp_filter=0")
    host.run(f"sysctl -w net.ipv4.conf.{HOST_LINK}.rp_filter=0")
    target = HOST_END[version].format(0)
    assert receives(target, lambda: send(host, STRANGER[version], target, link="eth0")) == STRANGER[version].encode()

    kernel.apply(plan_of(Add(inside)), host.namespaces)

    assert receives(target, lambda: send(host, STRANGER[version], target, link="eth0")) is None
    assert counted() == {HOST_LINK: {"spoofed": 1}}
    # And what is sent to it does not come back: it goes to the second.
    send(host, ROUTED[version], STRANGER[version], link="eth0")
    assert counted() == {HOST_LINK: {"spoofed": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_what_would_leave_by_the_link_it_came_from_is_dropped_and_counted_apart(
    host: Host, kernel: Kernel, version: int
) -> None:
    target = Address.parse(STRANGER[version])
    gateway = Address.parse(GUEST_END[version].format(0))
    loop = Route(HOST, target.as_network(), HOST_LINK, gateway, 111, 0 if version == 4 else 8)
    configure(kernel, host, interface(0), KernelState([loop]))

    send(host, ROUTED[version], str(target))

    assert counted() == {HOST_LINK: {"bounced": 1}}


@pytest.mark.parametrize("version", [4, 6])
def test_siblings_may_carry_each_others_sources(host: Host, kernel: Kernel, version: int) -> None:
    """The address of the first interface, sent through the second."""
    configure(kernel, host, interface(0), interface(1))
    target = HOST_END[version].format(1)
    host.run("sysctl -w net.ipv4.conf.all.rp_filter=0")
    host.run("sysctl -w net.ipv4.conf.osweb01-eth1.rp_filter=0")

    def act() -> None:
        send(host, ROUTED[version], target, link="eth1")

    assert receives(target, act) is None
    assert counted() == {"osweb01-eth1": {"spoofed": 1}}

    kernel.apply(plan_of(Add(SiblingLinks(HOST, "osweb01-eth1", "osweb01-eth0"))), {})

    assert receives(target, act) == ROUTED[version].encode()
    assert counted() == {"osweb01-eth1": {"spoofed": 1}}


def test_links_of_others_are_not_looked_at(host: Host, kernel: Kernel) -> None:
    configure(kernel, host, interface(0))
    host.run(f"ip link set {HOST_LINK} group 5")
    host.run(f"sysctl -w net.ipv4.conf.{HOST_LINK}.rp_filter=0")
    host.run("sysctl -w net.ipv4.conf.all.rp_filter=0")
    # The host answers nobody here: only that the datagram is let in matters.
    assert receives("10.0.0.1", lambda: send(host, "9.9.9.9", "10.0.0.1")) in (b"9.9.9.9", None)

    assert counted() == {}
    assert packet_filter.TABLE in host.run("nft list ruleset")
