"""Find what on the host hinders containers."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import CheckHealth, Column, Example, ListOptions, Look, LookCommand
from osctld.core.config.host import Host
from osctld.core.health import finding


class SelfCheck(LookCommand, ListOptions, frozen=True, kw_only=True):
    """Find problems of the host that affect containers, and show how to fix them.

    Check forwarding, other firewalls, settings that are applied again at boot, limits, and programs that would manage
    the links of osctl. Nothing is changed. The exit status is 1 if any finding is an error. Commands are on lines of
    their own, ready to paste.
    """

    words: ClassVar[tuple[str, ...]] = ("self", "check")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self check", "List what is wrong, and why"),
        Example("osctl self check -H -o commands", "List only the commands that fix it, one per line"),
        Example("osctl -j self check", "The same as JSON"),
    )
    columns: ClassVar[tuple[Column, ...]] = finding.COLUMNS

    def act(self, host: Host) -> Look:
        return CheckHealth()
