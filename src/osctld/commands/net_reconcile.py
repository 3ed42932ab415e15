"""Bring everything to what is wanted."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Example, Reconcile
from osctld.core.host import Host


class NetReconcile(ActCommand, frozen=True, kw_only=True):
    """Compare what the kernel holds with what is wanted, mend what differs, and say what that was.

    The host's side is kept so at all times. Inside a container differences are the tenant's affair unless the
    interface's guest policy is to enforce: this command mends them too.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "reconcile")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net reconcile --dry-run", "What differs, as the commands that would mend it"),
        Example("osctl net reconcile myct01", "Mend what differs in one container and on its side of the host"),
    )

    container: Annotated[
        str | None, Argument("Container; all when none is named", metavar="ct", completes="container")
    ] = None

    def act(self, host: Host) -> Action:
        return Reconcile(host.container(self.container).name if self.container is not None else None)
