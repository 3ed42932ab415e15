"""Tell Prometheus."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Example, Flag, Look, LookCommand, ShowMetrics
from osctld.core.config.host import Host


class SelfMetrics(LookCommand, frozen=True, kw_only=True):
    """Print what osctl status says, and what was counted, in the text format of Prometheus.

    For the textfile collector of node_exporter, or for a unit that is started by whoever connects: see osctld(8).
    """

    words: ClassVar[tuple[str, ...]] = ("self", "metrics")
    examples: ClassVar[tuple[Example, ...]] = (Example("osctl self metrics", "Everything, as a scrape gets it"),)

    http: Annotated[bool, Flag(("--http",), "Put the head of an answer of HTTP before it, for a scrape")] = False

    def act(self, host: Host) -> Look:
        return ShowMetrics(has_head=self.http)
