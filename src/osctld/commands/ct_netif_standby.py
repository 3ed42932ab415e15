"""Keep networks for an interface and let another host route them."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.authority.claims import ClaimKind
from osctld.core.authority.held import HoldingState
from osctld.core.choosing import NetworksOrAll, chosen
from osctld.core.command import ContainerName, EditCommand, Edited, Example, InterfaceName
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused


class CtNetifStandby(EditCommand, frozen=True, kw_only=True):
    """Put routed networks of an interface on standby: reserve them for it, but do not route them.

    For an address that two hosts can serve, one at a time: the host that does not serve it now gives it to nobody else,
    sends packets for it where its other routes lead, and routes it within a second after `ct netif take`. The container
    itself keeps the address; one on a bridge it loses until then, because there it would answer for it. An authority
    above this host is told that it is free.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "standby")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif standby myct01 eth0 1.2.3.4", "Leave an address to another host"),
        Example("osctl ct netif standby --dry-run myct01 eth0 all", "Show what leaving all of them would change"),
    )

    container: ContainerName
    netif: InterfaceName
    networks: NetworksOrAll

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        interface = before.interface(self.netif)
        reached = {
            claim.network
            for claims in interface.claims(before.name)
            if claims.kind is ClaimKind.ROUTE or claims.link
            for claim in claims
        }
        named = chosen(self.networks, sorted(each for each in reached if each not in before.parked))
        for typed, network in named.items():
            if network not in reached:
                how = "routed" if interface.bridge is None else "assigned"
                raise Refused(f"{typed}: not {how} to {self.netif} of {before.name}", code="not-routed", subject=typed)
            if before.set_aside.get(network) is HoldingState.PARKED:
                raise Refused(
                    f"{typed}: parked, because somebody else was found to hold it", code="parked", subject=typed
                )
        after = before.with_standby(frozenset(before.standby) | frozenset(named.values()))
        return Edited(host.with_container(after), after.name)
