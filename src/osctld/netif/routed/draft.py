"""A routed interface while it is edited: many steps of one command cost little more than one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

from osctld.core.address.addresses import (
    BITS,
    Address,
    InterfaceAddress,
    Network,
    PackedNetwork,
    any_inside,
    overlaps_not_routable,
    read_networks,
    reason_not_routable,
)
from osctld.core.address.addresses import reason_not_unicast as reason_not_assignable
from osctld.core.address.network_table import NetworkTable, by_length
from osctld.core.address.via import Via
from osctld.core.errors import Refused
from osctld.netif.routed.networks import RoutedNetwork, RoutedNetworks, Routing

#: From this number of networks, those that one command routes are checked together.
_MANY = 64


class Draft:
    """Vias, addresses, routes and permitted sources of one interface, to be changed step by step.

    A step that makes no sense raises Refused, and then the draft is of no more use.
    """

    def __init__(
        self,
        name: str,
        *,
        vias: Mapping[int, Via],
        addresses: Iterable[InterfaceAddress],
        routes: RoutedNetworks,
        sources: Iterable[Network] = (),
    ) -> None:
        self.name = name
        self._vias = dict(vias)
        # In order; an address is assigned once, and a network routed once.
        self._addresses = {each.address: each for each in addresses}
        self._routes = routes.table.copy()
        self._sources: NetworkTable[None] = NetworkTable()
        for each in sources:
            self._sources.put(each.packed, None)

    @property
    def vias(self) -> Mapping[int, Via]:
        return self._vias

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        return tuple(self._addresses.values())

    @property
    def routes(self) -> RoutedNetworks:
        return RoutedNetworks(self._routes.copy())

    @property
    def sources(self) -> tuple[Network, ...]:
        return tuple(map(Network.from_packed, self._sources))

    def routing(self, what: Address | Network | InterfaceAddress) -> Network | None:
        """The widest network, route or via, that includes all of `what`; None when none does."""
        found = self._routes.widest(what)
        via = self._vias.get(what.version)
        if via is not None and via.network.includes(what) and (found is None or via.network.length < found.length):
            return via.network
        return found

    def has(self, address: InterfaceAddress, *, typed: str) -> bool:
        """Whether an address is assigned, with the prefix length that was typed, if one was."""
        there = self._addresses.get(address.address)
        if there is None:
            return False
        via = self._vias.get(address.version)
        # A container end has the prefix length of its via, whatever it was added with.
        is_end = via is not None and address.address == via.container_end
        return "/" not in typed or is_end or there.length == address.length

    # --- addresses ------------------------------------------------------------------------------------------------

    def assign(self, address: InterfaceAddress, *, route: bool = True, route_as: Network | None = None) -> None:
        """Assign an address and, unless told otherwise or something here includes it already, route its network.

        Raises Refused when the address is assigned already, cannot be, or does not match `route_as`.
        """
        reason = reason_not_assignable(address.address)
        if reason is not None:
            raise Refused(f"{address}: cannot be assigned, it is {reason}", code="bad-address", subject=str(address))
        if address.network.is_default:
            # The guest's kernel would take the whole world for this link's own network.
            raise Refused(
                f"{address}: cannot be assigned, a prefix length of 0 means everything",
                code="bad-address",
                subject=str(address),
            )
        there = self._addresses.get(address.address)
        if there is not None:
            raise Refused(
                f"{address.short}: this address is already assigned to {self.name}"
                + (f" as {there}" if there != address else ""),
                code="address-assigned",
                subject=str(address),
            )
        via = self._via(address.version, subject=address.short)
        if route_as is not None:
            self._check_route_as(address, route_as)
        self._check_against_via(address)
        if address.address == via.container_end:
            # Only a place in the order: the live address stays as the via made it, with the via's prefix length.
            self._addresses[address.address] = via.container_address
            return
        self._addresses[address.address] = address
        if route_as is not None:
            if self.routing(route_as) is None:
                self._add_route(route_as, is_automatic=True, typed=address.short)
        elif route and not via.network.includes(address) and self.routing(address.network) is None:
            self._add_route(address.network, is_automatic=True, typed=address.short)

    def _check_route_as(self, address: InterfaceAddress, route_as: Network) -> None:
        if route_as.version != address.version:
            raise Refused(
                f"{route_as}: IP version mismatch, {address.short} is IPv{address.version}",
                code="version-mismatch",
                subject=str(route_as),
            )
        if not route_as.includes(address):
            raise Refused(f"{route_as} does not include {address.short}", code="not-included", subject=str(route_as))

    def _check_against_via(self, address: InterfaceAddress) -> None:
        via = self._vias.get(address.version)
        if via is None or not via.network.includes(address):
            return
        if address.address == via.host_end:
            raise Refused(
                f"{address.short} is the host's address in {via.network}", code="host-end", subject=str(address)
            )
        reason = via.reason_not_usable(address.address)
        if reason is not None:
            raise Refused(f"{address.short} is {reason}", code="bad-address", subject=str(address))

    def take(self, addresses: Iterable[InterfaceAddress], *, keep_route: bool = False) -> tuple[RoutedNetwork, ...]:
        """Take assigned addresses away, and the routes that came with them unless other addresses need those.

        With `keep_route` those become the operator's, except for networks of addresses that stay. Routes that had one
        of the addresses as next hop go in any case, and are returned; an address that was routed by one of them alone
        gets a route of its own.
        """
        gone = {each.address: each for each in addresses}
        for address in gone:
            self._addresses.pop(address, None)
        came_with = dict.fromkeys(packed for each in gone.values() for packed in self._routes.including(each))
        candidates = [packed for packed in came_with if self._routes.values[packed].is_automatic]
        if keep_route:
            staying = {each.network.packed for each in self._addresses.values()}
            of_others = staying - {each.network.packed for each in gone.values()}
            for packed in candidates:
                if packed not in of_others:
                    self._routes.put(packed, Routing(is_automatic=False))
        else:
            self._drop_unneeded(candidates)
        broken = tuple(
            RoutedNetwork.of(packed, how) for packed, how in self._routes.values.items() if how.next_hop in gone
        )
        if broken:
            routed = [each for each in self._addresses.values() if self.routing(each) is not None]
            for each in broken:
                self._routes.pop(each.network.packed)
            self._route_again(routed, typed=str(broken[0].network))
        return broken

    def _drop_unneeded(self, candidates: Iterable[PackedNetwork]) -> None:
        """Remove those of these routes by which alone no assigned address is routed."""
        ordered = sorted(self._addresses)
        for packed in candidates:
            network = Network.from_packed(packed)
            inside = ordered[bisect_left(ordered, network.address) : bisect_right(ordered, network.last)]
            if not any(self._is_only_way(network, each) for each in inside):
                self._routes.pop(packed)

    def _is_only_way(self, network: Network, address: Address) -> bool:
        """Whether an address is routed by this network of ours and by nothing else."""
        via = self._vias.get(address.version)
        return (via is None or not via.network.includes(address)) and [*self._routes.including(address)] == [
            network.packed
        ]

    def _route_again(self, addresses: Iterable[InterfaceAddress], *, typed: str) -> None:
        """Give each of these addresses that is no longer routed a route of its own."""
        for each in addresses:
            if each.address in self._addresses and self.routing(each) is None:
                self._add_route(each.address.as_network(), is_automatic=True, typed=typed)

    def place(self, address: InterfaceAddress, *, before: InterfaceAddress | None) -> None:
        """Move an assigned address before another one, or to the front."""
        rest = [each for each in self._addresses.values() if each != address]
        at = 0 if before is None else rest.index(before)
        self._addresses = {each.address: each for each in (*rest[:at], address, *rest[at:])}

    # --- routes ---------------------------------------------------------------------------------------------------

    def route(self, network: Network, *, typed: str, next_hop: InterfaceAddress | None = None) -> None:
        """Route a network for the operator. An equal automatic route becomes the operator's.

        Raises Refused when it is routed here already, or can never be.
        """
        hop = self._hop(network, next_hop, typed=typed)
        present = self._routes.get(network.packed)
        if present is not None and present.is_automatic:
            self._routes.put(network.packed, Routing(is_automatic=False, next_hop=hop))
            return
        reason = reason_not_routable(network)
        if reason is not None:
            raise Refused(f"{typed}: cannot be routed, it overlaps {reason}", code="bad-network", subject=typed)
        self._via(network.version, subject=typed)
        around = self.routing(network)
        if around is not None:
            inside = "" if around == network else f", inside {around}"
            raise Refused(
                f"{typed}: this address is already routed to {self.name}{inside}",
                code="already-routed",
                subject=typed,
            )
        self._add_route(network, is_automatic=False, typed=typed, next_hop=hop)

    def adopt(self, route: RoutedNetwork, *, next_hop: InterfaceAddress | None) -> None:
        """Take over a route of another interface, unless it is routed here already. Raises Refused if it cannot be."""
        if self.routing(route.network) is None:
            self._via(route.network.version, subject=str(route.network))
            hop = self._hop(route.network, next_hop, typed=str(route.network))
            self._add_route(route.network, is_automatic=route.is_automatic, typed=str(route.network), next_hop=hop)

    def route_all(self, texts: Sequence[str], *, next_hop: InterfaceAddress | None = None) -> None:
        """Route many networks for the operator, each as `route` does one after the other."""
        if len(texts) >= _MANY and self._route_plainly(read_networks(texts), next_hop):
            return
        for text in texts:
            self.route(Network.parse(text), typed=text, next_hop=next_hop)

    def _route_plainly(self, networks: Sequence[PackedNetwork], next_hop: InterfaceAddress | None) -> bool:
        """Route networks of which nothing need be said; False when there may be something, and then nothing was done.

        All are of one version and length, as in long lists, so that they overlap only if they are equal; and no network
        that is routed already is wider.
        """
        kinds = by_length(networks)
        if len(kinds) != 1:
            return False
        ((version, length),) = kinds
        via = self._vias.get(version)
        if via is None or length == 0 or (next_hop is not None and next_hop.version != version):
            return False
        ordered = sorted(networks)
        shortest = min(self._routes.lengths(version), default=length)
        if overlaps_not_routable(version, ordered, length) or shortest < length:
            return False
        host_bits = BITS[version] - length
        in_the_way = [
            Network(version, end.number >> host_bits << host_bits, length) for end in (via.host_end, via.container_end)
        ]
        if via.network.length <= length:
            in_the_way.append(via.network)
        if any(any_inside(ordered, each) for each in in_the_way):
            return False
        hop = None if next_hop is None or next_hop.address == via.container_end else next_hop.address
        return self._routes.put_new(networks, Routing(is_automatic=False, next_hop=hop))

    def _hop(self, network: Network, next_hop: InterfaceAddress | None, *, typed: str) -> Address | None:
        """The next hop to remember: none where it is the container end."""
        if next_hop is None:
            return None
        if next_hop.version != network.version:
            raise Refused(
                f"{typed}: IP version mismatch, the next hop {next_hop.address} is IPv{next_hop.version}",
                code="version-mismatch",
                subject=typed,
            )
        via = self._via(network.version, subject=typed)
        return None if next_hop.address == via.container_end else next_hop.address

    def unroute(self, network: Network, *, typed: str) -> None:
        """Raise Refused if there is no such route."""
        if network.packed not in self._routes:
            raise Refused(f"{typed}: route not found on {self.name}", code="route-not-found", subject=typed)
        self._routes.pop(network.packed)

    def _add_route(self, network: Network, *, is_automatic: bool, typed: str, next_hop: Address | None = None) -> None:
        """Raise Refused, quoting what was typed, when the network can never be routed here."""
        reason = reason_not_routable(network)
        if reason is not None:
            what = str(network) if typed == str(network) else f"{typed}: {network}"
            raise Refused(f"{what}: cannot be routed, it overlaps {reason}", code="bad-network", subject=typed)
        via = self._vias[network.version]
        for name, end in (("host", via.host_end), ("container", via.container_end)):
            if network.includes(end):
                what = str(network) if typed == str(network) else f"{typed}: {network}"
                raise Refused(
                    f"{what}: cannot be routed via {via.network}, it contains the {name} address {end}",
                    code="contains-via",
                    subject=typed,
                )
        self._routes.put(network.packed, Routing(is_automatic, next_hop))

    # --- sources --------------------------------------------------------------------------------------------------

    def permit(self, network: Network, *, typed: str, is_forced: bool = False) -> None:
        """Let packets come from a network although nothing of it is routed here; from everywhere only when forced.

        Raises Refused when they may already, or no packet can come from there.
        """
        if network.is_default:
            if not is_forced:
                raise Refused(
                    f"{typed}: stands for everything, {self.name} could send from any address;"
                    " --allow-foreign-source permits it",
                    code="permits-everything",
                    subject=typed,
                )
        elif reason := reason_not_routable(network):
            raise Refused(f"{typed}: cannot be a source, it overlaps {reason}", code="bad-network", subject=typed)
        self._via(network.version, subject=typed)
        around = self._sources.widest(network)
        if around is not None:
            inside = "" if around == network else f", inside {around}"
            raise Refused(
                f"{typed}: already permitted to {self.name}{inside}",
                code="already-permitted",
                subject=typed,
            )
        self._sources.put(network.packed, None)

    def forbid(self, network: Network, *, typed: str) -> None:
        """Raise Refused when that network was not permitted."""
        if network.packed not in self._sources:
            raise Refused(f"{typed}: source not found on {self.name}", code="source-not-found", subject=typed)
        self._sources.pop(network.packed)

    # --- vias -----------------------------------------------------------------------------------------------------

    def change_vias(self, vias: Mapping[int, Via]) -> None:
        """Change the vias of the versions that are named, keep the others.

        An assigned address that was on-link in the old network and is nowhere routed then gets a route of its
        own. The container end, if it was given a place in the order, keeps that place. Raises Refused when a via
        makes no sense beside what is routed or assigned.
        """
        old = dict(self._vias)
        routed = [each for each in self._addresses.values() if self.routing(each) is not None]
        self._vias.update(vias)
        for version, via in vias.items():
            self._move_container_end(old.get(version), via)
            for route in self.routes:
                self._fit_route(route, via)
        for address in self._addresses.values():
            self._check_against_via(address)
        for address in routed:
            # One that was the old container end bears the new one's address by now.
            if address.version in vias and address.address in self._addresses:
                self._route_again([address], typed=str(old[address.version].network))

    def remove_via(self, version: int) -> None:
        """Raise Refused, naming them, when something of the version would be left without a way."""
        if version not in self._vias:
            raise Refused(
                f"{self.name}: network interface not configured for IPv{version}",
                code="no-via",
                subject=str(version),
            )
        for what, present in (
            ("routes", [str(each.network) for each in self.routes if each.network.version == version]),
            ("addresses", [each.short for each in self._addresses.values() if each.version == version]),
            ("sources", [str(each) for each in self.sources if each.version == version]),
        ):
            if present:
                raise Refused(
                    f"{self.name}: expected network for IPv{version}, there are {what} present: {_few(present)}",
                    code="via-needed",
                    subject=str(version),
                    holder=present[0],
                )
        del self._vias[version]

    def _move_container_end(self, old: Via | None, new: Via) -> None:
        """Let the new container end take the place that the old one, or an equal address, was given."""
        ends = {new.container_end} | ({old.container_end} if old is not None else set())
        if ends.isdisjoint(self._addresses):
            return
        moved: dict[Address, InterfaceAddress] = {}
        for each in self._addresses.values():
            kept = new.container_address if each.address in ends else each
            moved.setdefault(kept.address, kept)
        self._addresses = moved

    def _fit_route(self, route: RoutedNetwork, via: Via) -> None:
        if route.network.version != via.version:
            return
        if route.is_automatic and via.network.includes(route.network):
            # What an address inside the new network was routed by is superfluous now, and may contain an end.
            self._routes.pop(route.network.packed)
            return
        for end in (via.host_end, via.container_end):
            if route.network.includes(end):
                raise Refused(
                    f"{via.network}: its end {end} is inside {route.network}, which is routed to {self.name}",
                    code="bad-via",
                    subject=str(via.network),
                )
        if route.next_hop == via.container_end:
            self._routes.put(route.network.packed, Routing(route.is_automatic))

    def _via(self, version: int, *, subject: str) -> Via:
        if version not in self._vias:
            raise Refused(
                f"{subject}: network interface not configured for IPv{version}", code="no-via", subject=subject
            )
        return self._vias[version]


def _few(names: list[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
