"""`self check`: each finding is made real on a host, the commands that it prints are run, and it is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.host import Topology
from whole.original_client import OriginalClient


def found(host: Topology, code: str) -> list[dict[str, Any]]:
    """The findings of one kind; the machine may have others that are not about the host of the test."""
    return [each for each in json.loads(host.osctl("-j", "self", "check", check=False).stdout) if each["code"] == code]


def run_in(host: Topology, script: str) -> None:
    host.in_namespace(host.H, "sh", "-ec", script)


DOCKER = """
    {0} -P FORWARD DROP
    {0} -N DOCKER-USER
    {0} -A DOCKER-USER -j RETURN
    {0} -A FORWARD -j DOCKER-USER
    {0} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    {0} -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
"""
FILTERS = {
    "docker": (DOCKER.format("iptables"), ["iptables -I DOCKER-USER -i os+ -j ACCEPT"]),
    "docker-ipv6": (DOCKER.format("ip6tables"), ["ip6tables -I DOCKER-USER -i os+ -j ACCEPT"]),
    "iptables-policy": ("iptables -P FORWARD DROP", ["iptables -I FORWARD -o os+ -j ACCEPT"]),
    "iptables-rule": (
        "iptables -A FORWARD -m state --state ESTABLISHED -j ACCEPT; iptables -A FORWARD -j REJECT",
        ["iptables -I FORWARD -i os+ -j ACCEPT"],
    ),
    "nftables-policy": (
        "nft 'table inet own { chain way { type filter hook forward priority 5; policy drop; }; }'",
        ["nft insert rule inet own way iifgroup 111 accept"],
    ),
    "nftables-reject": (
        """
        nft 'table inet own {
            chain way {
                type filter hook forward priority 10; policy accept;
                ct state { established, related } accept
                iifname "lo" accept
                jump other
                reject with icmpx type admin-prohibited
            }
            chain other { iifname { "eth7", "br*" } accept; meta nfproto ipv6 accept; }
        }'
        """,
        ["nft insert rule inet own way oifgroup 111 accept"],
    ),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_a_firewall_that_drops_what_goes_to_containers_is_found_and_mended(host: Topology, kind: str) -> None:
    host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4", "2001:db8:2::4"])
    address = "2001:db8:2::4" if kind == "docker-ipv6" else "1.2.3.4"
    assert found(host, "firewall") == []
    script, some = FILTERS[kind]
    run_in(host, script)
    assert host.ping(host.R, address, count=1) == 0

    (finding,) = found(host, "firewall")

    assert finding["severity"] == "error"
    assert set(some) <= set(finding["commands"])
    assert host.osctl("self", "check", check=False).status == 1
    run_in(host, "\n".join(finding["commands"]))
    assert found(host, "firewall") == []
    assert host.ping(host.R, address) == 3


def test_a_firewall_that_lets_containers_through_by_a_set_is_a_warning(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
    run_in(
        host,
        """
        nft 'table inet own {
            set containers { type ipv4_addr; flags interval; elements = { 1.2.3.0/24 }; }
            chain way {
                type filter hook forward priority 0; policy drop;
                ip saddr @containers accept
                ip daddr @containers accept
            }
        }'
        """,
    )

    (finding,) = found(host, "firewall")

    assert host.ping(host.R, "1.2.3.4") == 3
    assert finding["severity"] == "warning"
    assert finding["what"].endswith("unless rules that osctl cannot evaluate accept them")
    assert host.osctl("self", "check", check=False).status == 0
    run_in(host, "\n".join(finding["commands"]))
    assert found(host, "firewall") == []


@pytest.mark.parametrize("kind", ["iptables-legacy", "ip6tables-legacy"])
def test_iptables_outside_nftables_is_seen_too(host: Topology, kind: str) -> None:
    if host.in_namespace(host.H, kind, "-P", "FORWARD", "DROP", check=False).status != 0:
        assert found(host, "legacy-firewall") == []
        return  # a kernel without it: nothing there can drop anything

    (finding,) = found(host, "legacy-firewall")

    run_in(host, "\n".join(finding["commands"]))
    assert found(host, "legacy-firewall") == []


def test_a_filter_that_concerns_others_is_no_finding(host: Topology) -> None:
    run_in(
        host,
        """
        nft 'table inet own {
            chain way {
                type filter hook forward priority 0; policy accept
                ip saddr 192.0.2.77 drop
                iifname "eth7" drop
                tcp dport 25 reject
                ct state invalid drop
                meta mark 7 drop
                oifname != "eth7" accept
                drop
            }
            chain inward { type filter hook input priority 0; policy drop; accept; }
        }'
        """,
    )

    assert found(host, "firewall") == []


@pytest.mark.parametrize(
    ("path", "wrong", "code"),
    [
        ("net/ipv4/conf/up0/forwarding", "0", "no-forwarding"),
        ("net/ipv6/conf/all/forwarding", "0", "no-forwarding"),
        ("net/ipv4/conf/all/rp_filter", "2", "rp-filter"),
        ("net/ipv4/conf/all/rp_filter", "1", "rp-filter"),
    ],
)
def test_a_setting_in_the_way_is_found_and_mended(path: str, wrong: str, code: str) -> None:
    with Topology(settings="[host]\nmanage_forwarding = false\n") as host:
        host.new_container("web", via=["10.100.10.100/30"], start=False)
        host.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.104/30", "web", "eth1")
        for each in ("net/ipv4/conf/up0/forwarding", "net/ipv6/conf/all/forwarding"):
            host.sysctl(host.H, each, "1")
        host.sysctl(host.H, "net/ipv4/conf/all/rp_filter", "0")
        assert found(host, code) == []
        host.sysctl(host.H, path, wrong)

        (finding,) = found(host, code)

        assert path.replace("/", ".") in finding["what"]
        run_in(host, "\n".join(finding["commands"]))
        assert found(host, code) == []


def test_the_kernels_own_check_on_all_links_is_in_the_way_of_permitted_ipv4_sources(host: Topology) -> None:
    host.new_container("gate", via=["10.100.10.100/30", "fd00:1::/126"], start=False)
    host.sysctl(host.H, "net/ipv4/conf/all/rp_filter", "1")
    host.osctl("ct", "netif", "source", "add", "gate", "eth0", "2001:db8:64::/48")
    assert found(host, "rp-filter") == []

    host.osctl("ct", "netif", "source", "add", "gate", "eth0", "100.64.0.0/10")

    (finding,) = found(host, "rp-filter")
    assert "additional allowed source" in finding["why"]
    run_in(host, "\n".join(finding["commands"]))
    assert found(host, "rp-filter") == []


@pytest.mark.requires_kernel("nftables fib")
def test_a_strict_reverse_path_filter_for_ipv6_is_in_the_way_of_permitted_sources(host: Topology) -> None:
    host.new_container("web", via=["fd00:1::/126"], addresses=["2001:db8:2::4"])
    run_in(
        host,
        """
        nft 'table inet firewalld {
            chain filter_PREROUTING {
                type filter hook prerouting priority 10; policy accept;
                meta nfproto ipv6 fib saddr . mark . iif oif missing drop
            }
        }'
        """,
    )
    assert found(host, "ipv6-rpfilter") == []  # everything that it may send is routed to it

    host.osctl("ct", "netif", "source", "add", "web", "eth0", "2001:db8:99::/48")

    (finding,) = found(host, "ipv6-rpfilter")
    assert (finding["severity"], "inet firewalld filter_PREROUTING" in finding["what"]) == ("error", True)
    assert finding["commands"][-1] == "firewall-cmd --reload"

    run_in(host, "nft 'table inet own { chain way { type filter hook prerouting priority 5; }; }'")
    run_in(host, "nft delete table inet firewalld; nft add rule inet own way fib saddr . iif oif missing drop")
    (finding,) = found(host, "ipv6-rpfilter")
    run_in(host, "\n".join(finding["commands"]))
    assert found(host, "ipv6-rpfilter") == []


def test_an_advertised_default_route_that_would_expire_is_found_and_mended() -> None:
    with Topology(settings="[host]\nmanage_forwarding = false\n") as host:
        host.sysctl(host.H, "net/ipv6/conf/all/forwarding", "1")
        host.ip(host.H, "-6", "route", "del", "default")
        host.ip(host.H, "-6", "route", "add", "default", "via", "2001:db8:1::2", "dev", "up0", "proto", "ra")

        (finding,) = found(host, "advertised-route")

        assert finding["commands"] == ["sysctl -w net.ipv6.conf.up0.accept_ra=2"]
        run_in(host, finding["commands"][0])
        assert found(host, "advertised-route") == []


@pytest.mark.parametrize("options", [(), ("-H", "-o", "commands")])
def test_what_a_check_prints_can_be_pasted_as_it_stands(options: tuple[str, ...]) -> None:
    with Topology(settings="[host]\nmanage_forwarding = false\n", program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"])
        # Several commands for one finding, and several findings.
        run_in(host, "nft 'table inet own { chain way { type filter hook forward priority 5; policy drop; }; }'")
        codes = ("no-forwarding", "firewall")
        commands = [each for code in codes for one in found(host, code) for each in one["commands"]]
        assert len(commands) >= 5

        text = host.osctl("self", "check", *options, check=False).stdout

        lines = [line.strip() for line in text.splitlines()]
        assert set(commands) <= set(lines)
        pasted = [line for line in lines if line in commands]
        run_in(host, "\n".join(pasted))
        assert [each for code in codes for each in found(host, code)] == []


def test_a_check_tells_people_in_paragraphs_and_changes_nothing(host: Topology) -> None:
    run_in(host, "iptables -P FORWARD DROP")
    before = host.kernel_state()

    result = host.osctl("self", "check", check=False)

    assert result.status == 1
    assert result.stderr == ""
    assert "SEVERITY:  error\n" in result.stdout
    assert "iptables -I FORWARD -i os+ -j ACCEPT" in result.stdout
    assert host.kernel_state() == before


def test_the_host_of_the_tests_has_no_errors(host: Topology) -> None:
    findings = json.loads(host.osctl("-j", "self", "check").stdout)

    assert [each for each in findings if each["severity"] == "error"] == []


def test_what_the_original_s_client_opens_is_missed_once_it_is_used(host: Topology) -> None:
    assert found(host, "original-client") == []
    with OriginalClient(host.socket) as client:
        client.call("ct_list")
    opened = Path("/var/lib/lxcfs/proc/.loadavgs")
    if opened.exists():  # a machine that has it
        assert found(host, "original-client") == []
        return
    made = [each for each in (opened, *opened.parents) if not each.exists()]

    (finding,) = found(host, "original-client")

    assert finding["severity"] == "note"
    assert finding["what"] == f"{opened} does not exist"
    try:
        run_in(host, "\n".join(finding["commands"]))
        assert opened.read_bytes() == b""
        assert found(host, "original-client") == []
    finally:
        for each in made:
            (each.unlink if each == opened else each.rmdir)()
