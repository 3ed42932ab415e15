"""Sources that a container may send from although nothing of them is routed to it: routers, VPN gateways.

One host for the whole file, each test with containers of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from whole import packets
from whole.host import WORLD_4, WORLD_6, Settled, Topology, differences, run, wait_until
from whole.monitor import everything, happened

VIAS = {"gate": ["10.100.10.100/30", "fd00:1::/126"], "mail": ["10.100.10.108/30", "fd00:3::/126"]}
OWN = {4: "1.2.3.4", 6: "2001:db8:2::4"}
MAIL = {4: "1.2.3.9", 6: "2001:db8:2::9"}
WORLD = {4: WORLD_4, 6: WORLD_6}
#: Permitted networks, an address of each, and one beside it.
PERMITTED = {4: "100.64.0.0/10", 6: "2001:db8:64::/48"}
CLIENT = {4: "100.64.7.7", 6: "2001:db8:64::7"}
STRANGER = {4: "100.128.0.1", 6: "2001:db8:65::1"}
BOTH = (PERMITTED[4], PERMITTED[6])

ADD = ("ct", "netif", "source", "add")
DEL = ("ct", "netif", "source", "del")
LS = ("ct", "netif", "source", "ls")


@pytest.fixture
def gate(shared: Topology) -> Topology:
    """A host with a running container `gate` of both versions, which has an address of each."""
    shared.new_container("gate", via=VIAS["gate"], addresses=tuple(OWN.values()))
    return shared


def leaving(host: Topology, *sources: str, container: str = "gate", device: str = "eth0") -> set[str]:
    """Those of the sources with which a container's packet to the world reaches it."""
    found = set()
    inside = json.loads(host.in_guest_network(container, "ip", "-j", "link", "show", device).stdout)
    (outside,) = host.ip_json(host.H, "link", "show", host.veth(container, device))
    link = packets.Link(own_mac=inside[0]["address"], host_mac=outside["address"])
    with host.capture(host.R, "down0", "udp") as capture:
        for version in (4, 6):
            sent = [packets.udp(each, WORLD[version]) for each in sources if (":" in each) == (version == 6)]
            own = OWN if container == "gate" else MAIL
            # The last one is always let through: what has not been seen by then never comes.
            sent.append(packets.udp(own[version], WORLD[version], port=7777))
            packets.send_frames(host.init_pid(container), device, [link.frame(each) for each in sent])
            capture.wait_for(rf"> {WORLD[version]}\.7777: ")
        for line in capture.lines:
            found |= {each for each in sources if f" {each}.40000 > " in line and ".7777:" not in line}
    return found


def counted(host: Topology, container: str = "gate") -> tuple[int, int]:
    """Packets that passed by permission, and that were dropped as forged."""
    shown = host.osctl_json("ct", "netif", "show", container, "eth0")
    return shown["passed_permitted"], shown["dropped_spoofed"]


def elements(host: Topology) -> set[tuple[str, str]]:
    """Link and network of all permissions that the host's packet filter holds."""
    said = host.in_namespace(host.H, "nft", "-j", "list", "table", "inet", "osctl").stdout
    found = set()
    for each in (item["set"] for item in json.loads(said)["nftables"] if "set" in item):
        kind, _, link = each["name"].partition("_")
        if kind in ("sources4", "sources6"):
            found |= {(link, element["elem"]["comment"].split()[0]) for element in each["elem"]}
    return found


def expected(host: Topology, container: str = "gate") -> set[tuple[str, str]]:
    return {(host.veth(container), each) for each in BOTH}


def reverse_path_filter(host: Topology, link: str) -> str:
    return host.sysctl(host.H, f"net/ipv4/conf/{link}/rp_filter")


def listed(host: Topology, *argv: str) -> list[str]:
    return [each["addr"] for each in host.osctl_json(*LS, *(argv or ("gate", "eth0")))]


# --- packets -----------------------------------------------------------------------------------------------------


def test_what_a_container_may_send_from_leaves_the_host_and_is_counted_apart(gate: Topology) -> None:
    all_sources = (*CLIENT.values(), *STRANGER.values(), *MAIL.values())
    assert leaving(gate, *all_sources) == set()
    assert counted(gate) == (0, 6)

    assert gate.osctl(*ADD, "gate", "eth0", *BOTH).stdout == ""

    assert leaving(gate, *all_sources) == set(CLIENT.values())
    assert counted(gate) == (2, 10)

    gate.osctl(*DEL, "gate", "eth0", PERMITTED[4])

    assert leaving(gate, *all_sources) == {CLIENT[6]}
    assert counted(gate) == (3, 15)


