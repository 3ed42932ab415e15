"""Each container's document a second time, beside its root, and what is known of the host: for a store that is lost.

    STATE/ct/NAME/container.json   {"schema": N, "host": UUID, "container": DOCUMENT}
    STATE/host.json                {"schema": N, "host": UUID, "serial": N, "run": N}

The store counts. A mirror follows what was saved within about a second, off a command's way; each is whole and durable
when it is there. What a daemon that was killed had not written, the next one writes when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from osctld.shell.store.durable import write_file_in

log = logging.getLogger("osctld")

CONTAINER_FILE, HOST_FILE = "container.json", "host.json"

#: Seconds: so long changes are collected, and after a failure waited for the next try.
_DELAY, _RETRY = 1.0, 60.0


class HostFacts(msgspec.Struct, frozen=True):
    """`serial` counts the containers that the host ever had, `run` the runs of the daemon."""

    schema: int
    host: str
    serial: int
    run: int


class Mirrors:
    """Written by one thread. All but that thread's work is called in the event loop."""

    def __init__(self, state_dir: Path, *, facts: HostFacts) -> None:
        self._state = state_dir
        self._facts = facts
        self._is_host_stale = True
        self._stale: dict[str, bytes] = {}
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._has_failed = False

    @property
    def state_dir(self) -> Path:
        return self._state

    def note(self, container: str, document: bytes | None, *, host_serial: int) -> None:
        """A document was saved; None: its container is gone, and with it the mirror's directory."""
        if document is None:
            self._stale.pop(container, None)
        else:
            self._stale[container] = document
        if host_serial != self._facts.serial:
            self._facts = msgspec.structs.replace(self._facts, serial=host_serial)
            self._is_host_stale = True
        self._wake.set()

    def note_all(self, documents: Mapping[str, bytes], *, host: str, host_serial: int) -> None:
        """All may be different, the host too."""
        self._stale = dict(documents)
        self._facts = msgspec.structs.replace(self._facts, host=host, serial=host_serial)
        self._is_host_stale = True
        self._wake.set()

    async def run(self) -> None:
        """Write what is stale; runs until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_DELAY)
            if not await self.write():
                await asyncio.sleep(_RETRY)
                self._wake.set()

    async def write(self) -> bool:
        """Write what is stale now; whether all of it could be."""
        stale, self._stale = self._stale, {}
        work = self._write_all(stale, self._facts if self._is_host_stale else None)
        self._is_host_stale = False
        failed = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        for name, error in failed.items():
            if name == HOST_FILE:
                self._is_host_stale = True
            else:
                self._stale.setdefault(name, stale[name])
            if not self._has_failed:  # once, and not each minute for each container
                log.error("%s: document not copied beside its root directory: %s", name, error.strerror)
                self._has_failed = True
        self._has_failed = self._has_failed and bool(failed)
        return not failed

    async def settle(self) -> None:
        """Return when nothing is being written: a directory that was set aside may then be removed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def _write_all(self, documents: Mapping[str, bytes], facts: HostFacts | None) -> Callable[[], dict[str, OSError]]:
        schema, host = self._facts.schema, self._facts.host

        def work() -> dict[str, OSError]:
            failed = {}
            if facts is not None:
                try:
                    _write_if_different(self._state, HOST_FILE, msgspec.json.encode(facts))
                except OSError as error:
                    failed[HOST_FILE] = error
            for name, document in documents.items():
                try:
                    _write_if_different(self._state / "ct" / name, CONTAINER_FILE, encode(document, schema, host))
                except OSError as error:
                    failed[name] = error
            return failed

        return work


class Mirror(msgspec.Struct, frozen=True):
    """What was read: the document as it was saved, in the form of its schema."""

    schema: int
    host: str
    document: bytes


def encode(document: bytes, schema: int, host: str) -> bytes:
    return b'{"schema":%d,"host":%s,"container":%s}\n' % (schema, json.dumps(host).encode(), document)


class _Encoded(msgspec.Struct):
    schema: int
    host: str
    container: msgspec.Raw


def read_mirror(state_dir: Path, container: str) -> Mirror | None:
    """None when there is none. Raises OSError, or ValueError for one that makes no sense."""
    try:
        content = (state_dir / "ct" / container / CONTAINER_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        read = msgspec.json.decode(content, type=_Encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    return Mirror(read.schema, read.host, bytes(read.container))


def read_host_facts(state_dir: Path) -> HostFacts | None:
    """None when there are none, or when they make no sense."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode((state_dir / HOST_FILE).read_bytes(), type=HostFacts)
    return None


def mirrored(state_dir: Path) -> Iterable[str]:
    """The containers that have a mirror, by name."""
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(each.name for each in (state_dir / "ct").iterdir() if (each / CONTAINER_FILE).is_file())


def _write_if_different(directory: Path, name: str, content: bytes) -> None:
    """Nothing is written where there is no directory: it went with its container."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            present = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            with os.fdopen(present, "rb") as file:
                if file.read() == content:
                    return
        write_file_in(descriptor, name, content)
    finally:
        os.close(descriptor)
