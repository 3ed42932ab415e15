"""Go back to a copy of all that was configured."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Example, Flag, RestoreCopy
from osctld.core.config.host import Host


class SelfRestore(ActCommand, frozen=True, kw_only=True):
    """Restore the configuration that `self backup` saved: all of it, or nothing.

    Running containers that are the same in the file are left alone. Refused are: a container that is not in the file; a
    running container whose configuration differs; an address that the host itself now has; a file of another host,
    unless `--replace-host` makes this host the other, to replace one that died. Root directories are not in the file;
    missing ones are named. Containers that were running then and are stopped now are started when osctld starts next.
    Networks that a container had then and has given up since may be somebody else's now, on another host for example:
    they are restored parked, that is, not routed, until `ct netif take`, or at once with `--take`.
    The history of this host is kept; with `--replace-host` it is replaced by that in the file.
    """

    words: ClassVar[tuple[str, ...]] = ("self", "restore")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self restore osctl.backup", "Restore the configuration"),
        Example("osctl --dry-run self restore osctl.backup", "Show what would change"),
        Example("osctl self restore --replace-host osctl.backup", "Replace a dead host by this machine"),
    )

    file: Annotated[str, Argument("File written by self backup", metavar="file", completes="file")]
    replace_host: Annotated[
        bool, Flag(("--replace-host",), "Accept a backup of another host, and take over its identity")
    ] = False

    take: Annotated[bool, Flag(("--take",), "Route what was given up since the file was written, too")] = False

    def act(self, host: Host) -> Action:
        return RestoreCopy(self.file, self.replace_host, self.take)