def test_a_source_of_one_container_is_none_of_another(gate: Topology) -> None:
    gate.new_container("mail", via=VIAS["mail"], addresses=tuple(MAIL.values()))
    gate.osctl(*ADD, "gate", "eth0", *BOTH)
    assert leaving(gate, *CLIENT.values(), container="mail") == set()
    assert counted(gate, "mail") == (0, 2)

    # Both may have the same: nobody holds it.
    gate.osctl(*ADD, "mail", "eth0", *BOTH)
    gate.osctl("ct", "del", "-f", "gate")

    assert leaving(gate, *CLIENT.values(), container="mail") == set(CLIENT.values())
    assert elements(gate) == expected(gate, "mail")


def test_a_source_makes_no_route_and_no_holding(gate: Topology) -> None:
    routes = gate.kernel_state()["routes"]
    held = gate.stored()["holding"]

    gate.osctl(*ADD, "gate", "eth0", *BOTH)

    assert gate.kernel_state()["routes"] == routes
    assert gate.stored()["holding"] == held
    # So somebody else may be given the network, or a part of it.
    gate.new_container("mail", via=VIAS["mail"], addresses=["100.64.0.1", "2001:db8:64::1"])
    assert gate.ping(gate.H, "100.64.0.1") == 3


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0"])
def test_with_everything_permitted_all_leave_but_those_that_nobody_may_have(gate: Topology, everything: str) -> None:
    version = 6 if ":" in everything else 4
    own_of_host = {4: "192.0.2.1", 6: "2001:db8:1::1"}[version]
    never = {4: ("127.0.0.1", "224.0.0.5", "0.0.0.0", own_of_host), 6: ("::1", "ff0e::5", "::", own_of_host)}[version]

    gate.osctl(*ADD, "--force", "gate", "eth0", everything)

    assert leaving(gate, CLIENT[version], STRANGER[version], *never) == {CLIENT[version], STRANGER[version]}
    assert leaving(gate, CLIENT[10 - version]) == set()


def test_with_another_containers_private_network_nothing_leaves_the_host_whatever_is_permitted(gate: Topology) -> None:
    gate.new_container("mail", via=VIAS["mail"])
    gate.osctl(*ADD, "--force", "gate", "eth0", *VIAS["mail"])

    assert leaving(gate, "10.100.10.110", "fd00:3::2") == set()

    shown = gate.osctl_json("ct", "netif", "show", "gate", "eth0")
    assert (shown["passed_permitted"], shown["rejected_private"], shown["dropped_spoofed"]) == (2, 2, 0)


# --- life --------------------------------------------------------------------------------------------------------


def test_sources_outlive_stop_rename_a_new_via_and_the_daemon(gate: Topology) -> None:
    gate.osctl(*ADD, "gate", "eth0", *BOTH)
    assert elements(gate) == expected(gate)

    gate.osctl("ct", "stop", "-k", "gate")
    assert elements(gate) == set()
    gate.osctl("ct", "start", "gate")
    assert elements(gate) == expected(gate)
    assert counted(gate) == (0, 0)

    gate.osctl("ct", "netif", "rename", "gate", "eth0", "wan0")
    gate.osctl("ct", "netif", "set", "--via", "10.100.20.0/31", "--via", "fd00:2::/64", "gate", "wan0")
    gate.osctl("ct", "netif", "rename", "gate", "wan0", "eth0")
    gate.restart_daemon()

    assert listed(gate) == list(BOTH)
    assert leaving(gate, *CLIENT.values(), *STRANGER.values()) == set(CLIENT.values())


def test_sources_of_a_stopped_container_are_there_with_its_first_packet(shared: Topology) -> None:
    shared.new_container("gate", via=VIAS["gate"], addresses=tuple(OWN.values()), start=False)
    assert shared.osctl(*ADD, "--dry-run", "gate", "eth0", *BOTH).stdout == "# stopped: configuration only\n"
    assert listed(shared) == []

    shared.osctl(*ADD, "gate", "eth0", *BOTH)
    assert elements(shared) == set()
    shared.osctl("ct", "start", "gate")

    assert leaving(shared, *CLIENT.values()) == set(CLIENT.values())


def test_deleting_an_interface_or_a_container_leaves_no_permission(gate: Topology) -> None:
    gate.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.104/30", "gate", "eth1")
    gate.osctl(*ADD, "gate", "eth0", *BOTH)
    gate.osctl(*ADD, "gate", "eth1", PERMITTED[4])
    assert elements(gate) == {*expected(gate), (gate.veth("gate", "eth1"), PERMITTED[4])}

    gate.osctl("ct", "netif", "del", "gate", "eth1")
    assert elements(gate) == expected(gate)

    gate.osctl("ct", "del", "-f", "gate")
    assert elements(gate) == set()


