"""Bringing files to the disk, so that a power cut cannot take back what was answered."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(descriptor: int) -> None:
    """Write all that a file system holds in memory to its disk: files and names. Raises OSError.

    `descriptor` is of anything in it. Write errors since it was opened are reported (syncfs(2), since Linux 5.8), so
    open it before what is to be synced is written.
    """
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Bring the names in a directory to the disk: what came by rename, what is gone. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, *, mode: int) -> None:
    """Create a directory with its parents, all of them durable; an existing one is left alone. Raises OSError."""
    if path.is_dir():
        return
    make_directory(path.parent, mode=0o777)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
    sync_directory(path.parent)


def write_nothing_lasting(directory: Path) -> OSError | None:
    """Try whether a directory's file system takes what is written, by a file without a name; None: it does.

    Mount flags are not sufficient: a file system that went read-only after an error may have none.
    """
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return None if error.errno == errno.EOPNOTSUPP else error
    try:
        os.write(descriptor, bytes(4096))
        os.fsync(descriptor)
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Give a file this content, atomically: after a power cut it has the old or the new one. Raises OSError."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_file_in(directory, path.name, content, mode=mode)
    finally:
        os.close(directory)


def write_file_in(directory: int, name: str, content: bytes, *, mode: int = 0o600) -> None:
    """`write_file` in a directory that is open: also one that was renamed meanwhile. Raises OSError."""
    temporary = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, mode, dir_fd=directory)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
