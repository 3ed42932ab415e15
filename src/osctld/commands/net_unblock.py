"""End blocks of networks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.command import ActCommand, Action, Argument, Example, UnblockNetworks
from osctld.core.config.host import Host
from osctld.core.errors import Refused, UsageError

#: Instead of networks by name: all that are blocked.
ALL = "all"


class NetUnblock(ActCommand, frozen=True, kw_only=True):
    """End blocks: packets to these addresses or networks reach their containers again."""

    words: ClassVar[tuple[str, ...]] = ("net", "unblock")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net unblock 1.2.3.4", "Make an address reachable again"),
        Example("osctl net unblock all", "End all blocks"),
    )

    networks: Annotated[
        tuple[str, ...],
        Argument(
            f"Blocked addresses or networks, or {ALL}",
            metavar="addr|network", many=True, from_stdin=True, completes="block", keywords=(ALL,),
        ),
    ]  # fmt: skip

    def act(self, host: Host) -> Action:
        if self.networks == (ALL,):
            return UnblockNetworks(tuple(each.network for each in host.blocks))
        if ALL in self.networks:
            raise UsageError(f"{' '.join(self.networks)}: {ALL} cannot be combined with other values")
        blocked = {each.network for each in host.blocks}
        networks = dict.fromkeys(map(Network.parse, self.networks))
        for typed, network in zip(self.networks, map(Network.parse, self.networks), strict=True):
            if network not in blocked:
                around = next((each for each in blocked if each.includes(network)), None)
                hint = f"; the network around it, {around}, is" if around is not None else ""
                raise Refused(f"{typed}: not blocked{hint}", code="not-blocked", subject=typed)
        return UnblockNetworks(tuple(networks))
