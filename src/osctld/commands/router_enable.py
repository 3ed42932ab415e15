"""Announce networks of containers by a routing daemon."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, EnableRouter, Example
from osctld.core.config.host import Host
from osctld.core.errors import UsageError

#: Those that osctld can tell what to announce.
ENGINES = ("bird",)


class RouterEnable(ActCommand, frozen=True, kw_only=True):
    """Have a routing daemon announce the networks of running containers, by BGP.

    What is announced, and to which routers, is set in osctld.toml(5), in the table announce and a table neighbors.NAME
    for each router. osctld writes a file that the configuration of the routing daemon includes; BIRD checks it before
    it is loaded, and nothing else of its configuration is touched. If sessions that were up do not come back, the
    change is taken back. Repeat the command after a change of a password.
    """

    words: ClassVar[tuple[str, ...]] = ("router", "enable")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl router enable --dry-run bird", "Show the file for BIRD as a diff, without writing it"),
        Example("osctl router enable bird", "Announce by BIRD from now on, and after each boot"),
    )

    engine: Annotated[str, Argument("Routing daemon: bird", metavar="engine", keywords=ENGINES)]

    def act(self, host: Host) -> Action:
        if self.engine not in ENGINES:
            raise UsageError(f"{self.engine!r}: unknown routing daemon (expected {', '.join(ENGINES)})")
        return EnableRouter(self.engine)
