"""Networks that an operator blocks on purpose: the host drops packets to them until they are unblocked.

A block is a null route of our own. What is routed to containers yields to it as to anybody's (`null_routes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from osctld.core.address.addresses import BITS, Network
from osctld.core.authority.claims import ClaimKind
from osctld.core.authority.host_networks import HostSpace, Use
from osctld.core.authority.rules import Holdings
from osctld.core.errors import Conflict, Refused, UsageError
from osctld.core.person import NOBODY, Person
from osctld.core.plan.kernel_state import HOST, Route, RouteKind

#: The longest block that expires: ten years, in seconds.
LONGEST = 10 * 366 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Block(msgspec.Struct, frozen=True):
    """A blocked network: since and until when (seconds since 1970), by whom, and by which command."""

    network: Network
    since: float = 0.0
    until: float | None = None
    by: Person = NOBODY
    command: str = ""

    def __str__(self) -> str:
        return f"osctl net block {self.subject}"

    @property
    def subject(self) -> str:
        """The address alone where it is one, else the network."""
        whole = BITS[self.network.version]
        return str(self.network.address) if self.network.length == whole else str(self.network)

    @property
    def removal(self) -> str:
        """The command that takes it away."""
        return f"osctl net unblock {self.subject}"


def routes_of(blocks: Iterable[Block], *, protocol: int, ipv6_metric: int) -> Iterable[Route]:
    """The null routes of blocks, where routes to the same networks would be."""
    for each in blocks:
        metric = 0 if each.network.version == 4 else ipv6_metric
        yield Route(HOST, each.network, "", None, protocol, metric, kind=RouteKind.BLACKHOLE)


def check_blockable(
    network: Network, holdings: Holdings, space: HostSpace, ends: Callable[[Network], Iterable[str]]
) -> None:
    """Raise Refused for a network of which containers hold nothing, or that has an end of an interconnecting network,
    which `ends` returns as text; Conflict for one of the host's."""
    subject = str(network)
    for there in space.overlapping(network):
        is_of_host = there.use in (Use.ADDRESS, Use.NEXT_HOP) and network.includes(there.network)
        if is_of_host or (there.use is Use.CONNECTED and network.includes(there.network)):
            asked = f"{network}: {there}" if there.network != network else f"{network} is {there.is_what}"
            raise Conflict(asked, code="host-uses", subject=subject, holder=str(there))
    held = list(holdings.overlapping(network))
    if not held:
        raise Refused(f"{network}: held by no container", code="not-held", subject=subject)
    for claim in held:
        if claim.kind is ClaimKind.VIA:
            for end in ends(claim.network):
                raise Refused(
                    f"{network}: {end} is an end of {claim.network}, the interconnecting network of {claim.holder}, "
                    "without which it is unreachable",
                    code="needed",
                    subject=subject,
                    holder=str(claim.holder),
                )


def seconds_of(text: str) -> int:
    """A duration as it was typed: 90s, 30m, 2h, 1d12h; a number alone is in seconds. Raises UsageError."""
    parts = re.findall(r"(\d+)([smhdw]?)", text, re.ASCII)
    is_whole = "".join(number + unit for number, unit in parts) == text
    if is_whole and parts and (len(parts) == 1 or all(unit for _, unit in parts)):
        seconds = sum(int(number) * _UNITS[unit or "s"] for number, unit in parts)
        if 0 < seconds <= LONGEST:
            return seconds
    raise UsageError(f"invalid argument: --for {text} (expected a duration such as 90s, 30m, 2h or 1d12h)")
