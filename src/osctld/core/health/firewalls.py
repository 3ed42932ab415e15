"""What the packet filters of others do with packets to and from containers.

A rule set is what libnftables-json(5) calls one: iptables' own rules, where they are kept in nftables, are in it too.
The first packet of a connection is followed through the chains that see forwarded packets. Rules that ask about more
than links, groups, versions and connection states are passed over: what a filter does to every packet is found, what it
does to some is not. Where such a rule accepts, and may do so for all packets (a set of addresses, a mark), it is not
known what the chain does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

#: Statements that let a packet continue.
_WITHOUT_VERDICT = ("counter", "log", "mangle", "notrack", "comment")

#: What never holds for all packets of all connections: what asks about one of these protocols, limits, and matches of
#: iptables.
_PROTOCOLS = ("tcp", "udp", "udplite", "sctp", "dccp", "th", "icmp", "icmpv6", "igmp")
_LIMITS = ("limit", "quota")
_XT_MATCHES_OF_SOME = ("conntrack", "state", *_PROTOCOLS, "icmp6", "multiport", "limit", "hashlimit", "recent")


class Maker(StrEnum):
    """Who made a filter, which determines how to fix it."""

    DOCKER = "docker"
    UFW = "ufw"
    FIREWALLD = "firewalld"
    IPTABLES = "iptables"
    NFTABLES = "nftables"


class ForwardedPacket(msgspec.Struct, frozen=True):
    """The first packet of a connection that the host passes on, from one link to another."""

    version: int
    link_in: str
    link_out: str
    group_in: int = 0
    group_out: int = 0


class ForwardChain(msgspec.Struct, frozen=True):
    """A chain that drops forwarded packets: certainly, or unless rules that cannot be evaluated here accept them."""

    family: str
    table: str
    name: str
    maker: Maker
    is_sure: bool = True

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


Rule = Sequence[Mapping[str, Any]]


class _Chains:
    """A rule set by table and chain."""

    def __init__(self, ruleset: Iterable[Mapping[str, Any]]) -> None:
        self.base: list[Mapping[str, Any]] = []
        self.rules: dict[tuple[str, str, str], list[Rule]] = {}
        for each in ruleset:
            chain, rule = each.get("chain"), each.get("rule")
            if chain is not None:
                self.rules.setdefault((chain["family"], chain["table"], chain["name"]), [])
                if chain.get("hook") == "forward" and chain.get("type") == "filter":
                    self.base.append(chain)
            elif rule is not None:
                self.rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule["expr"])


def chains_that_drop(
    ruleset: Iterable[Mapping[str, Any]], packets: Iterable[ForwardedPacket], *, own: Iterable[tuple[str, str]]
) -> tuple[ForwardChain, ...]:
    """The chains that drop or reject at least one of these packets, or may. `own` are family and table of ours."""
    chains = _Chains(ruleset)
    ours = set(own)
    packets = tuple(packets)
    found = []
    for chain in chains.base:
        family, table, name = chain["family"], chain["table"], chain["name"]
        if (family, table) in ours:
            continue
        seen = (each for each in packets if family in (f"ip{'' if each.version == 4 else 6}", "inet"))
        dropped = [each for each in seen if _verdict(chains, chain, each, is_hopeful=False) == "drop"]
        if dropped:
            is_sure = any(_verdict(chains, chain, each, is_hopeful=True) == "drop" for each in dropped)
            found.append(ForwardChain(family, table, name, _maker(chains, family, table, name), is_sure))
    return tuple(found)


def chains_with_strict_reverse_path(
    ruleset: Iterable[Mapping[str, Any]], *, own: Iterable[tuple[str, str]], group: int
) -> tuple[ForwardChain, ...]:
    """The chains with a rule that drops IPv6 packets unless the way back to their source is the link they came by.

    Chains that first accept what arrives on links of the group are not among them.
    """
    chains = _Chains(ruleset)
    ours = set(own)
    return tuple(
        ForwardChain(family, table, name, _maker(chains, family, table, name))
        for (family, table, name), rules in chains.rules.items()
        if family in ("ip6", "inet") and (family, table) not in ours and _comes_to_strict_reverse_path(rules, group)
    )


def _comes_to_strict_reverse_path(rules: Iterable[Rule], group: int) -> bool:
    from_group = {"match": {"op": "==", "left": {"meta": {"key": "iifgroup"}}, "right": group}}
    for rule in rules:
        if list(rule) == [from_group, {"accept": None}]:
            return False
        if _is_strict_reverse_path(rule):
            return True
    return False


def _is_strict_reverse_path(rule: Rule) -> bool:
    matches = [each["match"] for each in rule if "match" in each]
    asks = any(
        {"saddr", "iif"} <= set(each["left"]["fib"].get("flags", ())) and each["right"] is False
        for each in matches
        if isinstance(each["left"], Mapping) and "fib" in each["left"]
    )
    is_of_ipv4 = any(each["left"] == {"meta": {"key": "nfproto"}} and each["right"] == "ipv4" for each in matches)
    return asks and not is_of_ipv4 and any("drop" in each or "reject" in each for each in rule)


def _maker(chains: _Chains, family: str, table: str, name: str) -> Maker:
    names = {chain for its_family, its_table, chain in chains.rules if (its_family, its_table) == (family, table)}
    if table == "firewalld":
        return Maker.FIREWALLD
    if "DOCKER-USER" in names:
        return Maker.DOCKER
    if any(each.startswith(("ufw-", "ufw6-")) for each in names):
        return Maker.UFW
    return Maker.IPTABLES if family != "inet" and (table, name) == ("filter", "FORWARD") else Maker.NFTABLES


def _verdict(chains: _Chains, base: Mapping[str, Any], packet: ForwardedPacket, *, is_hopeful: bool) -> str:
    place = (base["family"], base["table"], base["name"])
    verdict = _walk(chains, (place,), packet, is_hopeful=is_hopeful)
    return verdict if verdict in ("accept", "drop") else str(base.get("policy", "accept"))


def _walk(chains: _Chains, path: tuple[tuple[str, str, str], ...], packet: ForwardedPacket, *, is_hopeful: bool) -> str:
    """What the last chain of a path says: accept, drop, or nothing. The kernel takes no path that leads back.

    If hopeful, a rule that cannot be evaluated here counts as matching if it accepts.
    """
    *before, place = path
    if place in before:
        return ""
    family, table, _ = place
    for rule in chains.rules.get(place, ()):
        is_sure, verdict, target = _outcome(rule, packet)
        if not verdict or not (is_sure or is_hopeful):
            continue
        is_goto = verdict == "goto"
        if verdict in ("jump", "goto"):
            verdict = _walk(chains, (*path, (family, table, target)), packet, is_hopeful=is_hopeful)
        if verdict == "accept" or (is_sure and (verdict or is_goto)):
            return "" if verdict == "return" else verdict
    return ""


def _outcome(rule: Rule, packet: ForwardedPacket) -> tuple[bool, str, str]:
    """The verdict of a rule that is, or may be, about this packet, with where it leads; empty for others.

    First, whether it is about the packet for sure.
    """
    is_sure = True
    for expression in rule:
        ((kind, value),) = expression.items()
        match kind:
            case "match":
                is_about = _matches(value, packet)
                if is_about is False:
                    break
                is_sure &= is_about is True
            case "accept" | "drop" | "return":
                return is_sure, kind, ""
            case "reject":
                return is_sure, "drop", ""
            case "jump" | "goto":
                return is_sure, kind, str(value["target"])
            case "xt" if value.get("type") == "target":
                return is_sure, "drop" if value.get("name") in ("REJECT", "DROP") else "", ""
            case "xt" if value.get("name") in _XT_MATCHES_OF_SOME:
                break
            case "vmap" if not _is_of_some_packets(value["key"]):
                return False, "accept", ""
            case _ if kind == "vmap" or kind in _LIMITS:
                break
            case _ if kind not in _WITHOUT_VERDICT and not (kind == "xt" and value.get("name") == "comment"):
                is_sure = False
    return False, "", ""


def _matches(match: Mapping[str, Any], packet: ForwardedPacket) -> bool | None:
    """Whether a comparison holds; None if this cannot be determined here and it may hold for all packets."""
    left, right, operator = match["left"], match["right"], match["op"]
    wanted = _values(right)
    if wanted is not None and left.get("ct", {}).get("key") == "state":
        is_new = "new" in wanted
        return is_new if operator in ("==", "in") else operator == "!=" and not is_new
    if _is_of_some_packets(left, operator):
        return False
    present = _known(left.get("meta", {}).get("key"), packet)
    if present is None or wanted is None:
        return None
    fits = any(_is_like(present, each) for each in wanted)
    return fits if operator in ("==", "in") else operator == "!=" and not fits


def _is_of_some_packets(asked: Mapping[str, Any], operator: str = "==") -> bool:
    """Whether a question is about protocols or connections in a way that all packets cannot have in common."""
    masked = asked.get("&")
    if isinstance(masked, list) and isinstance(masked[0], Mapping):
        return _is_of_some_packets(masked[0], operator)
    if asked.get("ct", {}).get("key") in ("state", "status"):
        return operator != "!="
    payload = asked.get("payload", {})
    is_protocol = payload.get("protocol") in _PROTOCOLS or payload.get("field") in ("protocol", "nexthdr")
    return is_protocol or asked.get("meta", {}).get("key") == "l4proto"


def _known(key: str | None, packet: ForwardedPacket) -> str | None:
    match key:
        case "iifname" | "iif":
            return packet.link_in
        case "oifname" | "oif":
            return packet.link_out
        case "iifgroup":
            return str(packet.group_in)
        case "oifgroup":
            return str(packet.group_out)
        case "nfproto":
            return f"ipv{packet.version}"
        case "protocol":
            return "ip" if packet.version == 4 else "ip6"
    return None


def _values(right: Any) -> tuple[str, ...] | None:
    """The values that a comparison names one by one; None for anything else, a set by its name too."""
    if isinstance(right, Mapping):
        right = right.get("set")
    if isinstance(right, str | int):
        right = [right]
    if not isinstance(right, list) or not all(isinstance(each, str | int) for each in right):
        return None
    values = tuple(map(str, right))
    return None if any(each.startswith("@") for each in values) else values


def _is_like(present: str, wanted: str) -> bool:
    return present.startswith(wanted[:-1]) if wanted.endswith("*") else present == wanted
