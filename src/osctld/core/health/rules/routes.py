"""Whether what is routed to containers reaches them: others' routes, rules, addresses and masters."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.authority.blocks import Block
from osctld.core.authority.null_routes import NullRoute
from osctld.core.authority.rules import named
from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity


def held_by_both(facts: HealthFacts) -> Iterator[Finding]:
    for each in facts.older_holdings:
        objection, there = each.objection, each.objection.there
        asked, more = named(objection.wanted.network), f" and {each.count - 1} more" if each.count > 1 else ""
        whose = f"{asked}{more} of {objection.wanted.holder}"
        is_same = asked == there.subject and not more
        yield Finding(
            Severity.WARNING if objection.rule.yields else Severity.ERROR,
            "held-by-both",
            f"{whose} is {there.is_what}" if is_same else f"{whose}: {there}",
            "the host and the container both use it, and one of them does not receive its packets; the container had "
            "it before the host used it, or got it with --force",
            each.commands,
        )


def yielded(facts: HealthFacts) -> Iterator[Finding]:
    for container, each in facts.yielded:
        match each.to:
            case NullRoute():
                severity, code = Severity.WARNING, "null-route"
            case Block():
                severity, code = Severity.NOTE, "block"
            case _:
                severity, code = Severity.ERROR, "in-the-way"
        yield Finding(
            severity,
            code,
            f"{container}: {each}",
            "meanwhile the network is not routed to its container",
            (each.command,),
        )


def astray(facts: HealthFacts) -> Iterator[Finding]:
    told = {(each.objection.wanted.holder, each.objection.wanted.network) for each in facts.older_holdings}
    for each in facts.astray:
        if (each.holder, each.network) in told and "is an address of the host" in each.cause:
            continue  # held by both
        more = f" and {each.count - 1} more" if each.count > 1 else ""
        yield Finding(
            Severity.WARNING if each.is_host_s else Severity.ERROR,
            "astray",
            f"{each.network}{more} of {each.holder}: {each.cause}",
            "packets from the host itself do not reach the container"
            if each.is_host_s
            else "they do not reach the container, although its route is present",
            each.commands,
        )
    for version in facts.without_main:
        yield Finding(
            Severity.ERROR,
            "no-main-table",
            f"no routing rule looks up the main table for all IPv{version} packets",
            "the routes to containers are in that table",
            (f"ip{' -6' if version == 6 else ''} rule add pref 32766 lookup main",),
        )


def ports(facts: HealthFacts) -> Iterator[Finding]:
    for link, master in facts.host.ports:
        yield Finding(
            Severity.ERROR,
            "bridge-port",
            f"{link} is a port of {master.name} ({master.kind})",
            "the host has to route on this link: packets that enter a bridge through it are dropped, and in a VRF the "
            "routes to the container are in a table that others do not use",
            (f"ip link set dev {link} nomaster",),
        )
