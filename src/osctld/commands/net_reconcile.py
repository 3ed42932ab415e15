"""Bring everything to what is wanted."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Example, Reconcile
from osctld.core.config.host import Host


class NetReconcile(ActCommand, frozen=True, kw_only=True):
    """Compare the kernel with the configuration, repair differences, and report them.

    The host side is kept in this state at all times. Differences inside a container are left to the tenant, unless the
    interface's guest policy is enforce; this command repairs them as well.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "reconcile")
    keeps_failures: ClassVar[bool] = False
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net reconcile --dry-run", "Show the differences as commands that would repair them"),
        Example("osctl net reconcile myct01", "Repair one container and its host side"),
    )

    container: Annotated[
        str | None, Argument("Container; by default all containers", metavar="ct", completes="container")
    ] = None

    def act(self, host: Host) -> Action:
        return Reconcile(host.container(self.container).name if self.container is not None else None)
