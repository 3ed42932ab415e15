"""What is not announced as it should be."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity

#: What to look at.
_SHOWN = ("osctl router show",)


def announcing(facts: HealthFacts) -> Iterator[Finding]:
    for each in facts.announcing:
        yield Finding(
            Severity.ERROR, "announcing", each, "what a router does not know is reached from this host alone", _SHOWN
        )