@pytest.mark.parametrize("network", [PERMITTED[4], PERMITTED[6]])
def test_the_kernels_own_check_stands_back_while_an_ipv4_source_is_permitted(gate: Topology, network: str) -> None:
    link = gate.veth("gate")
    gate.sysctl(gate.H, "net/ipv4/conf/all/rp_filter", "0")
    assert reverse_path_filter(gate, link) == "1"
    version, value = (6, "1") if ":" in network else (4, "0")
    name, address = f"sources{version}_{link}", "ip saddr" if version == 4 else "ip6 saddr"
    element = (
        f"nft 'add set inet osctl {name} {{ type ipv{version}_addr; flags interval; }}; add chain inet osctl {name}; "
        f"flush chain inet osctl {name}; add rule inet osctl {name} {address} @{name} goto permit; "
        f'add element inet osctl sources{version}_by_link {{ "{link}" : jump {name} }}; '
        f'add element inet osctl {name} {{ {network} comment "{network} dev {link}" }}\''
    )
    setting = [f"sysctl -w net.ipv4.conf.{link}.rp_filter=0"] if version == 4 else []

    plan = gate.osctl(*ADD, "gate", "eth0", network, "--dry-run").stdout.splitlines()
    assert plan == ["# on the host", *setting, element]
    gate.osctl(*ADD, "gate", "eth0", network)
    assert reverse_path_filter(gate, link) == value

    gate.osctl(*DEL, "gate", "eth0", "all")
    assert reverse_path_filter(gate, link) == "1"


def test_a_permission_that_nobody_gave_is_taken_away_and_one_that_is_lost_comes_back(gate: Topology) -> None:
    """As after a daemon that died between the kernel and the disk."""
    gate.osctl(*ADD, "gate", "eth0", *BOTH)
    link = gate.veth("gate")
    nft = ("nft", "-f", "-")

    gate.kill_daemon()
    changes = (
        f'add element inet osctl sources4_{link} {{ 9.9.9.0/24 comment "9.9.9.0/24 dev {link}" }}\n'
        "add set inet osctl sources6_osgone { type ipv6_addr; flags interval; }\n"
        "add chain inet osctl sources6_osgone\n"
        "add rule inet osctl sources6_osgone ip6 saddr @sources6_osgone goto permit\n"
        'add element inet osctl sources6_by_link { "osgone" : jump sources6_osgone }\n'
        'add element inet osctl sources6_osgone { ::/0 comment "::/0 dev osgone" }\n'
        f"delete element inet osctl sources6_{link} {{ {PERMITTED[6]} }}\n"
    )
    run("nsenter", f"--net=/run/netns/{gate.H}", *nft, stdin=changes)
    gate.start_daemon()

    wait_until(lambda: elements(gate) == expected(gate), "the host is as it shall be")


def test_permissions_come_back_with_a_flushed_firewall(gate: Topology) -> None:
    gate.osctl(*ADD, "gate", "eth0", *BOTH)

    gate.in_namespace(gate.H, "nft", "flush", "ruleset")
    gate.osctl("net", "reconcile")

    assert elements(gate) == expected(gate)
    assert leaving(gate, *CLIENT.values(), *STRANGER.values()) == set(CLIENT.values())


def test_a_table_of_an_earlier_layout_is_replaced_and_permits_the_same(gate: Topology) -> None:
    """As an upgrade finds it: before version 13 of the table there was one set for all links."""
    gate.osctl(*ADD, "gate", "eth0", *BOTH)
    link = gate.veth("gate")
    gate.kill_daemon()
    earlier = """
        delete table inet osctl
        table inet osctl {
            set sources4 {
                type ifname . ipv4_addr
                flags interval
                elements = { "LINK" . NETWORK }
            }
            chain rules_11_111 {
            }
            chain from_container {
                iifname . ip saddr @sources4 accept
            }
        }
    """.replace("LINK", link).replace("NETWORK", PERMITTED[4])
    run("nsenter", f"--net=/run/netns/{gate.H}", "nft", "-f", "-", stdin=earlier)
    gate.start_daemon()

    assert elements(gate) == expected(gate)
    assert leaving(gate, *CLIENT.values(), *STRANGER.values()) == set(CLIENT.values())


# --- commands ----------------------------------------------------------------------------------------------------


