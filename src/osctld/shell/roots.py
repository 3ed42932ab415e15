"""Where root directories of containers are, and how they come and go as a whole.

    STATE/ct/NAME/rootfs    a container's root directory
    STATE/building/NAME     one being made; a crash leaves it here
    STATE/trash/NAME        one being deleted; a crash leaves it here

A container's directory appears and vanishes by rename, so there is never half of one under its name.
"""

from __future__ import annotations

import os
from pathlib import Path

from osctld.core.errors import ApplyFailed
from osctld.shell.rootfs_archive import extract_archive
from osctld.shell.rootfs_busybox import build_busybox
from osctld.shell.rootfs_directory import remove_directory


class RootDirectories:
    def __init__(self, state_dir: Path) -> None:
        self._containers = state_dir / "ct"
        self._building = state_dir / "building"
        self._trash = state_dir / "trash"

    def path(self, container: str) -> str:
        return str(self._containers / container / "rootfs")

    async def build(self, container: str, *, archive: int | None) -> None:
        """Make a root directory from a tar archive, an open descriptor, or of the host's busybox.

        Raises Refused or Unavailable, in words, and then nothing is left.
        """
        for directory in (self._containers, self._building):
            directory.mkdir(mode=0o700, exist_ok=True)
        unfinished, place = self._building / container, self._containers / container
        await remove_directory(unfinished)
        try:
            root = unfinished / "rootfs"
            unfinished.mkdir()
            if archive is None:
                await build_busybox(root)
            else:
                await extract_archive(archive, root)
            if place.exists():
                # Left by a crash after the container was forgotten, or by somebody's hand: not ours to delete.
                raise ApplyFailed(f"{place} exists already", code="root-exists", subject=container)
            os.rename(unfinished, place)
        except OSError as error:
            await remove_directory(unfinished)
            raise ApplyFailed(f"{container!r}: {error.strerror}: {error.filename}", code="disk") from error
        except BaseException:
            await remove_directory(unfinished)
            raise

    async def set_aside(self, container: str) -> None:
        """Take a container's directory out of its place, to be removed or put back."""
        self._trash.mkdir(mode=0o700, exist_ok=True)
        await remove_directory(self._trash / container)
        if (self._containers / container).exists():
            os.rename(self._containers / container, self._trash / container)

    async def put_back(self, container: str) -> None:
        if (self._trash / container).exists():
            os.rename(self._trash / container, self._containers / container)

    async def remove(self, container: str) -> None:
        """Remove what was set aside; nothing there is as good."""
        await remove_directory(self._trash / container)

    async def discard(self, container: str) -> None:
        """Remove a directory that was built and is not wanted after all."""
        await self.set_aside(container)
        await self.remove(container)

    async def collect(self) -> None:
        """Remove what a crash left half built or half deleted."""
        for directory in (self._building, self._trash):
            if directory.exists():
                for leftover in sorted(directory.iterdir()):
                    await remove_directory(leftover)
