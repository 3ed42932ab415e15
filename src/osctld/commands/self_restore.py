"""Go back to a copy of all that was configured."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, Example, Flag, RestoreCopy
from osctld.core.config.host import Host


class SelfRestore(ActCommand, frozen=True, kw_only=True):
    """Restore the configuration that `self backup` saved: all of it, or nothing.

    Running containers that are the same in the file are left alone. The restore is refused if a container is not in the
    file, if the configuration of a running container differs, if the host itself now has one of the addresses, or if
    the file is from another host, unless `--replace-host` makes this machine that host, to replace one that died. Root
    directories are not in the file; missing ones are listed. Containers that were running then and are stopped now are
    started when osctld next starts. Networks that a container had then and has since given up may now belong to
    somebody else, for example on another host: they are restored as parked, that is, not routed, until `ct netif take`,
    or at once with `--take`. The history of this host is kept; with `--replace-host`, it is replaced by the history in
    the file.
    """

    words: ClassVar[tuple[str, ...]] = ("self", "restore")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self restore osctl.backup", "Restore the configuration"),
        Example("osctl --dry-run self restore osctl.backup", "Show what would change"),
        Example("osctl self restore --replace-host osctl.backup", "Replace a dead host with this machine"),
    )

    file: Annotated[str, Argument("File written by self backup", metavar="file", completes="file")]
    replace_host: Annotated[
        bool, Flag(("--replace-host",), "Accept a backup of another host, and take over its identity")
    ] = False

    take: Annotated[bool, Flag(("--take",), "Also route networks that were given up since the file was written")] = (
        False
    )

    def act(self, host: Host) -> Action:
        return RestoreCopy(self.file, self.replace_host, self.take)
