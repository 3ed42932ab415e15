"""Configuration files below a guest's root directory: found, read within limits, and replaced.

The tenant made what is there, and may change it at any moment. Nothing outside the root directory is reached; no
symbolic link is followed to what is read as a configuration file, or written; and nothing is opened that could block or
do something by being opened, because what a path leads to is looked at first (O_PATH).
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from osctld.core.errors import ApplyFailed
from osctld.core.root_files import FileChange, FoundFile
from osctld.shell.rootfs.guest_root import open_in_root

#: Bytes of one file, and of all that are read of one guest.
LARGEST_FILE = 4 << 20
MOST_BYTES = 16 << 20
#: So many names of a directory are looked at, and so many files read of those that fit.
MOST_NAMES = 10_000
MOST_FILES = 200
_LARGEST_OS_RELEASE = 64 << 10
_OS_RELEASES = ("/etc/os-release", "/usr/lib/os-release")


class RootFiles:
    """The files below one root directory. Its methods block, but only as long as the disk does."""

    def __init__(self, container: str, root_directory: str) -> None:
        """Raises ApplyFailed when there is no such directory."""
        self._container = container
        self._bytes_left = MOST_BYTES
        try:
            self._root = os.open(root_directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ApplyFailed(
                f"'{container}': root directory '{root_directory}' cannot be opened: {error.strerror}",
                code="root",
                subject=container,
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    # --- look -----------------------------------------------------------------------------------------------------

    def programs(self, paths: Iterable[str]) -> dict[str, str]:
        """Those paths that lead to something inside, each with the name of what it leads to."""
        found = {}
        for path in paths:
            with contextlib.suppress(OSError), _closing(open_in_root(self._root, path, os.O_PATH)) as descriptor:
                found[path] = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]
        return found

    def os_release(self) -> str:
        """The text of os-release(5), links followed; empty if there is none that could be one."""
        for path in _OS_RELEASES:
            with contextlib.suppress(OSError), _closing(open_in_root(self._root, path, os.O_PATH)) as descriptor:
                about = os.fstat(descriptor)
                if stat.S_ISREG(about.st_mode) and about.st_size <= _LARGEST_OS_RELEASE:
                    return _content(descriptor, _LARGEST_OS_RELEASE).decode(errors="replace")
        return ""

    def read(self, patterns: Iterable[str]) -> dict[str, FoundFile]:
        """Read files by absolute paths, whose last parts may be patterns. What is not there is left out.

        What is no regular file, or too large, is found without a text.
        """
        found: dict[str, FoundFile] = {}
        for pattern in sorted(patterns):
            directory, _, name = pattern.rpartition("/")
            with (
                contextlib.suppress(OSError),
                _closing(self._open(directory or "/", os.O_RDONLY | os.O_DIRECTORY)) as descriptor,
            ):
                for each in _names(descriptor, name):
                    path = f"{directory}/{each}"
                    if path not in found and (file := self._read(descriptor, each)) is not None:
                        found[path] = file
        return found

    def _read(self, directory: int, name: str) -> FoundFile | None:
        try:
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return None
        with _closing(descriptor):
            about = os.fstat(descriptor)
            mode = stat.S_IMODE(about.st_mode) & 0o777
            if stat.S_ISLNK(about.st_mode):
                return FoundFile(None, why_left="is a symbolic link")
            if not stat.S_ISREG(about.st_mode):
                return FoundFile(None, why_left="is not a regular file")
            if about.st_size > LARGEST_FILE:
                return FoundFile(None, mode, f"is larger than {LARGEST_FILE >> 20} MiB")
            if about.st_size > self._bytes_left:
                return FoundFile(None, mode, f"is left unread, all together have more than {MOST_BYTES >> 20} MiB")
            try:
                content = _content(descriptor, LARGEST_FILE)
            except OSError as error:
                return FoundFile(None, mode, f"cannot be read: {error.strerror}")
            self._bytes_left -= len(content)
            return FoundFile(content.decode(errors="surrogateescape"), mode)

    # --- change ---------------------------------------------------------------------------------------------------

    def apply(self, change: FileChange) -> None:
        """Replace a file as a whole, or remove it.

        Raises ApplyFailed, and then it is as it was: also if it is no longer as it was when the change was planned.
        """
        directory, _, name = change.path.rpartition("/")
        try:
            with _closing(self._directory(directory, makes=change.after is not None)) as descriptor:
                there = self._read(descriptor, name)
                if (there.text if there is not None else None) != change.before or (there and there.text is None):
                    raise ApplyFailed(
                        f"'{self._container}': '{change.path}' was changed inside meanwhile",
                        code="changed-inside",
                        subject=self._container,
                    )
                if change.after is None:
                    os.unlink(name, dir_fd=descriptor)
                else:
                    content = change.after.encode(errors="surrogateescape")
                    _replace(descriptor, name, content, mode=change.mode)
        except OSError as error:
            raise ApplyFailed(
                f"'{self._container}': '{change.path}' cannot be written: {error.strerror}",
                code="guest-file",
                subject=self._container,
            ) from error

    def _directory(self, path: str, *, makes: bool) -> int:
        """Open a directory; with `makes`, one that is not there is made, with those above it. Raises OSError."""
        try:
            return self._open(path or "/", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if not makes or not path:
                raise
        above, _, name = path.rpartition("/")
        with _closing(self._directory(above, makes=True)) as descriptor:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=descriptor)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            os.fchmod(made, 0o755)  # whatever the umask
        except OSError:
            os.close(made)
            raise
        return made

    def _open(self, path: str, flags: int) -> int:
        return open_in_root(self._root, path, flags, follows_links=False)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(directory: int, pattern: str) -> list[str]:
    if not set(pattern) & set("*?["):
        return [pattern]
    found: list[str] = []
    with os.scandir(directory) as entries:
        for count, each in enumerate(entries):
            if count == MOST_NAMES or len(found) == MOST_FILES:
                break
            if fnmatch.fnmatchcase(each.name, pattern) and not each.name.startswith("."):
                found.append(each.name)
    return sorted(found)


def _content(descriptor: int, limit: int) -> bytes:
    """The content of a regular file that is open as a path. Raises OSError, also when it has become too large."""
    with open(f"/proc/self/fd/{descriptor}", "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return content


def _replace(directory: int, name: str, content: bytes, *, mode: int) -> None:
    """Give a file another content, whoever looks: it has the old one or the new one. Its owner stays."""
    temporary = f".{name}.osctl"  # begins with a dot: no tool reads it, and one that was left by a crash is known
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    try:
        about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        owner = about.st_uid, about.st_gid
    except FileNotFoundError:
        owner = 0, 0  # the guest's root, as files are owned on disk
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)  # whatever the umask
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
