"""What an edit has to know beside the configuration: who holds what, and what the host itself uses. It was observed
before: an edit does no I/O. Every edit is given all of it, so that no command has to say in advance what it will need;
to observe it costs nothing as long as nothing changed on the host (`osctld.shell.kernel.host_networks`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

import msgspec

from osctld.core.address.addresses import InterfaceAddress, Network, PackedNetwork
from osctld.core.authority import rules
from osctld.core.authority.claims import ClaimsChange, Holder
from osctld.core.authority.host_networks import HostSpace, Use
from osctld.core.authority.rules import Holdings, comes_to_need, held_by, is_given_on, needed_by_its_holder
from osctld.core.config.host import Container, Host, Interface
from osctld.core.errors import Conflict
from osctld.core.plan.kernel_state import HostLink


class Surroundings(msgspec.Struct, frozen=True):
    """The world as an edit finds it.

    `holdings`: who holds what, good until the change that the edit is for is saved. `networks`: what the host itself
    uses. `released`: addresses that were given back, each with the seconds since then. `host_link` is a link of
    the host that an edit names, as it is at that moment; None if there is none.
    """

    holdings: Holdings
    networks: HostSpace = HostSpace()
    released: Mapping[PackedNetwork, float] = {}
    host_link: Callable[[str], HostLink | None] = lambda _: None

    def check_free_on_host(self, network: Network, *, is_forced: bool = False) -> None:
        """Raise Conflict when the host itself uses a part of the network.

        With `is_forced`, only if it includes an address of the host, or a network or broadcast address of its networks.
        """
        rules.check_free_on_host(network, self.networks, is_forced=is_forced)

    def check_assigned(self, addresses: Iterable[InterfaceAddress], holder: Holder, *, is_forced: bool = False) -> None:
        """Raise Conflict when an address is the host's, though it lies in what its holder holds already."""
        rules.check_assigned(addresses, holder, self.networks, is_forced=is_forced)

    def check_unused(self, network: Network, *, container: str) -> None:
        """Raise Conflict when another container, or the host itself, uses a part of the network."""
        for there in self.holdings.overlapping(network):
            if there.holder.container != container:
                raise Conflict(
                    f"{network}: {there}; --allow-foreign-source permits it",
                    code="address-held",
                    subject=str(network),
                    holder=str(there.holder),
                )
        for each in self.networks.overlapping(network):
            if each.use not in (Use.LEARNED, Use.NEXT_HOP):
                raise Conflict(
                    f"{network}: {each}; --allow-foreign-source permits it",
                    code="host-uses",
                    subject=str(network),
                    holder=str(each),
                )

    def is_unused(self, network: Network, *, container: str) -> bool:
        """Whether no other container, nor the host itself, uses a part of the network, as far as this host knows.

        What lies in a network of one of its links may be used once that is declared.
        """
        others = (each for each in self.holdings.overlapping(network) if each.holder.container != container)
        uses = (each for each in self.networks.overlapping(network) if each.use not in (Use.LEARNED, Use.CONNECTED))
        return not any(True for _ in itertools.chain(others, uses))

    def check_delegation(self, host: Host, before: Container, after: Container) -> None:
        """Raise Conflict when what `after` adds is a part of another's network that the other needs itself."""
        for claim in itertools.chain.from_iterable(ClaimsChange.between(before.claims(), after.claims()).added):
            for there in self.holdings.overlapping(claim.network):
                holder = after if there.holder.container == after.name else host.container(there.holder.container)
                reason = needed_by_its_holder(claim, there, holder.interface(there.holder.interface))
                if reason is not None:
                    raise Conflict(
                        f"{claim.network}: {reason} of {holder.name}",
                        code="address-held",
                        subject=str(claim.network),
                        holder=str(there.holder),
                    )

    def check_not_delegated(self, holder: Holder, addresses: Iterable[InterfaceAddress]) -> None:
        """Raise Conflict when an address, inside of what the holder routes itself, was given on to another."""
        for address in addresses:
            there = is_given_on(address.address.as_network(), holder, self.holdings)
            if there is not None:
                raise held_by(there, address.address.as_network())

    def check_needs_nothing_given_on(self, holder: Holder, interface: Interface, network: Network) -> None:
        """Raise Conflict when the holder's interface needs a part of its network that was given on to another."""
        for there in self.holdings.overlapping(network):
            reason = comes_to_need(there, holder, network, interface)
            if reason is not None:
                raise Conflict(
                    f"{there}, but {reason}",
                    code="address-held",
                    subject=str(there.network),
                    holder=str(there.holder),
                )
