"""Packets through rule sets of others."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.health.firewalls import ForwardedPacket, Maker, chains_that_drop, chains_with_strict_reverse_path

INWARD = ForwardedPacket(4, "eth0", "osct-eth0", group_out=111)
OUTWARD = ForwardedPacket(6, "osct-eth0", "eth0", group_in=111)


def chain(name: str, *, family: str = "inet", table: str = "t", policy: str | None = None) -> dict[str, Any]:
    hook = {"type": "filter", "hook": "forward", "prio": 0, "policy": policy} if policy else {}
    return {"chain": {"family": family, "table": table, "name": name, **hook}}


def rule(*expressions: dict[str, Any], chain: str = "base", family: str = "inet", table: str = "t") -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": chain, "expr": list(expressions)}}


def meta(key: str, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


def state(right: Any, op: str = "in") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"ct": {"key": "state"}}, "right": right}}


ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}
COUNTER = {"counter": {"packets": 1, "bytes": 2}}
TCP = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 25}}
ADDRESSES = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@allowed"}}


def drops(policy: str, *rules: dict[str, Any], packet: ForwardedPacket = INWARD) -> bool:
    return bool(chains_that_drop([chain("base", policy=policy), chain("side"), *rules], [packet], own=()))


@pytest.mark.parametrize(
    ("rules", "is_dropped"),
    [
        ([], True),
        ([rule(ACCEPT)], False),
        ([rule(COUNTER, ACCEPT)], False),
        ([rule(meta("oifname", "os*"), ACCEPT)], False),
        ([rule(meta("oifname", "osx*"), ACCEPT)], True),
        ([rule(meta("oifname", "osct-eth0"), ACCEPT)], False),
        ([rule(meta("iifname", "os*", "!="), ACCEPT)], False),
        ([rule(meta("oifgroup", 111), ACCEPT)], False),
        ([rule(meta("oifname", {"set": ["a", "osct-eth0"]}), ACCEPT)], False),
        ([rule(meta("oifname", "@links"), ACCEPT)], True),
        ([rule(meta("nfproto", "ipv6"), ACCEPT)], True),
        ([rule(meta("nfproto", "ipv4"), ACCEPT)], False),
        ([rule(state(["established", "related"]), ACCEPT)], True),
        ([rule(state({"set": ["established", "new"]}), ACCEPT)], False),
        ([rule(state("invalid"), DROP), rule(ACCEPT)], False),
        ([rule(TCP, ACCEPT)], True),
        ([rule({"xt": {"type": "match", "name": "devgroup"}}, ACCEPT)], True),
        ([rule({"limit": {"rate": 1}}, ACCEPT)], True),
        ([rule({"jump": {"target": "side"}}), rule(ACCEPT, chain="side")], False),
        ([rule({"jump": {"target": "side"}}), rule({"return": None}, chain="side"), rule(ACCEPT)], False),
        ([rule({"goto": {"target": "side"}}), rule(ACCEPT)], True),
        ([rule({"jump": {"target": "base"}}), rule(ACCEPT)], False),
    ],
)
def test_a_packet_follows_the_rules_up_to_a_verdict(rules: list[dict[str, Any]], is_dropped: bool) -> None:
    assert drops("drop", *rules) == is_dropped


@pytest.mark.parametrize(
    ("rules", "is_dropped"),
    [
        ([], False),
        ([rule(DROP)], True),
        ([rule({"reject": {"type": "icmpx"}})], True),
        ([rule(COUNTER, {"xt": {"type": "target", "name": "REJECT"}})], True),
        ([rule({"xt": {"type": "target", "name": "LOG"}})], False),
        ([rule(TCP, DROP)], False),
        ([rule(meta("mark", 7), DROP)], False),
    ],
)
def test_what_concerns_every_packet_is_told_from_what_concerns_some(
    rules: list[dict[str, Any]], is_dropped: bool
) -> None:
    assert drops("accept", *rules) == is_dropped


@pytest.mark.parametrize(
    ("rules", "is_sure"),
    [
        # What may hold for all packets of containers.
        ([rule(meta("oifname", "@links"), ACCEPT)], False),
        ([rule(ADDRESSES, ACCEPT)], False),
        ([rule(meta("mark", 7), ACCEPT)], False),
        ([rule({"xt": {"type": "match", "name": "devgroup"}}, COUNTER, ACCEPT)], False),
        ([rule({"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@ways"}})], False),
        ([rule({"match": {"op": "!=", "left": {"ct": {"key": "status"}}, "right": "dnat"}}, ACCEPT)], False),
        ([rule(ADDRESSES, {"jump": {"target": "side"}}), rule(ACCEPT, chain="side")], False),
        ([rule({"jump": {"target": "side"}}), rule(ADDRESSES, ACCEPT, chain="side"), rule(DROP)], False),
        # What holds for some, or accepts nothing.
        ([rule(TCP, ADDRESSES, ACCEPT)], True),
        ([rule(ADDRESSES, meta("l4proto", "icmp"), ACCEPT)], True),
        ([rule({"xt": {"type": "match", "name": "conntrack"}}, ACCEPT)], True),
        ([rule({"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", ACCEPT]]}}})], True),
        ([rule(ADDRESSES, DROP)], True),
        ([rule(ADDRESSES, {"jump": {"target": "side"}}), rule(DROP, chain="side")], True),
        ([rule(ADDRESSES, {"return": None}), rule(DROP), rule(ACCEPT)], True),
        # What comes before is sure.
        ([rule(DROP), rule(ADDRESSES, ACCEPT)], True),
    ],
)
def test_a_chain_that_may_accept_all_by_what_is_not_known_here_is_not_said_to_drop_for_sure(
    rules: list[dict[str, Any]], is_sure: bool
) -> None:
    ruleset = [chain("base", policy="drop"), chain("side"), *rules]

    (found,) = chains_that_drop(ruleset, [INWARD, OUTWARD], own=())

    assert found.is_sure == is_sure


def test_a_chain_sees_packets_of_its_family() -> None:
    ruleset = [chain("FORWARD", family="ip", table="filter", policy="drop")]

    assert chains_that_drop(ruleset, [OUTWARD], own=()) == ()
    (found,) = chains_that_drop(ruleset, [OUTWARD, INWARD], own=())
    assert (str(found), found.maker) == ("ip filter FORWARD", Maker.IPTABLES)


@pytest.mark.parametrize(
    ("others", "maker"), [(["DOCKER-USER"], Maker.DOCKER), (["ufw-user-forward"], Maker.UFW), ([], Maker.IPTABLES)]
)
def test_the_maker_of_a_filter_is_known_by_its_chains(others: list[str], maker: Maker) -> None:
    base = chain("FORWARD", family="ip", table="filter", policy="drop")
    ruleset = [base, *(chain(name, family="ip", table="filter") for name in others)]

    assert [each.maker for each in chains_that_drop(ruleset, [INWARD], own=())] == [maker]


def test_our_own_tables_are_left_out() -> None:
    assert chains_that_drop([chain("base", policy="drop")], [INWARD], own=[("inet", "t")]) == ()


EXPRESSIONS = st.sampled_from(
    [ACCEPT, DROP, COUNTER, TCP, {"jump": {"target": "base"}}, {"goto": {"target": "side"}}, {"return": None}]
)


@given(st.lists(st.lists(EXPRESSIONS, max_size=3).map(lambda each: rule(*each)), max_size=5))
def test_every_rule_set_comes_to_an_end_and_an_accepting_first_rule_mends_it(rules: list[dict[str, Any]]) -> None:
    drops("accept", *rules)

    assert not drops("drop", rule(meta("oifgroup", 111), ACCEPT), *rules)


def fib(*flags: str, right: Any = False) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"fib": {"result": "oif", "flags": list(flags)}}, "right": right}}


@pytest.mark.parametrize(
    ("expressions", "is_strict"),
    [
        ([meta("nfproto", "ipv6"), fib("saddr", "mark", "iif"), DROP], True),  # firewalld's
        ([fib("saddr", "iif"), COUNTER, {"reject": None}], True),
        ([fib("saddr", "mark"), DROP], False),  # loose: by whatever link
        ([meta("nfproto", "ipv4"), fib("saddr", "iif"), DROP], False),
        ([fib("saddr", "iif", right=True), DROP], False),
        ([fib("saddr", "iif"), ACCEPT], False),
        ([DROP], False),
    ],
)
def test_a_strict_reverse_path_filter_for_ipv6_is_known(expressions: list[dict[str, Any]], is_strict: bool) -> None:
    name, table = "filter_PREROUTING", "firewalld"
    ruleset = [chain(name, table=table), rule(*expressions, chain=name, table=table)]

    found = chains_with_strict_reverse_path(ruleset, own=(), group=111)

    assert [(str(each), each.maker) for each in found] == [(f"inet {table} {name}", Maker.FIREWALLD)] * is_strict
    assert chains_with_strict_reverse_path(ruleset, own=[("inet", table)], group=111) == ()
    excepted = [ruleset[0], rule(meta("iifgroup", 111), ACCEPT, chain=name, table=table), ruleset[1]]
    assert chains_with_strict_reverse_path(excepted, own=(), group=111) == ()
