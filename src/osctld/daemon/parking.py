"""What this host keeps and others were found to hold: it is parked, so that the host routes nothing of it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from osctld.core.address.addresses import Network
from osctld.core.authority.authority import Need, needs_held
from osctld.core.command import Edited
from osctld.core.config.host import POOL
from osctld.daemon.event_log import EventLog
from osctld.daemon.records import Records
from osctld.daemon.turns import Turns

log = logging.getLogger("osctld")


class Parking:
    def __init__(
        self, *, records: Records, turns: Turns, events: EventLog, change: Callable[[Edited], Awaitable[object]]
    ) -> None:
        """`change` makes an edit of nobody's, in its turn."""
        self._records = records
        self._turns = turns
        self._events = events
        self._change = change

    def held(self) -> Collection[Need]:
        """All that this host holds; what is set aside it does not hold."""
        aside = {name: each.set_aside for name, each in self._records.host.containers.items()}
        return needs_held(
            each for each in self._records.claims if each.network not in aside.get(each.holder.container, ())
        )

    async def park(self, lost: Collection[Need]) -> None:
        """Stop routing what somebody else holds."""
        for name in sorted({each.holder.container for each in lost}):
            networks = [each.network for each in lost if each.holder.container == name]
            await self._turns.take(functools.partial(self._park, name, networks, why="held by others"))

    async def park_old(self, lost: Mapping[str, Collection[Network]]) -> None:
        """The same, by container, of what an old store says and newer documents beside the roots do not."""
        for name, networks in sorted(lost.items()):
            why = "the store is older than the documents beside the containers' root directories"
            await self._turns.take(functools.partial(self._park, name, networks, why=why))

    async def _park(self, name: str, networks: Iterable[Network], *, why: str) -> None:
        host = self._records.host
        container = host.containers.get(name)
        if container is None:
            return
        after = container.with_parked((*container.parked, *networks))
        await self._change(
            Edited(host.with_container(after), name, is_delegation_allowed=True, is_overlap_allowed=True)
        )
        told = list(map(str, after.parked))
        self._events.emit("parked", {"pool": POOL, "id": name, "networks": told})
        log.warning("%s: parked, because %s: %s", name, why, ", ".join(told))
