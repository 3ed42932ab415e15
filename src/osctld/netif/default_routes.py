"""Which of a container's default routes wins: metrics that all types of interfaces share."""

from __future__ import annotations

from osctld.core.config.edition import FIRST
from osctld.core.plan.kernel_state import IPV6_DEFAULT_METRIC

#: Distance between the metrics of default routes of several interfaces.
METRIC_STEP = 100
#: That of the first one. NetworkManager gives 100 to a default route that a router advertised on another link.
LEAST_METRIC = {4: 0, 6: 16}
#: As the first edition had it.
FIRST_LEAST_METRIC = {4: 0, 6: IPV6_DEFAULT_METRIC}


def default_metric(version: int, *, rank: int, edition: int) -> int:
    """The metric of the default route of an interface that so many others precede."""
    return METRIC_STEP * rank + (LEAST_METRIC if edition > FIRST else FIRST_LEAST_METRIC)[version]
