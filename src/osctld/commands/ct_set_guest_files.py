"""Say what becomes of the files of a container's own network tool."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example
from osctld.core.config.guest_side import GuestFilesPolicy
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused

POLICIES = tuple(each.value for each in GuestFilesPolicy)


class CtSetGuestFiles(EditCommand, frozen=True, kw_only=True):
    """Set whether osctld writes the configuration files of the network tool inside a container.

    write (the default): before each start and after each change of an interface, the files of the tools that are found
    in the container are made to agree with the configuration, so that a restart of such a tool keeps all addresses and
    routes. Lines of the tenant that conflict become comments. A file that its owner may not write (chmod u-w) is left
    alone.

    report: differences are only reported, as events and by `ct guest-files diff`.

    off: what osctld wrote is removed, and the tenant's lines are put back.

    See osctld(8), Network tools inside containers.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "set", "guest-files")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct set guest-files myct01 report", "Leave the files to the tenant, and report differences"),
        Example("osctl ct set guest-files --dry-run myct01 off", "Show what would be put back in the files"),
    )

    container: ContainerName
    policy: Annotated[str, Argument("write, report or off", metavar="write|report|off", keywords=POLICIES)]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        if self.policy not in POLICIES:
            raise Refused(
                f"{self.policy!r}: not a policy for guest files; there are: {', '.join(POLICIES)}",
                code="bad-policy",
                subject=self.policy,
            )
        changed = msgspec.structs.replace(container, guest_files=GuestFilesPolicy(self.policy))
        return Edited(host.with_container(changed), container.name)
