"""Assign addresses."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.command import (
    VERSION_SHORTHANDS,
    ContainerName,
    EditCommand,
    Edited,
    Example,
    Flag,
    OnlyInterface,
    Option,
)
from osctld.core.config.address_pools import find_pool, next_address, pools_of
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Conflict, Refused, UsageError
from osctld.netif.link_options import Delegate, Force, OverlapHost
from osctld.netif.routed.commands import words_to_add
from osctld.netif.routed.interface import check_broadcasts, routed_interface


class CtNetifIpAdd(EditCommand, frozen=True, kw_only=True):
    """Assign addresses to an interface, in the order given, and route them unless they are already routed to it.

    An address without a prefix length is a /32 or /128. What is routed is the network of the address.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "add")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip add myct01 eth0 1.2.3.6/32", "Assign an address, and route it to the container"),
        Example("osctl ct netif ip add myct01 eth0 198.51.100.1/24", "Assign an address, and route its network"),
        Example(
            "osctl ct netif ip add --dry-run myct01 eth0 1.2.3.7 2001:db8:2::7",
            "Show what two more addresses would change, without changing anything",
        ),
        Example("osctl ct netif ip add --from-pool web myct01 eth0", "Assign the next free address of a pool"),
        Example(
            "osctl ct netif ip add --if-needed myct01 eth0 1.2.3.4/32",
            "Assign an address unless it is already assigned, as configuration management does",
        ),
        Example(
            "osctl ct netif ip add --no-route myct01 eth0 192.168.7.1/24",
            "Assign an address without routing it",
        ),
        Example(
            "osctl ct netif ip add --route-as 203.0.113.0/28 myct01 eth0 203.0.113.1",
            "Route a network, and assign one address of it",
        ),
    )

    container: ContainerName
    netif: OnlyInterface = None
    addresses: Annotated[tuple[str, ...], words_to_add("Addresses; omitted with --from-pool", "addr")] = ()
    route: Annotated[bool, Flag(("--route",), "Route the addresses (the default)", negatable=True)] = True
    route_as: Annotated[
        str | None, Option(("--route-as",), "NETWORK", "Route this network, which includes the addresses")
    ] = None
    if_needed: Annotated[bool, Flag(("--if-needed",), "Skip addresses that are already assigned")] = False
    from_pool: Annotated[
        str | None,
        Option(("--from-pool",), "NAME", "Assign the next free address of this pool, and print it", completes="pool"),
    ] = None
    version: Annotated[
        int | None,
        Option(
            ("-v", "--version"),
            "4|6",
            "With --from-pool: an address of this IP version",
            choices=("4", "6"),
            shorthands=VERSION_SHORTHANDS,
        ),
    ] = None
    delegate: Delegate = False
    overlap_host: OverlapHost = False
    force: Force = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        before = host.container(self.container)
        interface = routed_interface(before, self.netif)
        if self.route_as is not None and not self.route:
            raise UsageError(f"--route-as {self.route_as}: cannot be used with --no-route")
        route_as = Network.parse(self.route_as) if self.route_as is not None else None
        draft = interface.draft()
        parsed = []
        suggestions = {}
        given = self._from_pool(host, surroundings)
        for text in given or self.addresses:
            address = InterfaceAddress.parse(text)
            if self.if_needed and draft.has(address, typed=text):
                continue
            single = address.address.as_network()
            # Nobody is sent to what is refused, too.
            is_unused = surroundings.is_unused(single, container=before.name)
            suggestion = f"assign {single} instead" if is_unused else f"it comes with {address}"
            try:
                draft.assign(address, route=self.route, route_as=route_as)
            except Refused as refused:
                quoted = refused.quoting(text)
                is_too_wide = quoted.code == "contains-via" and route_as is None
                raise quoted.suggesting(suggestion) if is_too_wide and is_unused else quoted from None
            parsed.append(address)
            suggestions[address.network] = suggestion
        after = before.with_interface(interface.with_draft(draft))
        check_broadcasts(after)
        made = draft.routes.networks_beside(interface.routes)
        wide = [each for each in made if each.size > 1]
        made_here = frozenset(made)
        told = {network: suggestions[network] for network in wide if network in suggestions}
        for network, suggestion in told.items():
            _check_nobody_is_there(surroundings, network, suggestion, is_forced=self.force or self.overlap_host)
        holder = before.holder(interface)
        surroundings.check_assigned(parsed, holder, is_forced=self.force or self.overlap_host)
        surroundings.check_not_delegated(
            holder,
            (each for each in parsed if each.address.as_network() not in made_here and interface.is_routed(each)),
        )
        is_delegation_allowed = self.force or self.delegate
        if is_delegation_allowed:
            surroundings.check_delegation(host, before, after)
        return Edited(
            host.with_container(after),
            after.name,
            messages=(*given, *(f"routed {network} ({network.size} addresses)" for network in wide)),
            suggestions=told,
            is_delegation_allowed=is_delegation_allowed,
            is_overlap_allowed=self.force or self.overlap_host,
        )

    def _from_pool(self, host: Host, surroundings: Surroundings) -> tuple[str, ...]:
        """The address that the named pool gives; nothing without one."""
        if self.from_pool is None:
            if not self.addresses:
                raise UsageError("missing argument <addr>, or --from-pool NAME")
            if self.version is not None:
                raise UsageError(f"-v {self.version}: requires --from-pool, cannot be used with {self.addresses[0]}")
            return ()
        if self.addresses:
            raise UsageError(f"--from-pool {self.from_pool}: cannot be used with {self.addresses[0]}")
        pool = find_pool(pools_of(host.settings), self.from_pool)
        resting = pool.resting(surroundings.released)
        found = next_address(
            pool, holdings=surroundings.holdings, space=surroundings.networks, resting=resting, version=self.version
        )
        return (str(found),)


def _check_nobody_is_there(surroundings: Surroundings, network: Network, suggestion: str, *, is_forced: bool) -> None:
    """A network that is routed along with one of its addresses must be free: it was not named as a whole."""
    try:
        surroundings.check_free_on_host(network, is_forced=is_forced)
    except Conflict as conflict:
        raise conflict.suggesting(suggestion) from None
