"""What hinders containers on this host: rules over facts, each finding with the command that fixes it."""

from __future__ import annotations

from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity
from osctld.core.health.rules import (
    announcing,
    foreign_firewalls,
    forwarding,
    link_managers,
    requirements,
    routes,
    sysctls,
)

#: In the order in which findings of one severity are told.
_RULES = (
    requirements.programs,
    requirements.apparmor,
    forwarding.forwarding,
    forwarding.not_switched_on,
    forwarding.advertised_routes,
    foreign_firewalls.firewalls,
    foreign_firewalls.legacy_firewalls,
    sysctls.boot,
    routes.held_by_both,
    routes.yielded,
    routes.astray,
    routes.ports,
    announcing.announcing,
    sysctls.reverse_path,
    foreign_firewalls.strict_ipv6_reverse_path,
    sysctls.limits,
    requirements.installations,
    link_managers.networkd,
    link_managers.network_manager,
    requirements.original,
    requirements.kernel,
)


def findings(facts: HealthFacts) -> tuple[Finding, ...]:
    """All that is not as it should be, the worst first."""
    order = tuple(Severity)
    found = (each for rule in _RULES for each in rule(facts))
    return tuple(sorted(found, key=lambda each: order.index(each.severity)))
