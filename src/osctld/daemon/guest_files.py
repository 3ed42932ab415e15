"""The configuration files of the guests' own network tools: looked at, written before each start and after changes.

They follow from the configuration and from what is found in a root directory at that moment, so they are no part of a
change that is saved: what could not be written fails no command, is reported as an event, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from osctld.core import command as commands
from osctld.core.config.guest_side import GuestFilesPolicy, GuestInterface
from osctld.core.config.host import POOL, Container
from osctld.core.errors import ApplyFailed, OsctlError, Refused
from osctld.core.root_files import FileChange, FoundFiles
from osctld.daemon.records import Records
from osctld.guest.plan import GuestFilesPlan, asked_files, asked_programs, plan_guest_files
from osctld.lifecycle.lives import Lives
from osctld.shell.rootfs.root_files import RootFiles
from osctld.sync.host import HostSync

log = logging.getLogger("osctld")

#: Files include others, which include others: so many steps are followed.
DEPTH = 5
#: Seconds in which further changes of a container are awaited: a tool that reads its files again must not find those of
#: a change before the last one.
GATHERED_SECONDS = 0.3
#: Seconds that a start waits for them, at most: a disk may hang.
LONGEST_WAIT = 10.0
#: Seconds that a tool may take to read its files again.
LONGEST_RELOAD = 20.0
#: Seconds until what failed is tried again, each time; after that, at the next start or change.
RETRIES = (60.0, 600.0, 3600.0)
#: How often a file is planned again that the tenant changed meanwhile.
ATTEMPTS = 3


class Outcome(msgspec.Struct, frozen=True):
    """What became of a plan: which files were written, and which failed, with the reasons."""

    plan: GuestFilesPlan
    written: tuple[FileChange, ...] = ()
    failed: tuple[OsctlError, ...] = ()


class GuestFiles:
    def __init__(
        self,
        *,
        root_of: Callable[[str], str],
        records: Records,
        host: HostSync,
        lives: Lives,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`root_of` says where a container's root directory is; `tell` takes an event, its type and opts."""
        self._root_of = root_of
        self._records = records
        self._host = host
        self._lives = lives
        self._tell = tell
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        #: One for each container: its files are changed by one at a time.
        self._locks: dict[str, asyncio.Lock] = {}
        #: What was reported for each container, so that it is reported once.
        self._told: dict[str, Mapping[str, list[str]]] = {}
        #: How often what failed was tried.
        self._tries: dict[str, int] = {}

    @property
    def failed(self) -> Mapping[str, list[str]]:
        """Why files could not be written, by container."""
        return {name: why for name, told in self._told.items() if (why := told["failed"])}

    # --- when -----------------------------------------------------------------------------------------------------

    def note(self, before: Container, after: Container) -> None:
        """Something else is wanted: see to the files, if that concerns them and they are not written at start."""
        if _concerns(before, after, is_running=self._lives.is_configured(after.name)):
            self._tries.pop(after.name, None)
            self._note(after.name)

    def _note(self, name: str) -> None:
        self._waiting[name] = None
        self._wake.set()

    async def run(self) -> None:
        """See to what was noted; at first to all that run, because the last daemon may have died before it had.

        Runs until cancelled.
        """
        for name in self._lives:
            self._note(name)
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHERED_SECONDS)
            while self._waiting:
                name = next(iter(self._waiting))
                del self._waiting[name]
                await self._settle(name)

    async def before_start(self, name: str) -> None:
        """See to the files before the guest's first process reads them. A failure does not hinder the start."""
        self._tries.pop(name, None)
        settling = asyncio.ensure_future(self._settle(name))
        done, _ = await asyncio.wait({settling}, timeout=LONGEST_WAIT)
        if not done:
            log.error("%s: files of its network tool are not written after %.0f s; starting", name, LONGEST_WAIT)

    async def before_new_interface(self, after: Container) -> None:
        """Have tools inside leave an interface alone that a change is about to add to a running container.

        They would take over a new link at once. Others, which configure it, must not do so before the host does, and
        get their files after the change. A failure does not hinder the change; `look_again` if it is not made after
        all.
        """
        name = after.name
        if after.guest_files is not GuestFilesPolicy.WRITE or self._lives.state(name) != "running":
            return

        async def write() -> None:
            async with self._locks.setdefault(name, asyncio.Lock()):
                await self._write(after, self._wanted(after), only_keeps_off=True)

        writing = asyncio.ensure_future(write())
        done, _ = await asyncio.wait({writing}, timeout=LONGEST_WAIT)
        for each in done:
            error = each.exception()
            if error is not None and not isinstance(error, OsctlError):
                raise error

    def look_again(self, name: str) -> None:
        """The files may be those of a change that was not made."""
        self._note(name)

    async def forget(self, name: str) -> None:
        """A container was deleted: return when nothing is being written any longer below its root directory."""
        self._waiting.pop(name, None)
        async with self._locks.setdefault(name, asyncio.Lock()):
            pass
        for each in (self._locks, self._told, self._tries):
            each.pop(name, None)

    # --- what -----------------------------------------------------------------------------------------------------

    async def _settle(self, name: str) -> None:
        """Bring the files of one container to what its policy says, and tell what is not so. Raises nothing."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            container = self._records.host.containers.get(name)
            if container is None:
                return
            try:
                if container.guest_files is GuestFilesPolicy.REPORT:
                    outcome = Outcome(await self.plan(container))
                    self._tell_about(name, outcome, differ=[each.path for each in outcome.plan.changes])
                    return
                outcome = await self._write(container, self._wanted(container))
                self._tell_about(name, outcome)
            except OsctlError as error:
                outcome = Outcome(GuestFilesPlan(), failed=(error,))
                self._tell_about(name, outcome)
        if outcome.failed:
            self._try_again(name)
        else:
            self._tries.pop(name, None)

    def _try_again(self, name: str) -> None:
        tries = self._tries[name] = self._tries.get(name, 0) + 1
        if tries <= len(RETRIES):
            asyncio.get_running_loop().call_later(RETRIES[tries - 1], self._note, name)

    def _wanted(self, container: Container) -> tuple[GuestInterface, ...]:
        return () if container.guest_files is GuestFilesPolicy.OFF else self._host.inside(container)

    async def plan(self, container: Container) -> GuestFilesPlan:
        """What its policy would change now. Raises ApplyFailed without a root directory."""
        return await self._plan(container, self._wanted(container))

    async def _plan(
        self, container: Container, wanted: tuple[GuestInterface, ...], *, only_keeps_off: bool = False
    ) -> GuestFilesPlan:
        root = self._root_of(container.name)
        return await asyncio.shield(
            asyncio.to_thread(_plan, container.name, root, wanted, only_keeps_off=only_keeps_off)
        )

    async def _write(
        self, container: Container, wanted: tuple[GuestInterface, ...], *, only_keeps_off: bool = False
    ) -> Outcome:
        for attempt in range(ATTEMPTS):
            plan = await self._plan(container, wanted, only_keeps_off=only_keeps_off)
            outcome = await asyncio.shield(
                asyncio.to_thread(_apply, container.name, self._root_of(container.name), plan)
            )
            is_last = attempt == ATTEMPTS - 1
            if is_last or not any(each.code == "changed-inside" for each in outcome.failed):
                break
        if outcome.written and container.name not in self._waiting:  # else they are about to be written again
            await self._reload(container.name, plan)
        return outcome

    async def _reload(self, name: str, plan: GuestFilesPlan) -> None:
        """Have the tools that run inside read their files again."""
        current = self._lives.get(name)
        if current is None or current.life is None or current.state != "running":
            return
        for each in plan.reloads:
            nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            status: int | str
            try:
                async with asyncio.timeout(LONGEST_RELOAD):
                    status = await current.life.execute(
                        ("/bin/sh", "-c", each), stdin=nothing, stdout=nothing, stderr=nothing, terminal_type="",
                        signals=_NoSignals(),
                    )  # fmt: skip
            except TimeoutError:
                status = f"no answer in {LONGEST_RELOAD:.0f} s"
            except OsctlError as error:
                status = error.message
            finally:
                os.close(nothing)
            if status != 0 and self._lives.state(name) == "running":
                self._tell("guest_files", {"pool": POOL, "id": name, "action": "not-reloaded", "why": [str(status)]})
                log.warning("%s: a network tool has not read its files again: %s", name, status)

    # --- telling --------------------------------------------------------------------------------------------------

    def _tell_about(self, name: str, outcome: Outcome, *, differ: Iterable[str] = ()) -> None:
        if outcome.written:
            paths = [each.path for each in outcome.written]
            self._tell("guest_files", {"pool": POOL, "id": name, "action": "written", "files": paths})
            log.info("%s: written inside: %s", name, ", ".join(paths))
        unknown = outcome.plan.unknown
        now = {
            "failed": [each.message for each in outcome.failed],
            "left": [*outcome.plan.left],
            "differ": [*differ],
            "unknown": [f"no known network tool found in {unknown}"] if unknown else [],
        }
        before = self._told.get(name, {})
        for action, why in now.items():
            if why and why != before.get(action):
                self._tell("guest_files", {"pool": POOL, "id": name, "action": action, "why": why})
                for each in why:
                    log.warning("%s: files of its network tool: %s: %s", name, action, each)
        self._told[name] = now

    # --- for people -----------------------------------------------------------------------------------------------

    async def lines(self, before: Container, after: Container, *, is_running: bool) -> tuple[str, ...]:
        """What a change would do to the files, as a dry run says it."""
        if after.guest_files is GuestFilesPolicy.REPORT or not _concerns(before, after, is_running=is_running):
            return ()
        return await self._lines(after, self._wanted(after))

    async def lines_of_start(self, container: Container) -> tuple[str, ...]:
        """The same of a start."""
        is_reported = container.guest_files is GuestFilesPolicy.REPORT
        return () if is_reported else await self._lines(container, self._wanted(container))

    async def _lines(self, container: Container, wanted: tuple[GuestInterface, ...]) -> tuple[str, ...]:
        try:
            plan = await self._plan(container, wanted)
        except ApplyFailed:
            return ()  # without a root directory there are no files
        return tuple(f"# {container.name}: {line}" for line in _diff(plan))

    async def perform(self, action: commands.GuestFilesAction) -> commands.Reply:
        """Raises Refused, and ApplyFailed for what could not be written."""
        container = self._records.host.container(action.container)
        if isinstance(action, commands.ShowGuestFiles):
            plan = await self._plan(container, self._host.inside(container))
            return commands.Text((*_diff(plan), *(f"# left as it is: {each}" for each in plan.left), *_unknown(plan)))
        wanted = self._asked(action, container)
        async with self._locks.setdefault(container.name, asyncio.Lock()):
            outcome = await self._write(container, wanted)
            self._tell_about(container.name, outcome)
        if outcome.failed:
            raise outcome.failed[0]
        lines = [f"{'removed' if each.after is None else 'written'}: {each.path}" for each in outcome.written]
        left = [f"left as it is: {each}" for each in outcome.plan.left]
        return commands.Text((*lines, *left, *_unknown(outcome.plan)), changed=bool(lines))

    async def rehearse(self, action: commands.GuestFilesAction) -> tuple[str, ...]:
        container = self._records.host.container(action.container)
        return await self._lines(container, self._asked(action, container))

    def _asked(self, action: commands.GuestFilesAction, container: Container) -> tuple[GuestInterface, ...]:
        """For which interfaces files should be there. Raises Refused where the policy says something else."""
        name, policy = container.name, container.guest_files
        if isinstance(action, commands.RestoreGuestFiles):
            if policy is GuestFilesPolicy.WRITE:
                raise Refused(
                    f"{name!r}: its files would be written again; first: osctl ct set guest-files {name} report",
                    code="guest-files-policy",
                    subject=name,
                )
            return ()
        if policy is GuestFilesPolicy.OFF:
            raise Refused(
                f"{name!r}: guest-files is off; first: osctl ct set guest-files {name} report",
                code="guest-files-policy",
                subject=name,
            )
        return self._host.inside(container)


class _NoSignals:
    """A source of none."""

    async def next_signal(self) -> int:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def may_stop(self) -> None:
        pass


def _concerns(before: Container, after: Container, *, is_running: bool) -> bool:
    """Whether a change is to be seen in the files before the next start."""
    if before.guest_files is not after.guest_files:
        return is_running or after.guest_files is GuestFilesPolicy.OFF
    return is_running and before.interfaces != after.interfaces


def _diff(plan: GuestFilesPlan) -> Iterable[str]:
    return [line for each in plan.changes for line in each.lines()]


def _unknown(plan: GuestFilesPlan) -> tuple[str, ...]:
    return (f"# no known network tool found in {plan.unknown}",) if plan.unknown else ()


# --- in a thread ----------------------------------------------------------------------------------------------------


def _plan(name: str, root: str, wanted: tuple[GuestInterface, ...], *, only_keeps_off: bool) -> GuestFilesPlan:
    with RootFiles(name, root) as files:
        found = FoundFiles({}, files.programs(asked_programs()), files.os_release())
        asked: frozenset[str] = frozenset()
        for _ in range(DEPTH):
            more = asked_files(found) - asked
            if not more:
                break
            asked |= more
            found = msgspec.structs.replace(found, files={**found.files, **files.read(more)})
    return plan_guest_files(wanted, found, only_keeps_off=only_keeps_off)


def _apply(name: str, root: str, plan: GuestFilesPlan) -> Outcome:
    """Each file that can be; one that fails does not keep the others from it."""
    written, failed = [], []
    with RootFiles(name, root) as files:
        for each in plan.changes:
            try:
                files.apply(each)
                written.append(each)
            except ApplyFailed as error:
                failed.append(error)
    return Outcome(plan, tuple(written), tuple(failed))
