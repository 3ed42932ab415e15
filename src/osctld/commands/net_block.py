"""Block networks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import seconds_of
from osctld.core.command import ActCommand, Action, Argument, BlockNetworks, Example, Option
from osctld.core.config.host import Host


class NetBlock(ActCommand, frozen=True, kw_only=True):
    """Drop on the host what is sent to addresses or networks of containers, to defend the host against an attack.

    A null route takes the place of what is routed to the container, and of all routes to networks inside. The container
    runs on and is told nothing, and what else it has is reached as before. The block outlasts restarts and reboots, and
    ends with osctl net unblock, or after --for. Again with another time it ends then.
    """

    words: ClassVar[tuple[str, ...]] = ("net", "block")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl net block --for 2h 1.2.3.4", "Drop what is sent to an address, for two hours"),
        Example("osctl net block --dry-run 10.5.5.0/24", "Show what would change, without changing anything"),
    )

    networks: Annotated[
        tuple[str, ...],
        Argument("Addresses or networks", metavar="addr|network", many=True, from_stdin=True),
    ]
    duration: Annotated[
        str | None, Option(("--for",), "TIME", "End after this time: 90s, 30m, 2h, 1d12h; without it, never")
    ] = None

    def act(self, host: Host) -> Action:
        seconds = seconds_of(self.duration) if self.duration is not None else None
        return BlockNetworks(tuple(dict.fromkeys(map(Network.parse, self.networks))), seconds)