def test_sources_go_one_by_one_by_version_or_all(gate: Topology) -> None:
    bare = gate.comparable_state("gate")
    gate.osctl(*ADD, "gate", "eth0", "-", stdin="100.64.0.9/10\n2001:db8:64::9/48 203.0.113.9\n")
    assert listed(gate) == ["100.64.0.0/10", "203.0.113.9/32", "2001:db8:64::/48"]

    gate.osctl(*DEL, "gate", "eth0", "203.0.113.9")
    assert listed(gate) == list(BOTH)
    gate.osctl(*DEL, "-v", "6", "gate", "eth0", "all")
    assert listed(gate) == [PERMITTED[4]]
    gate.osctl(*ADD, "gate", "eth0", PERMITTED[6])
    gate.osctl(*DEL, "gate", "eth0", "-", stdin="100.64.0.0/10 2001:db8:64::/48")

    assert listed(gate) == []
    assert not [each for each in differences(bare, gate.comparable_state("gate")) if " counter" not in each]


def test_sources_are_listed_for_one_interface_one_container_or_all(shared: Topology) -> None:
    for name, vias in VIAS.items():
        shared.new_container(name, via=vias, start=False)
    shared.osctl(*ADD, "gate", "eth0", PERMITTED[6], PERMITTED[4])
    shared.osctl(*ADD, "mail", "eth0", "203.0.113.0/24")

    def lines(*argv: str) -> list[list[str]]:
        return [line.split() for line in shared.osctl(*LS, *argv).stdout.splitlines()]

    assert lines() == [
        ["POOL", "CTID", "NETIF", "VERSION", "ADDR"],
        ["default", "gate", "eth0", "4", PERMITTED[4]],
        ["default", "gate", "eth0", "6", PERMITTED[6]],
        ["default", "mail", "eth0", "4", "203.0.113.0/24"],
    ]
    assert lines("mail") == [["NETIF", "VERSION", "ADDR"], ["eth0", "4", "203.0.113.0/24"]]
    assert lines("gate", "eth0", "-v", "6") == [["VERSION", "ADDR"], ["6", PERMITTED[6]]]
    assert lines("-H", "-o", "ctid,addr", "-s", "addr") == [
        ["gate", PERMITTED[4]], ["mail", "203.0.113.0/24"], ["gate", PERMITTED[6]],
    ]  # fmt: skip
    assert shared.osctl_json("ct", "netif", "show", "gate", "eth0")["sources"] == [PERMITTED[6], PERMITTED[4]]


def test_a_source_that_comes_or_goes_is_told_and_kept_in_the_history(gate: Topology) -> None:
    with everything(gate) as listener:
        gate.osctl(*ADD, "gate", "eth0", *BOTH)
        gate.osctl(*DEL, "gate", "eth0", "all")
        wait_until(lambda: len(happened(listener)) == 4, "four changes are told")
        told = happened(listener)

    assert [(each["type"], each["opts"]["action"], each["opts"]["addr"]) for each in told] == [
        *(("ct_netif_source", "add", each) for each in BOTH),
        *(("ct_netif_source", "remove", each) for each in BOTH),
    ]
    last = [each["command"] for each in gate.osctl_json("history")][-2:]
    assert last == [f"osctl {' '.join((*ADD, 'gate', 'eth0', *BOTH))}", f"osctl {' '.join(DEL)} gate eth0 all"]


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled() -> Iterator[Settled]:
    """A running `gate` with sources of both versions, a stopped `mail`; for what must change nothing."""
    with Topology() as topology:
        topology.new_container("gate", via=VIAS["gate"], addresses=tuple(OWN.values()))
        topology.osctl(*ADD, "gate", "eth0", *BOTH)
        topology.new_container("mail", via=["10.100.10.108/30"], addresses=["1.2.3.9"], start=False)
        yield Settled(topology, running=["gate"])


