"""Directories in which guests' roots are made, and their removal."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Self

from osctld.core.errors import ApplyFailed, Refused
from osctld.shell.process.subprocesses import execute, kill, last_line, to_the_end
from osctld.shell.rootfs import idmapped_mount


class NewDirectory:
    """A directory that is emptied and removed again unless it is kept."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._kept = False

    def keep(self) -> None:
        self._kept = True

    def __enter__(self) -> Self:
        try:
            self._target.mkdir(mode=0o755)
        except FileExistsError as error:
            if not self._target.is_dir() or any(self._target.iterdir()):
                raise Refused(f"'{self._target}': not empty", subject=str(self._target)) from error
        except OSError as error:
            raise ApplyFailed(
                f"'{self._target}': directory cannot be created: {error.strerror}", subject=str(self._target)
            ) from error
        self._target.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            shutil.rmtree(self._target, ignore_errors=True)  # goes by descriptors, follows no links


async def remove_directory(path: str | os.PathLike[str], *, timeout_seconds: float = 600) -> None:
    """Remove a directory with all below it, following no symbolic links; nothing happens when there is none.

    Raises Refused while something is mounted at or below it, ApplyFailed with the reason otherwise.
    """
    target = os.fspath(path)
    if not os.path.isabs(target) or os.path.realpath(target) == "/":
        raise Refused(f"'{target}': not a directory that can be removed", subject=target)
    if not os.path.lexists(target):
        return
    if mounted := await asyncio.to_thread(idmapped_mount.mount_points_below, target):
        raise Refused(f"'{target}': not removed, '{mounted[0]}' is mounted", subject=target)
    process = await execute(
        "rm", "--recursive", "--force", "--one-file-system", "--", target,
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, cwd="/", start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_seconds):
            reason = await last_line(process)
            status = await process.wait()
    except TimeoutError as error:
        raise ApplyFailed(f"'{target}': not removed within {timeout_seconds:g} s", subject=target) from error
    finally:
        await to_the_end(kill(process))
    if status != 0:
        raise ApplyFailed(f"'{target}': not removed: {reason}", subject=target)
