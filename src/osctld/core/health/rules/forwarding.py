"""Whether the host forwards, and hears routers all the same."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity
from osctld.core.health.rules.sysctls import keep, name
from osctld.core.reconcile.host_level import (
    ipv6_forwarding_commands,
    links_without_default,
    takes_advertisements_unless_forwarding,
)


def forwarding(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.containers:
        return  # nothing to forward for
    paths = {f"net/ipv4/conf/{each.name}/forwarding": each.has_ipv4_forwarding for each in facts.host.uplinks}
    if facts.host.has_ipv6:
        paths["net/ipv6/conf/all/forwarding"] = facts.host.has_ipv6_forwarding
    for path, is_on in paths.items():
        if not is_on:
            who = "osctld repairs it at its next check" if facts.manages_forwarding else "manage_forwarding is off"
            is_ipv6 = path.startswith("net/ipv6/")
            yield Finding(
                Severity.ERROR,
                "no-forwarding",
                f"{path.replace('/', '.')} is 0",
                f"the host does not forward packets to containers; {who}",
                ipv6_forwarding_commands(facts.host) if is_ipv6 else (f"sysctl -w {name(path)}=1",),
            )


def not_switched_on(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.containers:
        return
    for each in facts.host.others:
        if each.has_ipv4_forwarding or not (each.leads_out or each.name in facts.networked):
            continue
        path = f"net/ipv4/conf/{each.name}/forwarding"
        # Who names the uplinks has thought of this one as well, unless there is more behind it than a network.
        is_chosen = facts.names_uplinks and not each.leads_out
        yield Finding(
            Severity.NOTE if is_chosen else Severity.WARNING,
            "link-without-forwarding",
            f"{path.replace('/', '.')} is 0, and {each.name} is not "
            + ("listed in host.uplinks" if facts.names_uplinks else "an uplink"),
            f"IPv4 packets for containers that arrive on {each.name} are dropped, replies included; osctld enables "
            "forwarding on uplinks only, which host.uplinks in osctld.toml can list",
            (f"sysctl -w {name(path)}=1", keep(path, 1)),
        )


def advertised_routes(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.host.has_ipv6_forwarding:
        return
    deaf = [each for each in facts.host.links if takes_advertisements_unless_forwarding(each.accept_ra)]
    hurt = [each for each in deaf if each.has_advertised_default or each.was_answered]
    for each in hurt:
        yield Finding(
            Severity.ERROR,
            "advertised-route",
            (
                f"the IPv6 default route on {each.name} was advertised, and "
                if each.has_advertised_default
                else f"{each.name} has lost its advertised IPv6 default route: "
            )
            + f"net.ipv6.conf.{each.name}.accept_ra is {each.accept_ra}",
            "a host that forwards IPv6 then ignores router advertisements"
            + (", and the route will expire" if each.has_advertised_default else ""),
            (_always_accept(each.name), *(() if each.has_advertised_default else (_ASK,))),
        )
    others = [each.name for each in deaf if each not in hurt]
    if takes_advertisements_unless_forwarding(facts.host.default_accept_ra):
        others.append("default")
    if others:
        yield Finding(
            Severity.WARNING if facts.containers else Severity.NOTE,
            "accept-ra",
            f"IPv6 forwarding is on, and accept_ra is 1 for {', '.join(others)}",
            "router advertisements on these links are ignored and provide neither addresses nor a default route"
            + ("; 'default' stands for links that appear later" if "default" in others else ""),
            tuple(map(_always_accept, others)),
        )
    if not facts.host.has_ipv6_default:
        for name in links_without_default(facts.host):
            yield Finding(
                Severity.WARNING,
                "no-advertised-route",
                f"there is no IPv6 default route, and the kernel no longer solicits routers on {name}",
                "the next router advertisement may take half an hour; a solicited router answers at once",
                (_ASK,),
            )


#: It asks routers on links that lack what they advertise.
_ASK = "osctl net reconcile"


def _always_accept(link: str) -> str:
    return f"sysctl -w {name(f'net/ipv6/conf/{link}/accept_ra')}=2"
