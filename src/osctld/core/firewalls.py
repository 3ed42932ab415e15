"""What the packet filters of others do with packets to and from containers.

A rule set is what libnftables-json(5) calls one: iptables' own rules, where they are kept in nftables, are in it too.
The first packet of a connection is followed through the chains that see forwarded packets. Rules that ask about more
than links, groups, versions and connection states are passed over: what a filter does to every packet is found, what it
does to some is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

#: Statements that let a packet go on.
_WITHOUT_VERDICT = ("counter", "log", "mangle", "notrack", "comment")


class Maker(StrEnum):
    """Who made a filter, which says how it is mended."""

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
    """A chain that sees forwarded packets."""

    family: str
    table: str
    name: str
    maker: Maker

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
    """The chains that drop or reject at least one of these packets. `own` are family and table of our own tables."""
    chains = _Chains(ruleset)
    ours = set(own)
    packets = tuple(packets)
    found = []
    for chain in chains.base:
        family, table, name = chain["family"], chain["table"], chain["name"]
        if (family, table) in ours:
            continue
        seen = (each for each in packets if family in (f"ip{'' if each.version == 4 else 6}", "inet"))
        if any(_verdict(chains, chain, each) == "drop" for each in seen):
            found.append(ForwardChain(family, table, name, _maker(chains, family, table, name)))
    return tuple(found)


def _maker(chains: _Chains, family: str, table: str, name: str) -> Maker:
    names = {chain for its_family, its_table, chain in chains.rules if (its_family, its_table) == (family, table)}
    if table == "firewalld":
        return Maker.FIREWALLD
    if "DOCKER-USER" in names:
        return Maker.DOCKER
    if any(each.startswith(("ufw-", "ufw6-")) for each in names):
        return Maker.UFW
    return Maker.IPTABLES if family != "inet" and (table, name) == ("filter", "FORWARD") else Maker.NFTABLES


def _verdict(chains: _Chains, base: Mapping[str, Any], packet: ForwardedPacket) -> str:
    place = (base["family"], base["table"], base["name"])
    verdict = _walk(chains, (place,), packet)
    return verdict if verdict in ("accept", "drop") else str(base.get("policy", "accept"))


def _walk(chains: _Chains, path: tuple[tuple[str, str, str], ...], packet: ForwardedPacket) -> str:
    """What the last chain of a path says: accept, drop, or nothing. The kernel takes no path that leads back."""
    *before, place = path
    if place in before:
        return ""
    family, table, _ = place
    for rule in chains.rules.get(place, ()):
        statement, target = _outcome(rule, packet)
        if statement in ("accept", "drop"):
            return statement
        if statement == "return":
            return ""
        if statement in ("jump", "goto"):
            verdict = _walk(chains, (*path, (family, table, target)), packet)
            if verdict or statement == "goto":
                return verdict
    return ""


def _outcome(rule: Rule, packet: ForwardedPacket) -> tuple[str, str]:
    """The verdict of a rule that is about this packet for sure, with where it leads; empty for others."""
    for expression in rule:
        ((kind, value),) = expression.items()
        match kind:
            case "match":
                if not _matches(value, packet):
                    return "", ""
            case "accept" | "drop" | "return":
                return kind, ""
            case "reject":
                return "drop", ""
            case "jump" | "goto":
                return kind, str(value["target"])
            case "xt" if value.get("type") == "target" and value.get("name") in ("REJECT", "DROP"):
                return "drop", ""
            case _ if kind not in _WITHOUT_VERDICT:
                return "", ""
    return "", ""


def _matches(match: Mapping[str, Any], packet: ForwardedPacket) -> bool:
    """Whether a comparison holds for sure."""
    left, right, operator = match["left"], match["right"], match["op"]
    wanted = _values(right)
    if wanted is None:
        return False
    if left.get("ct", {}).get("key") == "state":
        is_new = "new" in wanted
        return is_new if operator in ("==", "in") else operator == "!=" and not is_new
    present = _known(left.get("meta", {}).get("key"), packet)
    if present is None:
        return False
    fits = any(_is_like(present, each) for each in wanted)
    return fits if operator in ("==", "in") else operator == "!=" and not fits


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
    """The values that a comparison names one by one; None for anything else."""
    if isinstance(right, Mapping):
        right = right.get("set")
    if isinstance(right, str | int):
        right = [right]
    if not isinstance(right, list) or not all(isinstance(each, str | int) for each in right):
        return None
    return tuple(map(str, right))


def _is_like(present: str, wanted: str) -> bool:
    return present.startswith(wanted[:-1]) if wanted.endswith("*") else present == wanted
