"""BIRD, told what to do: a file that it includes, checked by BIRD itself before it counts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from osctld.announce import bird
from osctld.announce.bird import Session
from osctld.core.config.announcing import AnnounceSettings
from osctld.core.errors import ApplyFailed, Refused, Unavailable
from osctld.shell.routing.bird_control import BirdControl, connected
from osctld.shell.routing.engine_files import (
    read_configuration,
    read_if_there,
    remove_if_there,
    write_included,
)

log = logging.getLogger("osctld")

#: Seconds until BIRD itself goes back to the configuration that it had, if nobody confirms the new one.
UNDO_SECONDS = 60
#: Seconds that sessions which were up may take to be so again, and between looks at them.
SETTLE_SECONDS, _LOOK_SECONDS = 30.0, 0.1
#: BIRD's answers (its programmer's documentation): reconfigured, in progress, and `configure check` is content.
_DONE = 3


class BirdEngine:
    """BIRD as the settings name it."""

    def __init__(self, settings: AnnounceSettings) -> None:
        self._settings = settings

    async def check(self) -> None:
        """Raise a refusal with the reason when it cannot be used, and nothing was changed."""
        async with self._connected() as control:
            version = bird.version_of(control.greeting)
        if version is None or version < bird.OLDEST:
            oldest = ".".join(map(str, bird.OLDEST))
            raise Refused(
                f"{control.greeting!r}: BIRD {oldest} or later is required", code="router-version", subject="bird"
            )
        config, include = self._settings.bird_config, self._settings.bird_include
        if not bird.includes(await asyncio.to_thread(read_configuration, config), include, of=config):
            line = f'include "{include}";'
            raise Refused(
                f"'{config}': does not include {include}; touch {include} && echo '{line}' >>{config}",
                code="router-not-included",
                subject=config,
            )

    async def present(self) -> str:
        """What the included file says now; empty if there is none. Raises Unavailable."""
        return await asyncio.to_thread(read_if_there, self._settings.bird_include) or ""

    async def load(self, text: str) -> None:
        """Write the included file and have it loaded: checked by BIRD before, taken back if it does no good.

        Raises Refused with BIRD's own words, ApplyFailed or Unavailable, and then BIRD runs as before.
        """
        include, config = self._settings.bird_include, self._settings.bird_config
        async with self._connected() as control:
            await self._check_text(control, text)
            before = await self.present()
            up = {name for name, each in (await _sessions(control)).items() if each.is_up}
            await asyncio.to_thread(write_included, include, text, like=config)
            try:
                answer = await control.ask(f"configure timeout {UNDO_SECONDS}")
                if answer.is_error:
                    raise ApplyFailed(f"BIRD: {'; '.join(answer.lines)}", code="router-refused", subject="bird")
                await _until_up(control, up)
            except BaseException:
                await asyncio.to_thread(write_included, include, before, like=config)
                with contextlib.suppress(Unavailable):
                    await control.ask("configure undo")
                raise
            await control.ask("configure confirm")

    async def leave(self, text: str) -> None:
        """Write the included file for a BIRD that does not run: it reads that when it starts. Raises ApplyFailed."""
        include, config = self._settings.bird_include, self._settings.bird_config
        if await self.present():
            await asyncio.to_thread(write_included, include, text, like=config)

    async def _check_text(self, control: BirdControl, text: str) -> None:
        """Have BIRD parse its configuration with this text in the place of the included file."""
        include, config = self._settings.bird_include, self._settings.bird_config
        proposed, whole = f"{include}.proposed", f"{include}.check"
        main = await asyncio.to_thread(read_configuration, config)
        try:
            await asyncio.to_thread(write_included, proposed, text, like=config)
            whole_text = bird.including(main, include, proposed, of=config)
            await asyncio.to_thread(write_included, whole, whole_text, like=config)
            answer = await control.ask(f'configure check "{whole}"')
        finally:
            await asyncio.to_thread(remove_if_there, proposed)
            await asyncio.to_thread(remove_if_there, whole)
        if answer.is_error:
            raise Refused(f"BIRD: {answer.last}", code="router-refused", subject="bird")

    async def learned(self, version: int) -> int:
        """How many networks BIRD has from the announcement table. Raises Unavailable."""
        async with self._connected() as control:
            answer = await control.ask(f"show route table {bird.PREFIX}{version} count")
        return bird.counted(answer.lines)

    async def sessions(self) -> Mapping[str, Session]:
        """All protocols by their names. Raises Unavailable."""
        async with self._connected() as control:
            return await _sessions(control)

    @contextlib.asynccontextmanager
    async def _connected(self):  # type: ignore[no-untyped-def]
        try:
            async with connected(self._settings.bird_socket) as control:
                yield control
        except Unavailable as error:
            hint = f"; is the package {bird.PACKAGE} installed, and BIRD running?"
            raise Unavailable(f"{error.message}{hint}", code=error.code, subject=error.subject) from error


async def _sessions(control: BirdControl) -> dict[str, Session]:
    answer = await control.ask("show protocols all")
    if answer.is_error:
        raise Unavailable(f"BIRD: {answer.last}", code="router-unavailable", subject="bird")
    return bird.sessions(answer.lines)


async def _until_up(control: BirdControl, names: set[str]) -> None:
    """Wait until protocols that were up are so again. Raises ApplyFailed with those that are not in time."""
    end = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        now = await _sessions(control)
        down = sorted(name for name in names if name in now and not now[name].is_up)
        if not down:
            return
        if asyncio.get_running_loop().time() > end:
            raise ApplyFailed(
                f"BIRD: {', '.join(down)}: not up again after {SETTLE_SECONDS:.0f} s; the change was taken back",
                code="router-sessions",
                subject="bird",
            )
        await asyncio.sleep(_LOOK_SECONDS)
