"""Take what is parked."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import Network
from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example, InterfaceName
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused, UsageError

#: Instead of networks by name: all that are parked.
ALL = "all"


class CtNetifTake(EditCommand, frozen=True, kw_only=True):
    """Take networks of an interface that are parked, for somebody else was found to hold them.

    That happens when a host comes back with an older state than the authority on addresses knows, from a backup for
    example. What is parked is not routed. It can be taken when nobody else holds it any more.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "take")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif take myct01 eth0 all", "Have back what another host has given up"),
    )

    container: ContainerName
    netif: InterfaceName
    networks: Annotated[
        tuple[str, ...],
        Argument(f"Networks, or {ALL}", metavar="network", many=True, completes="route", keywords=(ALL,)),
    ]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        interface = before.interface(self.netif)
        held = {claim.network for claims in interface.claims(before.name) for claim in claims}
        parked = [each for each in before.parked if each in held]
        if ALL in self.networks and len(self.networks) > 1:
            raise UsageError(f"{' '.join(self.networks)}: {ALL} stands for everything, give it alone")
        chosen = parked if self.networks == (ALL,) else [Network.parse(each) for each in self.networks]
        for typed, each in zip(self.networks, chosen, strict=False):
            if each not in parked:
                raise Refused(f"{typed}: not parked on {self.netif} of {before.name}", code="not-parked", subject=typed)
        after = before.with_parked(each for each in before.parked if each not in chosen)
        return Edited(host.with_container(after), after.name, taken=tuple(chosen))
