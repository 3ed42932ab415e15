"""What becomes of packets for stopped containers: without more they would go back where they came from, and round.

Their routes have gone with them, and the host's default route leads to the router that sends them here. So the packet
filter holds their networks in a set: packets that arrive on a link that is not ours and would leave through such a link
are rejected. Or the host has routes to nowhere for them, as the settings say. Either is filled and emptied after the
answer of whoever stops and starts containers, and by the next daemon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from osctld.aside import LARGE, considered
from osctld.core.address.addresses import VERSION_OF_PACKED, VERSIONS, PackedNetwork
from osctld.core.address.aggregation import fewest
from osctld.core.config.host import POOL, Container, Host
from osctld.core.config.settings import Settings
from osctld.core.errors import OsctlError
from osctld.core.plan.changes import Add, Changes, Remove, RouteChanges
from osctld.core.plan.kernel_state import HOST, LAST_METRIC, KernelState, RouteKind, Routes, StoppedNetwork, Way
from osctld.core.plan.planner import Plan
from osctld.sync.ports import Kernel, Presence

log = logging.getLogger("osctld")

#: More networks than this are changed in a thread.
LARGE_CHANGE = 500
#: So many are changed at once: others who change something in the kernel wait as long as that takes.
AT_ONCE = 2000
#: Beyond this number of networks, their presence is not checked every minute. Recreating the filter triggers a check.
LOOKED_AT = 10_000
#: After each round it is left alone so many times as long as that took, so that a storm of stops takes a part of a
#: processor; at least so many seconds, in which more comes together.
REST, SHORTEST_REST = 3.0, 0.01
#: Seconds until it is tried again after a failure.
RETRY = 5.0


class Stopped:
    def __init__(
        self,
        *,
        settings: Settings,
        kernel: Kernel,
        lives: Presence,
        host: Callable[[], Host],
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`host` says what is wanted now; `tell` takes an event, its type and opts."""
        self._settings = settings
        self._kernel = kernel
        self._lives = lives
        self._host = host
        self._tell = tell
        self._wake = asyncio.Event()
        #: What each container has, as long as it is the same value.
        self._known: dict[str, tuple[Container, frozenset[PackedNetwork]]] = {}
        #: What the kernel holds; None when that has to be looked at.
        self._held: tuple[frozenset[PackedNetwork], frozenset[PackedNetwork]] | None = None
        #: Whether somebody else may have changed that meanwhile.
        self._is_doubtful = False

    # --- when ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """A container was stopped, started or changed."""
        self._wake.set()

    def look_again(self) -> None:
        """Somebody else may have changed what the kernel holds."""
        self._is_doubtful = True
        self._wake.set()

    def check(self) -> None:
        """Look again whether the kernel holds what it should, unless that is very much."""
        if self._held is not None and sum(map(len, self._held)) <= LOOKED_AT:
            self.look_again()

    async def run(self) -> None:
        """Do what is to be done whenever somebody wakes it; runs until cancelled."""
        self._wake.set()
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = loop.time()
            try:
                await self._settle()
            except OsctlError as error:
                self._tell("stopped", {"pool": POOL, "error": error.message})
                log.error("networks of stopped containers: %s; trying again in %.0f s", error.message, RETRY)
                self._held = None
                loop.call_later(RETRY, self._wake.set)
            await asyncio.sleep(max(SHORTEST_REST, REST * (loop.time() - began)))

    # --- what ------------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        stopped = self._stopped(self._host())
        # Of what is not known yet nobody knows how much it is.
        size = sum(len(there[1]) if there is not None else LARGE + 1 for there in map(self._known_of, stopped))
        wanted = await considered(size, lambda: fewest(frozenset().union(*map(self._networks_of, stopped))))
        if self._held is None or self._is_doubtful:
            self._is_doubtful = False
            self._held = await asyncio.to_thread(self._look)
        in_set, routed = self._held
        is_set, is_routed = (self._settings.host.stopped == each for each in ("reject", "unreachable"))
        nothing: frozenset[PackedNetwork] = frozenset()
        # It is looked at again if this is left half way.
        self._held = None
        await self._change_set(in_set, wanted if is_set else nothing)
        await self._change_routes(routed, wanted if is_routed else nothing)
        self._held = (wanted if is_set else nothing, wanted if is_routed else nothing)

    def _look(self) -> tuple[frozenset[PackedNetwork], frozenset[PackedNetwork]]:
        return self._kernel.stopped(protocol=self._settings.routes.present_protocol)

    async def _change_set(self, have: frozenset[PackedNetwork], want: frozenset[PackedNetwork]) -> None:
        removed, added = [*have - want], [*want - have]
        if not removed and not added:
            return
        if len(removed) + len(added) <= LARGE_CHANGE:
            self._kernel.change_stopped(removed=removed, added=added)
            return
        for some in _some_at_a_time(removed):
            await asyncio.to_thread(self._kernel.change_stopped, removed=some, added=())
        for some in _some_at_a_time(added):
            await asyncio.to_thread(self._kernel.change_stopped, removed=(), added=some)

    async def _change_routes(self, have: frozenset[PackedNetwork], want: frozenset[PackedNetwork]) -> None:
        for kind, networks in ((Add, [*want - have]), (Remove, [*have - want])):
            for some in _some_at_a_time(networks):
                changes = Changes(RouteChanges(kind, each) for each in self._routes(some))
                await asyncio.to_thread(self._kernel.apply, Plan(KernelState(), KernelState(), changes), {})

    def _routes(self, networks: Iterable[PackedNetwork]) -> Iterator[Routes]:
        """Routes to nowhere. Any other route to the same network wins."""
        packed = list(networks)
        for version in VERSIONS:
            of_version = [each for each in packed if VERSION_OF_PACKED[len(each)] == version]
            if of_version:
                protocol = self._settings.routes.present_protocol
                way = Way(version, HOST, "", None, protocol, LAST_METRIC, kind=RouteKind.UNREACHABLE)
                yield Routes(way, sorted(of_version))

    def _stopped(self, host: Host) -> list[Container]:
        if self._settings.host.stopped == "none":
            return []
        self._known = {name: known for name, known in self._known.items() if name in host.containers}
        return [each for name, each in host.containers.items() if not self._lives.is_configured(name)]

    def _known_of(self, container: Container) -> tuple[Container, frozenset[PackedNetwork]] | None:
        there = self._known.get(container.name)
        return there if there is not None and there[0] is container else None

    def _networks_of(self, container: Container) -> frozenset[PackedNetwork]:
        there = self._known_of(container)
        if there is None:
            there = self._known[container.name] = container, frozenset(container.routed_networks())
        return there[1]

    # --- dry runs --------------------------------------------------------------------------------------------------

    async def lines(
        self, before: Host, after: Host, *, ends: str | None = None, begins: str | None = None
    ) -> list[str]:
        """The lines that would do what follows a change, or the end or begin of a container's life."""
        if self._settings.host.stopped == "none":
            return []
        size = LARGE + 1  # nobody knows before
        return await considered(size, lambda: self._lines(before, after, ends=ends, begins=begins))

    def _lines(self, before: Host, after: Host, *, ends: str | None, begins: str | None) -> list[str]:

        def networks(host: Host, *, is_after: bool) -> frozenset[PackedNetwork]:
            return fewest(
                packed
                for name, each in host.containers.items()
                if (is_after and name == ends)
                or (not self._lives.is_configured(name) and not (is_after and name == begins))
                for packed in each.routed_networks()
            )

        have, want = networks(before, is_after=False), networks(after, is_after=True)
        removed, added = sorted(have - want), sorted(want - have)
        if not removed and not added:
            return []
        if self._settings.host.stopped == "reject":
            changes = [*(Remove(StoppedNetwork.of(each)) for each in removed)]
            plan = Changes([*changes, *(Add(StoppedNetwork.of(each)) for each in added)])
        else:
            parts = [RouteChanges(Add, each) for each in self._routes(added)]
            plan = Changes([*parts, *(RouteChanges(Remove, each) for each in self._routes(removed))])
        return Plan(KernelState(), KernelState(), plan).text().splitlines()


def _some_at_a_time(networks: Sequence[PackedNetwork]) -> Iterator[Sequence[PackedNetwork]]:
    ordered = sorted(networks)
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))
