"""Take what is parked or on standby."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.choosing import NetworksOrAll, chosen
from osctld.core.command import ContainerName, EditCommand, Edited, Example, InterfaceName
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused


class CtNetifTake(EditCommand, frozen=True, kw_only=True):
    """Route networks of an interface that are parked or on standby.

    A network is parked if somebody else was found to hold it because the host came back with a state older than the one
    known to the authority on addresses, for example from a backup. It can be taken once nobody else holds it. `ct netif
    standby` puts a network on standby.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "take")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif take myct01 eth0 all", "Take back what another host has given up"),
    )

    container: ContainerName
    netif: InterfaceName
    networks: NetworksOrAll

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        interface = before.interface(self.netif)
        held = {claim.network for claims in interface.claims(before.name) for claim in claims}
        named = chosen(self.networks, [each for each in before.set_aside if each in held])
        for typed, network in named.items():
            if network not in before.set_aside or network not in held:
                raise Refused(
                    f"{typed}: neither parked nor on standby on {self.netif} of {before.name}",
                    code="not-set-aside",
                    subject=typed,
                )
        taken = frozenset(named.values())
        after = before.with_parked(frozenset(before.parked) - taken)
        after = after.with_standby(frozenset(before.standby) - taken)
        return Edited(host.with_container(after), after.name, taken=tuple(named.values()))
