"""Where root directories of containers are, and how they come and go as a whole.

    STATE/ct/NAME/rootfs             a container's root directory
    STATE/building/NAME/made/rootfs  one being made
    STATE/building/NAME/placed       says of ct/NAME that nobody may have recorded it yet
    STATE/trash/NAME                 one that was set aside to be deleted

A container's directory appears and vanishes by rename, so there is never half of one under its name. It is on disk
before its record is, and in its place or set aside until its record is gone; so whatever was cut off, by a crash or by
a power cut, the records say what is to become of what is found (`collect`):

    made, not placed                 removed
    placed, without a record         removed; with one, kept
    set aside, without a record      removed; with one, put back
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from osctld.core.errors import ApplyFailed, OsctlError
from osctld.shell.process.subprocesses import to_the_end
from osctld.shell.rootfs.archive import extract_archive
from osctld.shell.rootfs.busybox import build_busybox
from osctld.shell.rootfs.directory import remove_directory
from osctld.shell.store.durable import make_directory, sync_directory, sync_file_system

log = logging.getLogger("osctld")


class RootDirectories:
    """`collect` is to be called before all else: it makes the places, too."""

    def __init__(self, state_dir: Path) -> None:
        self._containers = state_dir / "ct"
        self._building = state_dir / "building"
        self._trash = state_dir / "trash"
        # One for all: a second sync beside the first would only wait for the same disk.
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")

    def path(self, container: str) -> str:
        return str(self._containers / container / "rootfs")

    async def build(self, container: str, *, archive: int | None) -> None:
        """Make a root directory from a tar archive, an open descriptor, or of the host's busybox; on disk when done.

        `keep` or `discard` it then. Raises Refused or Unavailable, and then nothing is left.
        """
        unfinished, place = self._building / container, self._containers / container
        await remove_directory(unfinished)
        descriptor = -1
        is_placed = False
        try:
            descriptor = os.open(self._building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            (unfinished / "made").mkdir(parents=True)
            await self.fill(unfinished / "made" / "rootfs", archive=archive)
            if place.exists():
                # Left by somebody's hand: not ours to delete.
                raise ApplyFailed(f"'{place}': already exists", code="root-exists", subject=container)
            (unfinished / "placed").touch(mode=0o600)
            os.rename(unfinished / "made", place)
            is_placed = True
            # All of it at once: a sync of each of its files takes ten times as long (docs/performance.md).
            await self._in_thread(lambda: sync_file_system(descriptor))
        except BaseException as error:
            await self._give_up(container, is_placed=is_placed)
            if isinstance(error, OSError):
                where = f": {error.filename}" if error.filename else ""
                raise ApplyFailed(f"{container!r}: {error.strerror}{where}", code="disk") from error
            raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    async def _give_up(self, container: str, *, is_placed: bool) -> None:
        """Remove what was begun; if the disk refuses that too, the first failure is the one reported."""
        try:
            await to_the_end(self.discard(container) if is_placed else remove_directory(self._building / container))
        except OsctlError as error:
            log.error("%s: leftovers stay until the next start: %s", container, error.message)

    async def fill(self, root: Path, *, archive: int | None) -> None:
        """Make a root directory, which does not exist yet."""
        if archive is None:
            await build_busybox(root)
        else:
            await extract_archive(archive, root)

    async def keep(self, container: str) -> None:
        """A directory that was built has a record. What cannot be tidied here, the next `collect` does."""
        with contextlib.suppress(OSError):
            (self._building / container / "placed").unlink()
            (self._building / container).rmdir()

    async def set_aside(self, container: str) -> None:
        """Take a container's directory out of its place, on disk too, to be removed or put back.

        Raises ApplyFailed when the disk says no; it is in its place then.
        """
        await remove_directory(self._trash / container)
        if (self._containers / container).exists():
            await self._move(self._containers / container, self._trash / container)

    async def put_back(self, container: str) -> None:
        if (self._trash / container).exists():
            await self._move(self._trash / container, self._containers / container)

    async def remove(self, container: str) -> None:
        """Remove what was set aside; nothing there is as good."""
        await remove_directory(self._trash / container)

    async def discard(self, container: str) -> None:
        """Remove a directory that was built and is not wanted after all."""
        await self.set_aside(container)
        await self.remove(container)
        await remove_directory(self._building / container)

    async def collect(self, recorded: Collection[str]) -> None:
        """Finish what a crash cut off, or take it back: `recorded` are the containers that there are records of.

        Raises ApplyFailed when the disk says no.
        """
        for directory in (self._containers, self._building, self._trash):
            try:
                make_directory(directory, mode=0o700)
            except OSError as error:
                raise ApplyFailed(f"'{directory}': cannot be created: {error.strerror}", code="disk") from error
        for name in _names_in(self._trash):
            if name in recorded and not (self._containers / name).exists():
                await self.put_back(name)
        for name in _names_in(self._building):
            is_placed = (self._building / name / "placed").exists() and not (self._building / name / "made").exists()
            if is_placed and name not in recorded:
                await self.discard(name)
        for directory in (self._building, self._trash):
            for name in _names_in(directory):
                await remove_directory(directory / name)

    async def _move(self, there: Path, here: Path) -> None:
        """Rename a directory, and bring that to the disk. Raises ApplyFailed, and then it was not."""
        try:
            os.rename(there, here)
            try:
                await to_the_end(self._in_thread(lambda: _sync_all((here.parent, there.parent))))
            except OSError:
                with contextlib.suppress(OSError):
                    os.rename(here, there)
                raise
        except OSError as error:
            raise ApplyFailed(f"'{there}': not moved to '{here}': {error.strerror}", code="disk") from error

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._syncing, work)


def _names_in(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def _sync_all(directories: tuple[Path, ...]) -> None:
    for each in directories:
        sync_directory(each)
