"""Tell Prometheus."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Example, Flag, Look, LookCommand, ShowMetrics
from osctld.core.config.host import Host


class SelfMetrics(LookCommand, frozen=True, kw_only=True):
    """Print the findings of osctl status, and all counters, in the Prometheus text format.

    For the textfile collector of node_exporter, or for a socket-activated unit: see osctld(8).
    """

    words: ClassVar[tuple[str, ...]] = ("self", "metrics")
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl self metrics", "Print all metrics"),)

    http: Annotated[bool, Flag(("--http",), "Precede the metrics with an HTTP response header, for a scrape")] = False

    def act(self, host: Host) -> Look:
        return ShowMetrics(has_head=self.http)
