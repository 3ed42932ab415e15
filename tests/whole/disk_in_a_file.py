"""A disk in a file, whose power can be cut: what had not reached it is lost.

    with Topology(start_daemon=False) as host:
        disk = Disk(tmp_path / "disk")
        disk.mount(host.state_dir)
        host.start_daemon()
        ...
        disk.cut_power(host)

An ext4 file system on a loop device. What it wrote is in the file; what it has only in memory is not, and a copy of the
file at that moment is what a disk holds after a power cut. It writes nothing by itself for minutes, and does not guess
which renamed files were meant to be synced (`noauto_da_alloc`), as other file systems do not.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from whole.host import Topology, run

#: Of the file system's own accord, nothing is committed for so many seconds; the kernel's write-back waits for 30 s.
_COMMIT_SECONDS = 300


def fill(place: Path) -> Path:
    """Leave no room in a file system, whoever else writes to it meanwhile. Returns the file that takes it all."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return filler


class Disk:
    """Not mounted at first. Leaving the `Topology` in whose directory it is mounted unmounts it."""

    def __init__(self, file: Path, *, megabytes: int = 48) -> None:
        self._file = file
        with file.open("wb") as new:
            new.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(file))

    def mount(self, place: Path) -> None:
        place.mkdir(exist_ok=True)
        # Errors are told to whoever writes, and end nothing else: as of a disk that gives some sectors up.
        options = f"loop,noauto_da_alloc,errors=continue,commit={_COMMIT_SECONDS}"
        run("mount", "-o", options, str(self._file), str(place))

    def cut_power(self, host: Topology) -> None:
        """The host loses its power at this moment, and comes up again with what had reached the disk."""
        copy = self._file.with_suffix(".copy")
        shutil.copyfile(self._file, copy)

        def come_back() -> None:
            copy.rename(self._file)
            self.mount(host.state_dir)

        host.reboot_host(meanwhile=come_back)
