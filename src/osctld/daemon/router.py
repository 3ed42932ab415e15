"""Announcing is switched on and off, and a routing daemon is told what it needs to know."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from osctld.announce import bird
from osctld.announce.announced import Within, of_version
from osctld.announce.bird import Session
from osctld.commands import router_show
from osctld.core import command as commands
from osctld.core.address.addresses import VERSIONS, PackedNetwork
from osctld.core.command import Reply, Row
from osctld.core.config.announcing import NeighborSettings, networks_of
from osctld.core.config.host import POOL
from osctld.core.config.settings import Settings
from osctld.core.errors import OsctlError, Refused, Unavailable
from osctld.core.person import Asked
from osctld.daemon.disk import Disk
from osctld.daemon.records import Records
from osctld.sync.announcements import Announcements

log = logging.getLogger("osctld")

RouterAction = commands.EnableRouter | commands.DisableRouter | commands.ShowRouter

#: Seconds until it is tried again to tell a routing daemon something.
RETRY = 30.0


class Engine(Protocol):
    """The port to a routing daemon."""

    async def check(self) -> None: ...
    async def present(self) -> str: ...
    async def load(self, text: str) -> None: ...
    async def leave(self, text: str) -> None: ...
    async def learned(self, version: int) -> int: ...
    async def sessions(self) -> Mapping[str, Session]: ...


class Noted(Protocol):
    """The port to where it is kept which routing daemon announces."""

    def read(self) -> str: ...
    def write(self, engine: str) -> None: ...


class Routing(msgspec.Struct, frozen=True):
    """What is needed to announce: a routing daemon, where that is kept, and how a password is read from a file."""

    engine: Engine
    noted: Noted
    read_password: Callable[[str], str]


class Router:
    def __init__(
        self,
        *,
        settings: Settings,
        engine: Engine,
        noted: Noted,
        read_password: Callable[[str], str],
        announcements: Announcements,
        records: Records,
        disk: Disk,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`read_password` reads it from a file; `tell` takes an event, its type and opts."""
        self._settings = settings
        self._engine = engine
        self._noted = noted
        self._read_password = read_password
        self._announcements = announcements
        self._records = records
        self._disk = disk
        self._tell = tell
        self._changing = asyncio.Lock()
        self._name = noted.read()
        self._trouble = ""

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The routing daemon that announces; empty for none."""
        return self._name

    async def troubles(self) -> tuple[str, ...]:
        """Why not all is announced as it should be: the first step at which it is not, from here to each neighbor."""
        if not self._name:
            return ()
        found = [self._trouble, self._announcements.trouble]
        withheld = self._announcements.withheld
        for name in sorted(set(withheld.values())):
            count = sum(1 for each in withheld.values() if each == name)
            limit = self._settings.neighbors[name].limit
            what = "1 network is" if count == 1 else f"{count} networks are"
            found.append(f"{what} not announced: neighbor {name!r} has a limit of {limit}")
        if not any(found):
            try:
                found += await self._differences()
            except Unavailable as error:
                found.append(error.message)
        return tuple(dict.fromkeys(filter(None, found)))

    async def _differences(self) -> list[str]:
        announced = self._announcements.announced()
        found = []
        for version in VERSIONS:
            wanted, learned = len(of_version(announced, version)), await self._engine.learned(version)
            if learned != wanted:
                table = self._settings.announce.table
                found.append(
                    f"{self._name} has {learned} of {wanted} IPv{version} networks from table {table}; "
                    f"birdc show route table osctl{version}"
                )
        if found:
            return found
        sessions = await self._engine.sessions()
        for name, each in sorted(self._settings.neighbors.items()):
            session = sessions.get(bird.protocol_of(name))
            if session is None:
                found.append(f"neighbor {name!r}: {self._name} has no such session; osctl router enable {self._name}")
            elif not session.is_up:
                found.append(f"neighbor {name!r} ({each.address}): no session since {session.since}: {session.info}")
            else:
                for row in self._rows(name, each, session, announced, ""):
                    if row["sent"] != row["wanted"]:
                        told = f"{row['sent']} of {row['wanted']} IPv{row['version']} networks"
                        found.append(f"neighbor {name!r} ({each.address}): {told} are sent")
        return found

    # --- actions --------------------------------------------------------------------------------------------------

    async def perform(self, action: RouterAction, asked: Asked) -> Reply:
        """Do what is asked for. Raises an OsctlError, and then nothing has changed."""
        match action:
            case commands.ShowRouter():
                return await self._show()
            case commands.EnableRouter(engine):
                async with self._changing:
                    return await self._enable(engine, asked)
            case commands.DisableRouter():
                async with self._changing:
                    return await self._disable(asked)

    async def rehearse(self, action: RouterAction) -> tuple[str, ...]:
        """What that would change, as text. Refuses what would be refused."""
        match action:
            case commands.EnableRouter():
                await self._check()
                return await self._difference(self._text(are_shown=False))
            case commands.DisableRouter() if self._name:
                return await self._difference(bird.NOTHING)
            case _:
                return ()

    async def _enable(self, engine: str, asked: Asked) -> Reply:
        await self._check()
        text = self._text()
        if self._name == engine and await self._engine.present() == text:
            return commands.Text(self._notes())
        await self._engine.load(text)
        try:
            await self._announcements.begin()
            await self._disk.run(lambda: self._noted.write(engine))
        except OsctlError:
            if not self._name:
                await self._announcements.end()
                await self._engine.load(bird.NOTHING)
            raise
        self._name, self._trouble = engine, ""
        await self._records.note_done(asked)
        self._tell("router", {"pool": POOL, "engine": engine, "state": "enabled"})
        return commands.Text(self._notes(), changed=True)

    async def _disable(self, asked: Asked) -> Reply:
        if not self._name:
            return commands.Text(("nothing is announced",))
        await self._announcements.end()
        messages: tuple[str, ...] = ()
        try:
            try:
                await self._engine.load(bird.NOTHING)
            except Unavailable as error:
                # Nothing is left to be announced; it must not come back with a daemon that is down now.
                await self._engine.leave(bird.NOTHING)
                messages = (f"{error.message}; its file has been emptied",)
        except OsctlError:
            await self._announcements.begin()
            raise
        self._name, self._trouble = "", ""
        await self._disk.run(lambda: self._noted.write(""))
        await self._records.note_done(asked)
        self._tell("router", {"pool": POOL, "engine": None, "state": "disabled"})
        return commands.Text(messages, changed=True)

    async def _check(self) -> None:
        if not self._settings.announce.local_as:
            raise Refused(
                "announce.local_as is not set: the settings name no AS number of this host",
                code="router-settings",
                subject="announce.local_as",
            )
        await self._engine.check()
        self._text()

    def _notes(self) -> tuple[str, ...]:
        """What is worth mentioning of settings that are valid and announce nothing."""
        if not self._settings.announce.networks:
            return ("nothing is announced: announce.networks is empty",)
        if not self._settings.neighbors:
            return ("announced to no neighbor of osctld's: the settings name none",)
        return ()

    def _text(self, *, are_shown: bool = True) -> str:
        """The file for the routing daemon, with passwords or without. Raises Unavailable or Refused."""
        passwords = {}
        for name, each in self._settings.neighbors.items():
            if each.password_file:
                password = self._read_password(each.password_file)
                if (reason := bird.reason_unfit(password)) is not None:
                    raise Refused(
                        f"'{each.password_file}': the password {reason}",
                        code="bad-password",
                        subject=each.password_file,
                    )
                passwords[name] = password if are_shown else bird.CONCEALED
        return bird.configuration(self._settings, passwords)

    async def _difference(self, text: str) -> tuple[str, ...]:
        file = self._settings.announce.bird_include
        before = bird.without_passwords(await self._engine.present())
        lines = difflib.unified_diff(before.splitlines(), text.splitlines(), file, file, lineterm="")
        return tuple(lines)

    async def _show(self) -> Reply:
        if not self._name:
            return commands.Listing(
                columns=router_show.COLUMNS, shown=router_show.SHOWN, rows=(), when_empty="nothing is announced"
            )
        found: Mapping[str, Session] = {}
        why = ""
        try:
            found = await self._engine.sessions()
        except Unavailable as error:
            why = error.message
        announced = self._announcements.announced()
        rows = tuple(
            row
            for name, each in sorted(self._settings.neighbors.items())
            for row in self._rows(name, each, found.get(bird.protocol_of(name)), announced, why)
        )
        return commands.Listing(columns=router_show.COLUMNS, shown=router_show.SHOWN, rows=rows)

    def _rows(
        self,
        name: str,
        neighbor: NeighborSettings,
        session: Session | None,
        announced: list[PackedNetwork],
        why: str,
    ) -> list[Row]:
        within = Within(networks_of(neighbor.networks or self._settings.announce.networks))
        rows: list[Row] = []
        for version in neighbor.versions:
            channel = session.channels.get(version) if session is not None else None
            rows.append(
                {
                    "engine": self._name,
                    "neighbor": name,
                    "address": neighbor.address,
                    "remote_as": neighbor.remote_as,
                    "version": version,
                    "state": session.state if session is not None else "unknown",
                    "since": session.since if session is not None else None,
                    "info": session.info if session is not None else why or "no such session",
                    "wanted": len(within.of(of_version(announced, version))),
                    "sent": channel.exported if channel is not None else None,
                    "received": channel.received if channel is not None else None,
                    "limit": neighbor.limit,
                }
            )
        return rows

    # --- at start -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Announce what an earlier daemon did, and tell the routing daemon what the settings say now."""
        if not self._name:
            await self._sweep()
            return
        while self._name:
            try:
                async with self._changing:
                    await self._announcements.begin()
                    text = self._text()
                    if await self._engine.present() != text:
                        await self._engine.check()
                        await self._engine.load(text)
                        log.info("announcements: told %s what the settings say", self._name)
                self._note_trouble("")
                return
            except OsctlError as error:
                if error.message != self._trouble:
                    log.error("announcements: %s", error.message)
                self._note_trouble(error.message)
            await asyncio.sleep(RETRY)

    async def _sweep(self) -> None:
        """Remove what an earlier daemon left in the table because it died."""
        try:
            await self._announcements.end()
        except OsctlError as error:
            log.error("announcements: %s", error.message)

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._tell("announcements", {"pool": POOL, "error": trouble})
