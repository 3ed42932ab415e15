"""Create a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import ActCommand, Action, Argument, CreateContainer, Edited, Example, Option
from osctld.core.config.host import POOL, Host
from osctld.core.errors import Refused

#: Distributions that need no archive: built from what the host has.
BUILT_HERE = "busybox"


class CtNew(ActCommand, frozen=True, kw_only=True):
    """Create a container, stopped and without interfaces.

    Its root directory is built from the host's static busybox, or extracted from a tar archive.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "new")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct new --distribution busybox web", "Create a small container from the host's busybox"),
        Example(
            "osctl ct new --from-archive rootfs.tar --distribution debian --version 12 db",
            "Create a container from an archive",
        ),
    )

    container: Annotated[str, Argument("Name of the new container", metavar="ct")]
    distribution: Annotated[
        str | None,
        Option(("--distribution",), "NAME", "busybox, or the distribution in the archive", keywords=("busybox",)),
    ] = None
    version: Annotated[str, Option(("--version",), "VERSION", "Version of the distribution")] = "stable"
    from_archive: Annotated[
        str | None,
        Option(("--from-archive",), "FILE", "Tar archive of a root directory, compressed or not", is_file=True),
    ] = None
    user: Annotated[
        str | None,
        Option(("--user",), "NAME", "Share this user's id range; by default each container has its own"),
    ] = None

    def act(self, host: Host) -> Action:
        if self.distribution is None and self.from_archive is None:
            raise Refused(
                f"{self.container!r}: provide either --distribution or --from-archive",
                code="no-root",
                subject=self.container,
            )
        if self.from_archive is None and self.distribution != BUILT_HERE:
            raise Refused(
                f"{self.distribution!r}: cannot be built, only {BUILT_HERE} can; for others use --from-archive FILE",
                code="unknown-distribution",
                subject=self.distribution or "",
            )
        distribution = self.distribution or "unknown"
        changed = host.with_new_container(
            self.container, user=self.user, distribution=distribution, version=self.version
        )
        edited = Edited(changed, self.container.removeprefix(f"{POOL}:"))
        return CreateContainer(edited, distribution, self.from_archive)
