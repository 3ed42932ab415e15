"""Whether the host comes up, is up or goes down, as far as containers are concerned; and the mark that says so on disk.

A shutdown leaves a mark, bound to the boot. While it stands nothing is started, and no end of a container changes
whether it is wanted. A mark that was lifted stays until what it had stopped was started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

import msgspec

from osctld.core.config.autostart import ShutdownMark
from osctld.core.errors import OsctlError, Unavailable
from osctld.daemon.disk import Disk
from osctld.shell import host_boot
from osctld.shell.host_boot import BootedHost

log = logging.getLogger("osctld")


class HostPhase:
    def __init__(self, booted: BootedHost, *, disk: Disk) -> None:
        #: Which boot of the host this is.
        self.boot = booted.identity
        self._noted = booted.noted
        self._disk = disk
        self._is_started = booted.started == booted.identity
        mark = booted.noted.read()
        self._mark = mark if mark is not None and mark.boot == booted.identity else None
        #: Set while everything has to be down; waiting starts notice it at once.
        self._goes_down = asyncio.Event()
        if self._mark is not None and not self._mark.is_lifted:
            self._goes_down.set()
        #: Those that a shutdown asked to stop, also after it was aborted.
        self._being_stopped: set[str] = set()
        self._is_daemon_ending = False

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Whether what is wanted is still to be started: since a boot, or a shutdown that was aborted."""
        return not self._is_started or self._mark is not None

    @property
    def has_started(self) -> bool:
        """Whether what each boot wants was wanted on this one."""
        return self._is_started

    @property
    def is_shutting_down(self) -> bool:
        return self._goes_down.is_set()

    @property
    def cause(self) -> str:
        """Of a shutdown: "host" if the whole host goes down, "command" if only containers do."""
        return self._mark.cause if self._mark is not None else "host"

    def keeps_wanted(self, name: str) -> bool:
        """Whether an end of this container says nothing about what is wanted."""
        return self.is_shutting_down or self._is_daemon_ending or name in self._being_stopped

    def refusal_to_start(self, name: str) -> OsctlError | None:
        """Why no container may be started now."""
        if not self.is_shutting_down:
            return None
        hint = "; osctl self shutdown --abort permits starts again" if self.cause == "command" else ""
        return Unavailable(f"{name!r}: not started: {self.describe()}{hint}", code="shutting-down", subject=name)

    def check_startable(self, name: str) -> None:
        """Raise Unavailable when no container may be started now."""
        refusal = self.refusal_to_start(name)
        if refusal is not None:
            raise refusal

    def describe(self) -> str:
        """The shutdown that is in progress or done, as text; empty if there is none."""
        if not self.is_shutting_down:
            return ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._mark.since if self._mark is not None else None))
        return (
            f"the host has been going down since {since}"
            if self.cause == "host"
            else f"all containers have been shut down since {since}"
        )

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until everything goes down."""
        if seconds:
            hearing = asyncio.ensure_future(self._goes_down.wait())
            await asyncio.wait({hearing}, timeout=seconds)
            hearing.cancel()

    # --- what becomes of it ---------------------------------------------------------------------------------------

    async def started(self) -> None:
        """What was wanted has been started: that is for the next daemon to know, too."""
        self._is_started = True
        if self._mark is not None:
            self._mark = None
            await self._disk.run(self._noted.remove)

    async def go_down(self) -> None:
        """Shut down from now on. Raises ApplyFailed when that cannot be kept, unless all of the host goes down."""
        before = self._mark
        was_shutting_down = self.is_shutting_down
        if before is None or not was_shutting_down:
            self._mark = ShutdownMark(self.boot, time.time(), "command")
        self._goes_down.set()  # before anything is waited for: what is refused from here on is not seen to be running
        is_host = await host_boot.is_going_down() is True
        if is_host and self._mark is not None:
            self._mark = msgspec.structs.replace(self._mark, cause="host")
        try:
            await self._disk.run(self._write_mark)
        except OsctlError as error:
            if not is_host:
                self._mark = before
                if not was_shutting_down:
                    self._goes_down.clear()
                raise
            log.error("%s; the shutdown continues", error.message)

    def _write_mark(self) -> None:
        if self._mark is not None:
            self._noted.write(self._mark)

    async def lift(self) -> bool:
        """Shut down no more; whether there was anything to lift. Raises ApplyFailed when that cannot be kept."""
        if not self.is_shutting_down or self._mark is None:
            return False
        lifted = msgspec.structs.replace(self._mark, is_lifted=True)
        await self._disk.run(lambda: self._noted.write(lifted))
        self._mark = lifted
        self._goes_down.clear()
        return True

    @contextlib.contextmanager
    def stopping(self, name: str) -> Iterator[None]:
        """While a shutdown stops this container."""
        self._being_stopped.add(name)
        try:
            yield
        finally:
            self._being_stopped.discard(name)

    def daemon_ends(self) -> None:
        """From now on ends of containers are for the next daemon to judge: the host may be going down with this one."""
        self._is_daemon_ending = True
