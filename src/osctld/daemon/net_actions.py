"""Queries about addresses and networks: who holds them, which links are declared."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from osctld.aside import LARGE, considered
from osctld.commands import net_pool_ls, net_uplink_ls
from osctld.core import command as commands
from osctld.core import who
from osctld.core.address.addresses import BITS, Network
from osctld.core.authority.claims import Claim
from osctld.core.authority.held import HoldingState
from osctld.core.authority.host_networks import HostSpace, Use
from osctld.core.authority.rules import OlderHolding, older_holdings
from osctld.core.command import Reply, Row
from osctld.core.config.address_pools import pools_of, use_of
from osctld.core.errors import Refused, UsageError
from osctld.core.person import Asked
from osctld.daemon.records import Records
from osctld.daemon.turns import Turns
from osctld.sync.host import HostSync

NetAction: TypeAlias = (
    commands.ShowHolders | commands.ListHoldings | commands.ListUplinks | commands.ListPools | commands.DeclareUplink
)

#: Of more holdings that answer one question it is not looked up since when each is held.
_MOST_LOOKED_UP = 10_000


class NetActions:
    def __init__(self, *, records: Records, host: HostSync, turns: Turns) -> None:
        self._records = records
        self._host = host
        self._turns = turns

    async def perform(self, action: NetAction, asked: Asked) -> Reply:
        """Do what is asked for. Raises an OsctlError."""
        match action:
            case commands.ShowHolders(network, None):
                return await self._who_now(network)
            case commands.ShowHolders(network, at):
                return await self._who_then(network, _moment(at or ""))
            case commands.ListHoldings():
                return await self._list(action)
            case commands.ListUplinks():
                return self._list_uplinks()
            case commands.ListPools():
                return self._list_pools()
            case commands.DeclareUplink():
                return await self._turns.take(lambda: self._declare(action, asked))

    def rehearse(self, action: commands.DeclareUplink) -> tuple[str, ...]:
        """What would be done, as text. Refuses what would be refused."""
        self._check_declarable(action)
        networks = ", ".join(map(str, self._networks_on(action.link))) or "none now"
        what = "containers may use addresses from" if action.is_declared else "containers no longer get addresses from"
        return (f"# {what} the networks on {action.link}: {networks}",)

    @property
    def _aside(self) -> Mapping[str, Mapping[Network, HoldingState]]:
        return {name: aside for name, each in self._records.host.containers.items() if (aside := each.set_aside)}

    @property
    def _space(self) -> HostSpace:
        return self._host.networks_in_use(self._records.host)

    def older_holdings(self) -> tuple[OlderHolding, ...]:
        """What containers hold although the host uses it."""
        host = self._records.host
        return tuple(older_holdings(self._records.claims, self._space, declared=host.uplinks))

    # --- who ------------------------------------------------------------------------------------------------------

    async def _who_now(self, network: Network) -> Reply:
        claims = await self._held_in(network)
        networks = [*self._space.overlapping(network), *self._host.learned_routes([network])]
        looked_up = claims if len(claims) <= _MOST_LOOKED_UP else ()
        given = await self._records.given(each.network for each in looked_up)
        declared, aside = self._records.host.uplinks, self._aside

        def rows() -> tuple[Row, ...]:
            told = who.who_now(
                network, claims, networks, given=given, declared=declared, set_aside=aside, at=_local_time
            )
            return tuple(told)

        found = await considered(len(claims), rows)
        return commands.Listing(
            columns=who.WHO_COLUMNS, shown=who.SHOWN_NOW, rows=found, when_empty=f"{network}: held by nobody"
        )

    async def _held_in(self, network: Network) -> Sequence[Claim]:
        """All claims that overlap a network. For very many in its turn, so that none comes or goes meanwhile."""
        claims = self._records.claims
        if claims.network_count <= LARGE or network.length == BITS[network.version]:
            return list(claims.overlapping(network))
        work = functools.partial(considered, claims.network_count, lambda: list(claims.overlapping(network)))
        return await self._turns.take(work)

    async def _who_then(self, network: Network, at: float) -> Reply:
        found = await self._records.held(network, at=at)
        return commands.Listing(
            columns=who.WHO_COLUMNS,
            shown=who.SHOWN_THEN,
            rows=tuple(who.who_then(found, at=_local_time)),
            when_empty=f"{network}: held by no container at {_local_time(at)}",
        )

    async def _list(self, action: commands.ListHoldings) -> Reply:
        host, container = self._records.host, action.container
        chosen = host.containers.values() if container is None else [host.container(container)]
        space = self._space if container is None else HostSpace()
        size = self._records.claims.network_count if container is None else host.container(container).network_count

        def rows() -> tuple[Row, ...]:
            claims = (each for one in chosen for claims in one.claims() for each in claims)
            versions = (4, 6) if action.version is None else (action.version,)
            return (
                *who.holdings_of_interfaces(
                    sorted(each for each in claims if each.network.version in versions), self._aside
                ),
                *who.holdings_of_host(sorted(each for each in space if each.network.version in versions)),
            )

        shown = ("network", "holder", "kind", "link") if container is None else ("network", "netif", "kind")
        return commands.Listing(columns=who.LIST_COLUMNS, shown=shown, rows=await considered(size, rows))

    # --- pools ----------------------------------------------------------------------------------------------------

    def _list_pools(self) -> Reply:
        rows = []
        for pool in pools_of(self._records.host.settings):
            resting = pool.resting(self._records.released())
            use = use_of(pool, holdings=self._records.claims, space=self._space, resting=resting)
            rows.append(
                {
                    "name": pool.name, "networks": list(map(str, pool.networks)), "size": use.size, "used": use.held,
                    "host": use.host, "resting": use.resting, "free": use.free,
                }
            )  # fmt: skip
        columns = net_pool_ls.COLUMNS
        shown = ("name", "networks", "size", "used", "free")
        return commands.Listing(columns=columns, shown=shown, rows=tuple(rows))

    # --- uplinks --------------------------------------------------------------------------------------------------

    def _list_uplinks(self) -> Reply:
        claims = self._records.claims
        rows = []
        for link in self._records.host.uplinks:
            networks = self._networks_on(link)
            held = {claim.network for network in networks for claim in claims.overlapping(network)}
            rows.append({"link": link, "networks": [str(each) for each in networks], "held": len(held)})
        columns = net_uplink_ls.COLUMNS
        return commands.Listing(columns=columns, shown=tuple(each.name for each in columns), rows=tuple(rows))

    def _networks_on(self, link: str) -> list[Network]:
        return sorted({each.network for each in self._space if each.link == link and each.use is Use.CONNECTED})

    def _check_declarable(self, action: commands.DeclareUplink) -> None:
        if not action.is_declared:
            return
        if action.link in self._records.host.uplinks:
            raise Refused(f"{action.link!r}: already declared", code="uplink-declared", subject=action.link)
        links = sorted({each.link for each in self._space if each.use is Use.CONNECTED})
        if action.link not in links:
            there = f"it is connected to networks on {', '.join(links)}" if links else "it is connected to none"
            raise Refused(
                f"{action.link!r}: the host is not connected to a network on this link; {there}",
                code="link-not-found",
                subject=action.link,
            )

    async def _declare(self, action: commands.DeclareUplink, asked: Asked) -> Reply:
        self._check_declarable(action)
        await self._records.declare(action.link, is_declared=action.is_declared, asked=asked)
        return commands.Text(changed=True)


def _local_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _moment(text: str) -> float:
    """A moment as it was typed, in seconds since 1970. Raises UsageError."""
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"invalid argument: --at {text} (expected 2026-01-31, 2026-01-31T12:00:00, or seconds since 1970)"
        ) from None
