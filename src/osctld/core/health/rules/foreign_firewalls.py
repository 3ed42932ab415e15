"""What packet filters of others do to packets of containers."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity
from osctld.core.health.firewalls import (
    ForwardChain,
    ForwardedPacket,
    Maker,
    chains_that_drop,
    chains_with_strict_reverse_path,
)
from osctld.core.plan.kernel_state import LINK_PREFIX
from osctld.core.plan.packet_filter import TABLES


def _packets(facts: HealthFacts) -> Iterator[ForwardedPacket]:
    inside, outside = f"{LINK_PREFIX}ct-eth0", facts.host.uplinks[0].name if facts.host.uplinks else "eth0"
    group = facts.link_group
    for version in (4, 6) if facts.host.has_ipv6 else (4,):
        yield ForwardedPacket(version, outside, inside, group_out=group)
        yield ForwardedPacket(version, inside, outside, group_in=group)


def firewalls(facts: HealthFacts) -> Iterator[Finding]:
    for chain in chains_that_drop(facts.ruleset, _packets(facts), own=_OWN_TABLES):
        yield Finding(
            Severity.ERROR if chain.is_sure else Severity.WARNING,
            "firewall",
            f"the chain {chain} drops packets forwarded to or from containers"
            + ("" if chain.is_sure else ", unless rules that osctl cannot evaluate accept them"),
            f"it is {_WHOSE[chain.maker]}; packets dropped by one chain are lost, whatever other chains accept",
            tuple(_mend(chain, facts.link_group)),
        )


_OWN_TABLES = tuple((family, name) for family, _, name in (table.partition(" ") for table in TABLES))
_WHOSE = {
    Maker.DOCKER: "docker's, which accepts what its chain DOCKER-USER accepts, until the next boot",
    Maker.UFW: "ufw's, which keeps rules added with ufw",
    Maker.FIREWALLD: "firewalld's, which forwards nothing between zones unless a policy allows it",
    Maker.IPTABLES: "made by iptables; add these rules to its permanent configuration as well",
    Maker.NFTABLES: "made by nft; add these rules to its permanent configuration as well",
}


def _mend(chain: ForwardChain, group: int) -> Iterator[str]:
    links = f"{LINK_PREFIX}+"
    iptables = "ip6tables" if chain.family == "ip6" else "iptables"
    match chain.maker:
        case Maker.DOCKER:
            yield f"{iptables} -I DOCKER-USER -i {links} -j ACCEPT"
            yield f"{iptables} -I DOCKER-USER -o {links} -j ACCEPT"
        case Maker.UFW:
            yield f"ufw route allow in on {links}"
            yield f"ufw route allow out on {links}"
        case Maker.FIREWALLD:
            yield "firewall-cmd --permanent --new-zone=osctl"
            yield f"firewall-cmd --permanent --zone=osctl --add-interface={links}"
            for policy, ingress, egress in (("osctl-in", "ANY", "osctl"), ("osctl-out", "osctl", "ANY")):
                yield f"firewall-cmd --permanent --new-policy={policy}"
                yield f"firewall-cmd --permanent --policy={policy} --add-ingress-zone={ingress}"
                yield f"firewall-cmd --permanent --policy={policy} --add-egress-zone={egress}"
                yield f"firewall-cmd --permanent --policy={policy} --set-target=ACCEPT"
            yield "firewall-cmd --reload"
        case Maker.IPTABLES:
            yield f"{iptables} -I {chain.name} -i {links} -j ACCEPT"
            yield f"{iptables} -I {chain.name} -o {links} -j ACCEPT"
        case Maker.NFTABLES:
            yield f"nft insert rule {chain} iifgroup {group} accept"
            yield f"nft insert rule {chain} oifgroup {group} accept"


def legacy_firewalls(facts: HealthFacts) -> Iterator[Finding]:
    links = f"{LINK_PREFIX}+"
    for version, chain in facts.legacy.items():
        if chain.policy != "ACCEPT" and not (links in chain.accepted_in and links in chain.accepted_out):
            iptables = "iptables-legacy" if version == 4 else "ip6tables-legacy"
            yield Finding(
                Severity.ERROR,
                "legacy-firewall",
                f"the policy of the chain FORWARD of {iptables} is {chain.policy}",
                "packets that no rule accepts are dropped; add these rules to the permanent configuration as well",
                tuple(f"{iptables} -I FORWARD {way} {links} -j ACCEPT" for way in ("-i", "-o")),
            )


def strict_ipv6_reverse_path(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.has_container_with_several and 6 not in facts.permitted_versions:
        return
    for chain in chains_with_strict_reverse_path(facts.ruleset, own=_OWN_TABLES, group=facts.link_group):
        is_firewalld = chain.maker is Maker.FIREWALLD
        yield Finding(
            Severity.ERROR,
            "ipv6-rpfilter",
            f"the chain {chain} drops IPv6 packets that fail a strict reverse path check",
            "a container with several interfaces may answer from the address of one through another, and additional "
            "allowed sources are not routed to it; osctl's own source check permits both"
            + ("; it is firewalld's IPv6_rpfilter" if is_firewalld else ""),
            (
                "sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf",
                "firewall-cmd --reload",
            )
            if is_firewalld
            else (f"nft insert rule {chain} iifgroup {facts.link_group} accept",),
        )
