"""Notes of changes that are under way: what each wants inside a guest, where nothing else says that it is ours.

A note is made before the change begins, goes with the save, and is taken back when nothing is left of a change that was
not saved. Until then it says to this daemon and to the next one what may be there and is to be cleared away.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

import msgspec

from osctld import config
from osctld.core.config.host import Container
from osctld.core.errors import OsctlError, Refused
from osctld.daemon.disk import Disk
from osctld.daemon.records import Kept
from osctld.sync.ports import PendingNotes

log = logging.getLogger("osctld")


class ChangeNotes:
    def __init__(self, pending: PendingNotes, disk: Disk, *, begun: Iterable[bytes] = ()) -> None:
        """`begun` are documents of changes that an earlier daemon noted and neither kept nor took back."""
        self._pending = pending
        self._disk = disk
        #: Containers in which a change that was not saved may have left something, as that change wanted them.
        self._unsettled: dict[str, Container] = {}
        #: Those of which a change could not be undone whole.
        self._left_behind: set[str] = set()
        for document in begun:
            with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError, Refused):
                unsettled = config.decode_container(document)
                self._unsettled[unsettled.name] = unsettled

    def begun(self, name: str) -> Container | None:
        """What a change of this container that was not saved wanted, and may have left there."""
        return self._unsettled.get(name)

    async def note(self, kept: Kept) -> None:
        """Remember what a change wants before it begins. Raises ApplyFailed when it cannot be kept."""
        assert kept.after is not None
        name = kept.after.name
        await self._disk.run(lambda: self._pending.note_pending(name, kept.document))
        self._unsettled[name] = kept.after

    def leave_behind(self, name: str) -> None:
        """Some of a change could not be undone: the note of it stays."""
        self._left_behind.add(name)

    async def forget(self, name: str) -> None:
        """The change was undone; its note goes unless something was left behind."""
        if name not in self._left_behind:
            await self.settle(name)

    def saved(self, name: str) -> None:
        """The change was saved, and with it went the note."""
        self._unsettled.pop(name, None)
        self._left_behind.discard(name)

    async def settle(self, name: str) -> None:
        """Nothing is left of changes of this container that were not saved."""
        self._left_behind.discard(name)
        if self._unsettled.pop(name, None) is not None:
            try:
                await self._disk.run(lambda: self._pending.forget_pending(name))
            except OsctlError as error:
                # It then names things that no longer exist as possible: the next daemon checks, and continues.
                log.error("%s: %s", name, error.message)
