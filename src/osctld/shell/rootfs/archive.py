"""A guest's root directory extracted from an archive."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from asyncio.subprocess import DEVNULL, PIPE, Process
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from osctld.core.errors import Refused, Unavailable
from osctld.core.health.programs import missing
from osctld.shell.process.subprocesses import execute, is_installed, kill, last_line, to_the_end
from osctld.shell.rootfs.directory import NewDirectory

#: The magic bytes of compressed archives, and the program that reads each; tar's option has its name.
_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_LONGEST_MAGIC = 6


async def extract_archive(descriptor: int, directory: str | os.PathLike[str], *, timeout_seconds: float = 1800) -> None:
    """Extract a tar archive into a new or empty directory: owners by number, extended attributes, device nodes.

    `descriptor` is a file or a pipe and stays the caller's. Compression (gzip, zstd, xz, bzip2) is told by the first
    bytes. Absolute names and `..` stay inside the directory or are refused, and so are members that would be written
    through a link leading outside. Raises Refused with tar's last line for a bad archive, Unavailable when it takes
    too long or a program is missing; nothing is left then.
    """
    target = Path(directory)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    head, is_file = await _read_head(descriptor, timeout_seconds=timeout_seconds)
    if not head:
        raise Refused("the archive is empty")
    compression = tuple(program for magic, program in _COMPRESSIONS if head.startswith(magic))
    for program in compression:
        if not is_installed(program):  # tar would say that its child died
            raise missing(program, why=f"the archive is compressed with {program}")
    with NewDirectory(target) as made:
        pump: Process | None = None
        tar: Process | None = None
        source = descriptor
        try:
            if not is_file:
                pump, source = await _pump(head, descriptor)
            tar = await execute(
                "tar", "--extract", "--file=-", *(f"--{each}" for each in compression), f"--directory={target}",
                "--numeric-owner", "--same-owner", "--same-permissions", "--delay-directory-restore",
                "--no-overwrite-dir", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability",
                "--acls",
                stdin=source, stdout=DEVNULL, stderr=PIPE, cwd="/", start_new_session=True,
            )  # fmt: skip
            if pump is not None:
                os.close(source)
                source = -1
            async with asyncio.timeout_at(deadline):
                complaint = await last_line(tar)
                status = await tar.wait()
            if status != 0:
                raise Refused(f"bad archive: {complaint or f'tar ended with status {status}'}")
            target.chmod(0o755 | (target.stat().st_mode & 0o7777))
        except TimeoutError as error:
            raise Unavailable(f"the archive was not extracted within {timeout_seconds:g} s") from error
        finally:
            if pump is not None and source >= 0:
                os.close(source)
            for process in (tar, pump):
                if process is not None:
                    await to_the_end(kill(process))
        made.keep()


async def _read_head(descriptor: int, *, timeout_seconds: float) -> tuple[bytes, bool]:
    """Return the first bytes of an archive, and whether they can be read again."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            return await asyncio.to_thread(os.pread, descriptor, _LONGEST_MAGIC, position), True
        wake, waker = os.pipe()
    except OSError as error:
        raise Refused(f"the archive cannot be read: {error.strerror}") from error

    # In a thread, so that the caller's descriptor neither joins the event loop nor becomes non-blocking; and in one of
    # its own, because the few that all share would not be there for starts while silent pipes are waited for.
    def read() -> bytes:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(wake, select.POLLHUP)
        head = b""
        while len(head) < _LONGEST_MAGIC:
            events = poll.poll(timeout_seconds * 1000)
            if not events:
                raise Unavailable(f"no data of the archive arrived within {timeout_seconds:g} s")
            if any(ready == wake for ready, _ in events):
                break
            chunk = os.read(descriptor, _LONGEST_MAGIC - len(head))
            if not chunk:
                break
            head += chunk
        return head

    thread = ThreadPoolExecutor(1, thread_name_prefix="archive")
    reading = asyncio.get_running_loop().run_in_executor(thread, read)
    try:
        return await asyncio.shield(reading), False
    except OSError as error:
        raise Refused(f"the archive cannot be read: {error.strerror}") from error
    finally:
        os.close(waker)
        await to_the_end(asyncio.wait([reading]))
        thread.shutdown(wait=False)
        os.close(wake)


async def _pump(head: bytes, descriptor: int) -> tuple[Process, int]:
    """Start a process that writes the head and then the rest of a descriptor to a pipe; return the pipe's end."""
    head_end, head_source = os.pipe()
    pipe_end, pipe_source = os.pipe()
    try:
        os.write(head_source, head)
        os.close(head_source)
        head_source = -1
        process = await execute(
            "cat", f"/proc/self/fd/{head_end}", "-",
            stdin=descriptor, stdout=pipe_source, stderr=DEVNULL, pass_fds=(head_end,), cwd="/",
            start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(pipe_end)
        raise
    finally:
        for end in (head_end, head_source, pipe_source):
            if end >= 0:
                os.close(end)
    return process, pipe_end
