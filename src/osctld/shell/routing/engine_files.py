"""Files of a routing daemon: its own configuration is read, the file that it includes is written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from osctld.core.errors import ApplyFailed, Unavailable

#: Bytes of a configuration at most: more is a mistake.
_LARGEST = 16 << 20


def read_configuration(path: str) -> str:
    """Raises Unavailable when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST).decode(errors="surrogateescape")
    except OSError as error:
        raise Unavailable(f"'{path}': {error.strerror}", code="router-files", subject=path) from error


def read_if_there(path: str) -> str | None:
    """The text of a file; None if there is none. Raises Unavailable when it cannot be read."""
    return read_configuration(path) if os.path.lexists(path) else None


def read_password(path: str) -> str:
    """The first line of a file that only its owner can read. Raises Unavailable."""
    try:
        # Something else than a file, such as a pipe without a writer, would hold up everybody.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise Unavailable(f"'{path}': is not a regular file", code="router-files", subject=path)
            if about.st_mode & 0o077:
                raise Unavailable(
                    f"'{path}': others than its owner may read it; chmod 600 {path}", code="router-files", subject=path
                )
            return file.readline(4096).decode(errors="replace").rstrip("\r\n")
    except OSError as error:
        raise Unavailable(f"'{path}': {error.strerror}", code="router-files", subject=path) from error


def write_included(path: str, text: str, *, like: str) -> None:
    """Write a file, whole or not at all, that may be read by who may read the file `like`. Raises ApplyFailed."""
    folder = Path(path).parent
    temporary = folder / f".{Path(path).name}.{secrets.token_hex(4)}"
    try:
        about = os.stat(like)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode(errors="surrogateescape"))
                file.flush()
                os.fchown(file.fileno(), about.st_uid, about.st_gid)
                os.fchmod(file.fileno(), 0o640)
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise _failed(path, "written", error) from error


def remove_if_there(path: str) -> None:
    """Raises ApplyFailed."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise _failed(path, "removed", error) from error


def _failed(path: str, what: str, error: OSError) -> ApplyFailed:
    return ApplyFailed(f"'{path}': cannot be {what}: {error.strerror}", code="router-files", subject=path)
