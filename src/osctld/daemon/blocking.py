"""Networks are blocked and unblocked, at once and until their time is over."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from osctld.commands import net_blocks
from osctld.core import command as commands
from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import Block, check_blockable
from osctld.core.authority.null_routes import Yielded
from osctld.core.command import Reply
from osctld.core.config.host import POOL, Container, Host
from osctld.core.errors import ApplyFailed, Conflict, OsctlError, Refused
from osctld.core.person import Asked
from osctld.core.plan.kernel_state import HOST, AssignedAddress, Neighbour, Route
from osctld.core.plan.planner import Plan
from osctld.daemon.effects import Ports, Undoing
from osctld.daemon.kernel_effects import KernelChange
from osctld.daemon.records import Records
from osctld.daemon.turns import Turns
from osctld.sync.containers import ContainerSync
from osctld.sync.host import HostSync
from osctld.sync.obstacles import Obstacles
from osctld.sync.ports import Presence

log = logging.getLogger("osctld")

BlockAction: TypeAlias = commands.BlockNetworks | commands.UnblockNetworks

#: Seconds until a failed end of a block is tried again, and between looks at the clock, which somebody may set.
RETRY, LONGEST_SLEEP = 10.0, 600.0


class Blocking:
    def __init__(
        self,
        *,
        records: Records,
        host: HostSync,
        containers: ContainerSync,
        obstacles: Obstacles,
        lives: Presence,
        ports: Ports,
        turns: Turns,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """`tell` takes an event, its type and opts."""
        self._records = records
        self._host = host
        self._containers = containers
        self._obstacles = obstacles
        self._lives = lives
        self._ports = ports
        self._turns = turns
        self._tell = tell
        self._changed = asyncio.Event()

    async def perform(self, action: BlockAction, asked: Asked) -> Reply:
        """Block or unblock. Raises an OsctlError, and then nothing has changed."""
        return await self._turns.take(functools.partial(self._perform, action, asked))

    async def rehearse(self, action: BlockAction) -> tuple[str, ...]:
        """What that would change, as command lines. Refuses what would be refused. In its turn."""
        after = self._records.host.with_blocks(self._blocks_after(action, Asked("")))
        plan = await self._plan(after, self._concerned(self._changed_by(after)))
        return tuple(plan.text().splitlines()) or (("# configuration only",) if after != self._records.host else ())

    def listing(self) -> Reply:
        """All that is blocked."""
        holdings = self._records.claims
        rows = (
            {
                "network": str(each.network),
                "holders": sorted({str(claim.holder) for claim in holdings.overlapping(each.network)}),
                "since": _local_time(each.since),
                "since_epoch": each.since,
                "until": _local_time(each.until) if each.until is not None else None,
                "until_epoch": each.until,
                "user": each.by.user,
                "login": each.by.login,
                "process": each.by.process,
                "command": each.command,
            }
            for each in self._records.host.blocks
        )
        return commands.Listing(
            columns=net_blocks.COLUMNS, shown=net_blocks.SHOWN, rows=tuple(rows), when_empty="nothing is blocked"
        )

    async def run(self) -> None:
        """End each block when its time is over."""
        while True:
            ends = [each.until for each in self._records.host.blocks if each.until is not None]
            pause = min(max(0.0, min(ends) - time.time()), LONGEST_SLEEP) if ends else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)
            self._changed.clear()
            try:
                await self._turns.take(self._end_those_over)
            except OsctlError as error:
                log.error("block not ended: %s", error.message)
                await asyncio.sleep(RETRY)

    # --- in turn ------------------------------------------------------------------------------------------------------

    async def _perform(self, action: BlockAction, asked: Asked) -> Reply:
        after = self._records.host.with_blocks(self._blocks_after(action, asked))
        if after == self._records.host:
            return commands.Text()
        await self._change(after, asked)
        return commands.Text(changed=True)

    async def _end_those_over(self) -> None:
        now = time.time()
        over = [each for each in self._records.host.blocks if each.until is not None and each.until <= now]
        if over:
            left = [each for each in self._records.host.blocks if each not in over]
            words = " ".join(each.subject for each in over)
            await self._change(self._records.host.with_blocks(left), Asked(f"osctl net unblock {words}"))
            log.info("block expired: %s", words)

    def _blocks_after(self, action: BlockAction, asked: Asked) -> Sequence[Block]:
        """Raises Refused and Conflict."""
        there = {each.network: each for each in self._records.host.blocks}
        if isinstance(action, commands.UnblockNetworks):
            return [each for network, each in there.items() if network not in action.networks]
        now = time.time()
        until = now + action.seconds if action.seconds is not None else None
        for network in action.networks:
            before = there.get(network)
            if before is None:
                self._check(network)
            if before is None or before.until != until:
                there[network] = Block(
                    network, before.since if before is not None else now, until, asked.by, asked.command_line
                )
        return list(there.values())

    def _check(self, network: Network) -> None:
        if network.is_default:
            raise Refused(
                f"{network}: cannot be blocked, it stands for everything", code="bad-network", subject=str(network)
            )
        check_blockable(
            network, self._records.claims, self._host.networks_in_use(self._records.host),
            lambda via: self._ends(network, via),
        )  # fmt: skip

    def _ends(self, network: Network, via: Network) -> Iterator[str]:
        """The ends of an interconnecting network that are in a network."""
        for claim in self._records.claims.overlapping(via):
            if claim.network != via:
                continue
            desired = self._host.desired(self._records.host.containers[claim.holder.container])
            for each in desired.others.values():
                if isinstance(each, Neighbour | AssignedAddress) and each.namespace == HOST:
                    end = each.address.address if isinstance(each, AssignedAddress) else each.address
                    if via.includes(end) and network.includes(end):
                        yield str(end)

    def _changed_by(self, after: Host) -> Sequence[Network]:
        """The networks that are blocked in one of the two, and not in the other."""
        before = {each.network for each in self._records.host.blocks}
        return sorted(before ^ {each.network for each in after.blocks})

    def _concerned(self, networks: Iterable[Network]) -> Sequence[Container]:
        """Running containers that hold any of it."""
        names = {claim.holder.container for each in networks for claim in self._records.claims.overlapping(each)}
        found = (self._records.host.containers[name] for name in sorted(names))
        return [each for each in found if self._lives.is_configured(each.name)]

    async def _plan(self, after: Host, concerned: Sequence[Container]) -> Plan:
        with self._obstacles.expecting(after.blocks):
            return await self._containers.plan_beside(
                concerned, have=self._host.observed_blocks(), want=self._host.wanted_blocks(after)
            )

    async def _change(self, after: Host, asked: Asked) -> None:
        networks = self._changed_by(after)
        concerned = self._concerned(networks)
        plan = await self._plan(after, concerned)
        names = tuple(each.name for each in concerned)
        async with Undoing(self._ports) as done:
            try:
                await done.apply([KernelChange(names, plan)])
            except ApplyFailed as error:
                raise self._named(error, after) from error
            await self._records.save_blocks(after.blocks, asked)
            done.keep()
        self._changed.set()
        before = {each.network for each in after.blocks}
        for network in networks:
            action = "add" if network in before else "remove"
            self._tell("block", {"pool": POOL, "action": action, "network": str(network)})
        for container in concerned:
            self._containers.note_yielded(container)

    def _named(self, error: ApplyFailed, after: Host) -> OsctlError:
        """The same, naming whose route is where that of a block would be."""
        wanted = [each for each in self._host.wanted_blocks(after).objects if isinstance(each, Route)]
        for key, there in self._host.routes_of_others_under(wanted).items():
            for route in wanted:
                if route.key == key:
                    yielded = Yielded(route, there)
                    return Conflict(
                        f"{yielded}; {yielded.command} makes room", code="in-the-way", subject=str(route.network),
                        holder=str(there),
                    )  # fmt: skip
        return error


def _local_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
