"""Move addresses to another interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example, Flag, InterfaceName
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused, UsageError
from osctld.netif.addressed import check_broadcasts
from osctld.netif.command_parts import ALL, words_to_take
from osctld.netif.routed.interface import routed_interface
from osctld.netif.routed.move import movable, move


class CtNetifIpMove(EditCommand, frozen=True, kw_only=True):
    """Move addresses from one interface to another, of the same container or of another one, in one change.

    Their routes move with them and their order is kept; they follow the addresses that the other interface already has.
    Running containers stay reachable: the host's route is replaced. Either everything is moved or nothing.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "move")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip move myct01 eth0 myct02 eth0 1.2.3.4", "Give an address to another container"),
        Example(
            "osctl ct netif ip move --dry-run myct01 eth0 myct02 eth0 all", "Show what moving all of them would change"
        ),
    )

    container: ContainerName
    netif: InterfaceName
    to_container: Annotated[str, Argument("Container to move them to", metavar="to-ct", completes="container")]
    to_netif: Annotated[str, Argument("Interface to move them to", metavar="to-netif", completes="interface")]
    addresses: Annotated[tuple[str, ...], words_to_take("Addresses", "addr", completes="address")]
    force: Annotated[
        bool,
        Flag(
            ("-f", "--force", "--delegate"),
            "Also move an address whose network stays routed to the first interface: it is delegated",
        ),
    ] = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before, to = host.container(self.container), host.container(self.to_container)
        source, target = routed_interface(before, self.netif), routed_interface(to, self.to_netif)
        if source.uuid == target.uuid:
            raise Refused(f"{self.netif} of {before.name}: the addresses are already on this interface", code="same")
        if ALL in self.addresses and len(self.addresses) > 1:
            raise UsageError(f"{' '.join(self.addresses)}: {ALL} cannot be combined with other values")
        chosen = movable(source) if self.addresses == (ALL,) else source.all_assigned(self.addresses)
        moved = move(source, target, chosen, is_forced=self.force)
        surroundings.check_assigned(chosen, to.holder(target), is_forced=True)
        after = before.with_interface(moved.source)
        if to.name == before.name:
            after = after.with_interface(moved.target)
            check_broadcasts(after)
            return Edited(
                host.with_container(after), after.name, is_delegation_allowed=self.force, is_overlap_allowed=self.force
            )
        for network, state in before.set_aside.items():
            if network.packed in moved.target.routes.table and network.packed not in target.routes.table:
                # The other container would get it at once, without the check whether it may.
                raise Refused(
                    f"{network}: {state.value} on {self.netif} of {before.name};"
                    f" osctl ct netif take {before.name} {self.netif} {network}",
                    code="set-aside",
                    subject=str(network),
                )
        to_after = to.with_interface(moved.target)
        check_broadcasts(to_after)
        if self.force:
            surroundings.check_delegation(host.with_container(after), to, to_after)
        return Edited(
            host.with_container(after).with_container(to_after),
            after.name,
            others=(to_after.name,),
            is_delegation_allowed=self.force,
            is_overlap_allowed=self.force,
        )
