"""Assign addresses."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

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
from osctld.core.errors import UsageError
from osctld.netif.address_edits import ToAssign
from osctld.netif.addressed import addressed_interface
from osctld.netif.command_parts import words_to_add
from osctld.netif.link_options import Delegate, Force, OverlapHost


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
        container = host.container(self.container)
        chosen = addressed_interface(container, self.netif)
        given = self._from_pool(host, surroundings)
        wanted = ToAssign(
            typed=given or self.addresses,
            route=self.route,
            route_as=self.route_as,
            if_needed=self.if_needed,
            delegates=self.force or self.delegate,
            overlaps_host=self.force or self.overlap_host,
        )
        edited = chosen.edits.assign(host, surroundings, container, chosen.interface, wanted)
        return msgspec.structs.replace(edited, messages=(*given, *edited.messages))

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
