"""Block networks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import seconds_of
from osctld.core.command import ActCommand, Action, Argument, BlockNetworks, Example, Option
from osctld.core.config.host import Host


class NetBlock(ActCommand, frozen=True, kw_only=True):
    """Drop packets to addresses or networks of containers on the host, to defend it against an attack.

    A null route replaces the route to the container, and all routes to networks inside the blocked one. The container
    keeps running without noticing, and its other addresses stay reachable. The block survives restarts and reboots,
    until osctl net unblock or the end of the time given with --for. Repeat the command to change when the block ends.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "block")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net block --for 2h 1.2.3.4", "Drop packets to an address for two hours"),
        Example("osctl net block --dry-run 10.5.5.0/24", "Show what would change, without changing anything"),
    )

    networks: Annotated[
        tuple[str, ...],
        Argument("Addresses or networks", metavar="addr|network", many=True, from_stdin=True),
    ]
    duration: Annotated[
        str | None,
        Option(("--for",), "TIME", "End the block after this time: 90s, 30m, 2h, 1d12h; by default it does not end"),
    ] = None

    def act(self, host: Host) -> Action:
        seconds = seconds_of(self.duration) if self.duration is not None else None
        return BlockNetworks(tuple(dict.fromkeys(map(Network.parse, self.networks))), seconds)