@pytest.mark.parametrize(
    ("arguments", "quoted", "words"),
    [
        (("gate", "eth0", "100.64.0.0/10"), "100.64.0.0/10", "already permitted to eth0"),
        (("gate", "eth0", "100.64.9.9/10"), "100.64.9.9/10", "already permitted to eth0"),
        (("gate", "eth0", "100.64.7.0/24"), "100.64.7.0/24", "inside 100.64.0.0/10"),
        (("gate", "eth0", "203.0.113.1", "203.0.113.1"), "203.0.113.1", "already permitted to eth0"),
        (("mail", "eth0", "2001:db8:64::/48"), "2001:db8:64::/48", "not configured for IPv6"),
        # held by somebody else, in whole or in part
        (("gate", "eth0", "1.2.3.9"), "1.2.3.9/32", "1.2.3.9/32 is routed to eth0 of mail"),
        (("gate", "eth0", "1.2.0.0/16"), "1.2.0.0/16", "1.2.3.9/32 is routed to eth0 of mail"),
        (("gate", "eth0", "10.100.10.110"), "10.100.10.110/32", "interconnecting network of eth0 of mail"),
        (("mail", "eth0", "203.0.113.0/24", "1.2.3.4/31"), "1.2.3.4/31", "1.2.3.4/32 is routed to eth0 of gate"),
        (("gate", "eth0", "192.0.2.1"), "192.0.2.1/32", "the host"),
        (("gate", "eth0", "192.0.0.0/16"), "192.0.0.0/16", "the host"),
        (("gate", "eth0", "2001:db8:1::/64"), "2001:db8:1::/64", "the host"),
        # no sources of anybody
        (("gate", "eth0", "0.0.0.0/0"), "0.0.0.0/0", "--allow-foreign-source permits it"),
        (("gate", "eth0", "::/0"), "::/0", "--allow-foreign-source permits it"),
        (("--force", "gate", "eth0", "0.0.0.0/1"), "0.0.0.0/1", "this network"),
        (("--force", "gate", "eth0", "127.0.0.1"), "127.0.0.1", "loopback"),
        (("--force", "gate", "eth0", "::1"), "::1", "loopback"),
        (("--force", "gate", "eth0", "224.0.0.0/8"), "224.0.0.0/8", "multicast"),
        (("--force", "gate", "eth0", "ff02::/16"), "ff02::/16", "multicast"),
        (("--force", "gate", "eth0", "169.254.7.0/24"), "169.254.7.0/24", "link-local"),
        (("--force", "gate", "eth0", "fe80::/64"), "fe80::/64", "link-local"),
        (("--force", "gate", "eth0", "::ffff:1.2.3.4"), "::ffff:1.2.3.4", "IPv4-mapped"),
        (("--force", "gate", "eth0", "::"), "::", "unspecified"),
        (("gate", "eth0", "nonsense"), "'nonsense'", "not an IP network"),
        (("gate", "eth0", "203.0.113.0/24", "nonsense"), "'nonsense'", "not an IP network"),
        (("gate", "eth7", "203.0.113.0/24"), "'eth7'", "not found"),
        (("nobody", "eth0", "203.0.113.0/24"), "'nobody'", "not found"),
    ],
)
def test_a_source_that_makes_no_sense_or_is_somebody_elses_is_refused(
    settled: Settled, arguments: tuple[str, ...], quoted: str, words: str
) -> None:
    message = settled.refusal(*ADD, *arguments)

    assert quoted in message
    assert words in message


@pytest.mark.parametrize(
    ("argv", "quoted", "words", "status"),
    [
        ((*DEL, "gate", "eth0", "203.0.113.0/24"), "203.0.113.0/24", "source not found on eth0", 1),
        ((*DEL, "gate", "eth0", "100.64.0.0/11"), "100.64.0.0/11", "source not found on eth0", 1),
        ((*DEL, "gate", "eth0", PERMITTED[4], PERMITTED[4]), PERMITTED[4], "source not found on eth0", 1),
        ((*DEL, "-v", "4", "gate", "eth0", PERMITTED[4]), PERMITTED[4], "-v 4: requires all", 64),
        ((*LS, "gate", "eth7"), "'eth7'", "not found", 1),
    ],
)
def test_a_source_that_is_not_there_cannot_be_deleted_or_listed(
    settled: Settled, argv: tuple[str, ...], quoted: str, words: str, status: int
) -> None:
    message = settled.refusal(*argv, status=status)

    assert quoted in message
    assert words in message


def test_what_somebody_else_uses_is_permitted_with_force(gate: Topology) -> None:
    gate.new_container("mail", via=VIAS["mail"], addresses=tuple(MAIL.values()))

    gate.osctl(*ADD, "--force", "gate", "eth0", *MAIL.values())

    assert leaving(gate, *MAIL.values()) == set(MAIL.values())
    # The other one is reached as before.
    assert gate.ping(gate.R, MAIL[4]) == 3


def test_a_via_goes_after_the_sources_of_its_version(gate: Topology) -> None:
    gate.osctl(*ADD, "gate", "eth0", *BOTH)
    gate.osctl("ct", "netif", "ip", "del", "gate", "eth0", "all")

    message = gate.refusal("ct", "netif", "set", "--no-via", "6", "gate", "eth0")
    assert f"there are sources present: {PERMITTED[6]}" in message

    gate.osctl(*DEL, "-v", "6", "gate", "eth0", "all")
    gate.osctl("ct", "netif", "set", "--no-via", "6", "gate", "eth0")
    assert listed(gate) == [PERMITTED[4]]
