"""Copy all that is configured into a file."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, BackUp, Example
from osctld.core.config.host import Host


class SelfBackup(ActCommand, frozen=True, kw_only=True):
    """Copy the configuration and the history into a new file, without interrupting anything.

    The file is a consistent copy of the containers with their interfaces, addresses and routes, whether they should be
    running, and the identity of this host. It does not hold root directories (/var/lib/osctl/ct), which have to be
    backed up by other means, nor settings (/etc/osctl). It is an SQLite database that only its owner may read. `self
    restore` restores it.
    """

    words: ClassVar[tuple[str, ...]] = ("self", "backup")
    keeps_failures: ClassVar[bool] = False
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self backup new.backup", "Back up the configuration; the file must not exist"),
    )

    file: Annotated[str, Argument("File to create; it must not exist", metavar="file", completes="file")]

    def act(self, host: Host) -> Action:
        return BackUp(self.file)
