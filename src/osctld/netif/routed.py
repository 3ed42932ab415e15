"""Routed veth: a veth pair on no bridge, an interconnecting network, and networks routed to the container over it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from osctld.core.addresses import (
    BITS,
    Address,
    InterfaceAddress,
    Network,
    reason_not_routable,
    reason_not_unicast,
)
from osctld.core.claims import Claim, ClaimKind, Holder
from osctld.core.errors import Refused
from osctld.core.host import Container, GuestPolicy, Host, Surroundings, check_interface_name, derived_mac
from osctld.core.kernel_state import (
    HOST,
    IPV6_DEFAULT_METRIC,
    PROTOCOL_STATIC,
    AssignedAddress,
    KernelObject,
    Link,
    Namespace,
    Neighbour,
    Route,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.via import Via

#: The host end's own link-local address. With address generation off it exists at once, without duplicate address
#: detection; a tentative one would delay the first IPv6 packet from beyond the host by up to 2 s. There must be
#: one: without fe80::/64 on the link the source check would drop the guest's own link-local packets.
HOST_LINK_LOCAL = InterfaceAddress.parse("fe80::1/64")

#: Distance between the metrics of default routes of several interfaces.
METRIC_STEP = 100


class RoutedNetwork(msgspec.Struct, frozen=True):
    """A network routed to the container. Automatic ones came with an address and go with it."""

    network: Network
    is_automatic: bool


class RoutedInterface(msgspec.Struct, frozen=True):
    """What the operator asked of one routed interface.

    `addresses` are assigned in the operator's order, without the container end unless it was given a place; `routes`
    in the order they were made. `mac` is the guest's, `host_mac` the host end's, both lower case.
    """

    uuid: str
    name: str
    link: str
    mac: str
    host_mac: str
    vias: Mapping[int, Via]
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: tuple[RoutedNetwork, ...] = ()
    mtu: int | None = None
    guest_policy: GuestPolicy = GuestPolicy.REPORT

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def type_name(self) -> str:
        return "routed"

    @property
    def versions(self) -> Collection[int]:
        return self.vias.keys()

    def via(self, version: int, *, subject: str) -> Via:
        """Raise Refused, quoting the subject, when the interface has no via of the version."""
        if version not in self.vias:
            raise Refused(
                f"{subject}: network interface not configured for IPv{version}",
                code="no-via",
                subject=subject,
            )
        return self.vias[version]

    def routing(self, what: Address | Network | InterfaceAddress) -> Network | None:
        """The widest network of this interface, route or via, that includes all of `what`; None when none does."""
        candidates = [each.network for each in self.routes if each.network.includes(what)]
        via = self.vias.get(what.version)
        if via is not None and via.network.includes(what):
            candidates.append(via.network)
        return min(candidates, key=lambda network: network.length, default=None)

    def is_routed(self, address: InterfaceAddress) -> bool:
        return self.routing(address) is not None

    def source(self, version: int) -> Address:
        """The address that the guest speaks from: the first assigned one that is routed or in a public via, else
        the container end."""
        via = self.vias[version]
        for each in self.addresses:
            if each.version != version:
                continue
            if any(route.network.includes(each) for route in self.routes):
                return each.address
            if via.is_public and via.network.includes(each):
                return each.address
        return via.container_end

    def all_addresses(self, version: int) -> tuple[InterfaceAddress, ...]:
        """What is on the guest's link: the container end first, unless it was placed explicitly."""
        assigned = tuple(each for each in self.addresses if each.version == version)
        via = self.vias.get(version)
        if via is None or any(each.address == via.container_end for each in assigned):
            return assigned
        return (via.container_address, *assigned)

    # --- edits ----------------------------------------------------------------------------------------------------

    def with_vias(self, vias: Mapping[int, Via]) -> RoutedInterface:
        """Change the vias of the versions that are named, keep the others.

        An assigned address that was on-link in the old network and is nowhere routed then gets a route of its
        own. The container end, if it was given a place in the order, keeps that place. Raises Refused when a via
        makes no sense beside what is routed or assigned.
        """
        changed = msgspec.structs.replace(self, vias={**self.vias, **vias})
        for version, via in vias.items():
            changed = changed._with_container_end_in_place(self.vias.get(version), via)
            # What an address inside the new network was routed by is superfluous now, and may contain an end.
            changed = changed._with_routes(
                each for each in changed.routes if not (each.is_automatic and via.network.includes(each.network))
            )
            for each in changed.routes:
                for end in (via.host_end, via.container_end):
                    if each.network.includes(end):
                        raise Refused(
                            f"{via.network}: route {each.network} of {self.name} contains its end {end}",
                            code="bad-via",
                            subject=str(via.network),
                        )
            for address in changed.addresses:
                changed._check_against_via(address)
        for address in changed.addresses:
            if self.is_routed(address) and not changed.is_routed(address):
                changed = changed._with_route(
                    address.address.as_network(), is_automatic=True, typed=str(self.vias[address.version].network)
                )
        return changed

    def with_address(
        self, address: InterfaceAddress, *, route: bool = True, route_as: Network | None = None
    ) -> RoutedInterface:
        """Assign an address and, unless told otherwise or something here includes it already, route its network.

        Raises Refused when the address is assigned already, cannot be, or does not match `route_as`.
        """
        reason = reason_not_unicast(address.address)
        if reason is not None:
            raise Refused(f"{address} cannot be assigned: it is {reason}", code="bad-address", subject=str(address))
        if address.network.is_default:
            # The guest's kernel would take the whole world for this link's own network.
            raise Refused(
                f"{address} cannot be assigned: a prefix length of 0 means everything",
                code="bad-address",
                subject=str(address),
            )
        for each in self.addresses:
            if each.address == address.address:
                raise Refused(
                    f"{address.short}: this address is already assigned to {self.name}"
                    + (f" as {each}" if each != address else ""),
                    code="address-assigned",
                    subject=str(address),
                )
        via = self.via(address.version, subject=address.short)
        if route_as is not None:
            if route_as.version != address.version:
                raise Refused(
                    f"{route_as}: IP version mismatch, {address.short} is IPv{address.version}",
                    code="version-mismatch",
                    subject=str(route_as),
                )
            if not route_as.includes(address):
                raise Refused(
                    f"{route_as} does not include {address.short}", code="not-included", subject=str(route_as)
                )
        self._check_against_via(address)
        if address.address == via.container_end:
            # Only a place in the order: the live address stays as the via made it, with the via's prefix length.
            return msgspec.structs.replace(self, addresses=(*self.addresses, via.container_address))
        changed = msgspec.structs.replace(self, addresses=(*self.addresses, address))
        if route_as is not None:
            if self.routing(route_as) is None:
                changed = changed._with_route(route_as, is_automatic=True, typed=address.short)
        elif route and not via.network.includes(address) and self.routing(address.network) is None:
            changed = changed._with_route(address.network, is_automatic=True, typed=address.short)
        return changed

    def without_address(self, address: InterfaceAddress, *, keep_route: bool = False) -> RoutedInterface:
        """Take an assigned address away, and the route that came with it unless another address needs that.

        With `keep_route` that route becomes the operator's. `address` is one of `self.addresses`; see `assigned`.
        """
        rest = tuple(each for each in self.addresses if each != address)
        changed = msgspec.structs.replace(self, addresses=rest)
        for route in self.routes:
            if not route.is_automatic or not route.network.includes(address):
                continue
            if keep_route:
                changed = changed._with_routes(
                    RoutedNetwork(each.network, is_automatic=False) if each is route else each
                    for each in changed.routes
                )
            elif not changed._needs(route):
                changed = changed._with_routes(each for each in changed.routes if each is not route)
        return changed

    def assigned(self, text: str) -> InterfaceAddress:
        """Find an assigned address by what a person typed, with or without its prefix length.

        Raises Refused when it is not assigned.
        """
        wanted = InterfaceAddress.parse(text)
        for each in self.addresses:
            # A container end has the prefix length of its via, whatever it was added with.
            via = self.vias.get(each.version)
            has_any_length = "/" not in text or (via is not None and each.address == via.container_end)
            if each.address == wanted.address and (has_any_length or each.length == wanted.length):
                return each
        raise Refused(f"{text}: address not found on {self.name}", code="address-not-found", subject=text)

    def with_operator_route(self, network: Network, *, typed: str) -> RoutedInterface:
        """Route a network for the operator. An equal automatic route becomes the operator's.

        Raises Refused when it is routed here already, or can never be.
        """
        for each in self.routes:
            if each.network == network and each.is_automatic:
                return self._with_routes(
                    RoutedNetwork(network, is_automatic=False) if other is each else other for other in self.routes
                )
        reason = reason_not_routable(network)
        if reason is not None:
            raise Refused(f"{typed} cannot be routed: it overlaps {reason}", code="bad-network", subject=typed)
        self.via(network.version, subject=typed)
        around = self.routing(network)
        if around is not None:
            inside = "" if around == network else f", it is in {around}"
            raise Refused(
                f"{typed}: this address is already routed to {self.name}{inside}",
                code="already-routed",
                subject=typed,
            )
        return self._with_route(network, is_automatic=False, typed=typed)

    def without_route(self, network: Network, *, typed: str) -> RoutedInterface:
        """Raise Refused when there is no such route."""
        rest = tuple(each for each in self.routes if each.network != network)
        if len(rest) == len(self.routes):
            raise Refused(f"{typed}: route not found on {self.name}", code="route-not-found", subject=typed)
        return self._with_routes(rest)

    def check_still_routed(self, before: RoutedInterface, *, typed: str) -> None:
        """Raise Refused, naming them, when addresses that were routed before are not any more."""
        lost = [str(each.short) for each in self.addresses if before.is_routed(each) and not self.is_routed(each)]
        if lost:
            raise Refused(
                f"{typed}: without this route {', '.join(lost)} would be assigned but unrouted;"
                " --force leaves them so",
                code="address-needs-route",
                subject=typed,
                holder=", ".join(lost),
            )

    def _with_container_end_in_place(self, old: Via | None, new: Via) -> RoutedInterface:
        """Let the new container end take the place that the old one, or an equal address, was given."""
        ends = {new.container_end} | ({old.container_end} if old is not None else set())
        addresses: list[InterfaceAddress] = []
        for each in self.addresses:
            kept = new.container_address if each.address in ends else each
            if kept not in addresses:
                addresses.append(kept)
        return msgspec.structs.replace(self, addresses=tuple(addresses))

    def _with_route(self, network: Network, *, is_automatic: bool, typed: str) -> RoutedInterface:
        """Raise Refused, quoting what was typed, when the network can never be routed here."""
        what = str(network) if typed == str(network) else f"{typed}: {network}"
        reason = reason_not_routable(network)
        if reason is not None:
            raise Refused(f"{what} cannot be routed: it overlaps {reason}", code="bad-network", subject=typed)
        via = self.vias[network.version]
        for name, end in (("host", via.host_end), ("container", via.container_end)):
            if network.includes(end):
                raise Refused(
                    f"{what} cannot be routed via {via.network}: it contains the {name} address {end}",
                    code="contains-via",
                    subject=typed,
                )
        return self._with_routes((*self.routes, RoutedNetwork(network, is_automatic)))

    def _with_routes(self, routes: Iterable[RoutedNetwork]) -> RoutedInterface:
        return msgspec.structs.replace(self, routes=tuple(routes))

    def _needs(self, route: RoutedNetwork) -> bool:
        """Whether an assigned address is routed by this route alone."""
        others = self._with_routes(each for each in self.routes if each is not route)
        return any(route.network.includes(each) and not others.is_routed(each) for each in self.addresses)

    def _check_against_via(self, address: InterfaceAddress) -> None:
        via = self.vias.get(address.version)
        if via is None or not via.network.includes(address):
            return
        if address.address == via.host_end:
            raise Refused(
                f"{address.short} is the host's address of {via.network}", code="host-end", subject=str(address)
            )
        reason = via.reason_not_usable(address.address)
        if reason is not None:
            raise Refused(f"{address.short} is {reason}", code="bad-address", subject=str(address))

    # --- what it means --------------------------------------------------------------------------------------------

    def claims(self, container: str) -> Iterator[Claim]:
        holder = Holder(container, self.name)
        for via in self.vias.values():
            yield Claim(via.network, ClaimKind.VIA, holder)
        for route in self.routes:
            yield Claim(route.network, ClaimKind.ROUTE, holder)
        for address in self.addresses:
            if not self.is_routed(address):
                yield Claim(address.address.as_network(), ClaimKind.ADDRESS, holder)

    def objects(self, surroundings: Surroundings) -> Iterator[KernelObject]:
        mtu = self.mtu or surroundings.default_mtu
        inside = guest(surroundings.container)
        yield Veth(
            namespace=HOST,
            name=self.link,
            mac=self.host_mac,
            mtu=mtu,
            group=surroundings.settings.host.link_group,
            is_up=True,
            peer_namespace=inside,
            peer_name=self.name,
            peer_mac=self.mac,
        )
        yield Link(namespace=inside, name=self.name, mac=self.mac, mtu=mtu, is_up=True)
        yield from self._host_settings(surroundings)
        if surroundings.has_ipv6:
            yield AssignedAddress(HOST, self.link, HOST_LINK_LOCAL)
        for version, via in sorted(self.vias.items()):
            yield from self._host_side(via, surroundings)
            yield from self._guest_side(via, inside, rank=surroundings.rank[version])

    def _host_settings(self, surroundings: Surroundings) -> Iterator[Sysctl]:
        """Settings of the host link. A guest may send what it likes: it must not change how the host routes."""
        for path, value in (
            ("ipv4/conf/{}/forwarding", "1"),
            # A second line behind the packet filter. Strict reverse-path filtering would drop what a container with
            # several interfaces sends from the second one's address through the first one's default route.
            ("ipv4/conf/{}/rp_filter", "1" if surroundings.is_only_interface else "0"),
            ("ipv4/conf/{}/accept_redirects", "0"),
            ("ipv4/conf/{}/send_redirects", "0"),
            # Deleting one address of a subnet must not delete the others while a via is changed.
            ("ipv4/conf/{}/promote_secondaries", "1"),
            # Where the host has IPv6 switched off by default for new links, ours need it all the same.
            ("ipv6/conf/{}/disable_ipv6", "0"),
            ("ipv6/conf/{}/accept_ra", "0"),
            ("ipv6/conf/{}/accept_redirects", "0"),
        ):
            if surroundings.has_ipv6 or not path.startswith("ipv6/"):
                yield Sysctl(HOST, path.format(self.link), value, link=self.link)

    def _host_side(self, via: Via, surroundings: Surroundings) -> Iterator[KernelObject]:
        routes = surroundings.settings.routes
        metric = 0 if via.version == 4 else routes.ipv6_metric

        def route(network: Network, gateway: Address | None, protocol: int) -> Route:
            return Route(HOST, network, self.link, gateway, protocol, metric)

        yield AssignedAddress(
            HOST, self.link, via.host_address, broadcast=via.broadcast, has_prefix_route=not via.is_wide
        )
        yield Neighbour(HOST, self.link, via.container_end, self.mac)
        if via.is_wide:
            # Only the ends are on the link: the host never resolves the other addresses, so nobody can fill its
            # neighbour table by scanning the network.
            yield route(via.container_end.as_network(), None, routes.present_protocol)
            yield route(via.network, via.container_end, routes.present_protocol)
        for each in self.routes:
            if each.network.version == via.version:
                yield route(each.network, via.container_end, routes.announce_protocol)

    def _guest_side(self, via: Via, inside: Namespace, *, rank: int) -> Iterator[KernelObject]:
        for address in self.all_addresses(via.version):
            yield AssignedAddress(inside, self.name, address, broadcast=_broadcast(address))
        yield Neighbour(inside, self.name, via.host_end, self.host_mac)
        yield Route(
            inside,
            Network(via.version, 0, 0),
            self.name,
            via.host_end,
            PROTOCOL_STATIC,
            metric=METRIC_STEP * rank + (0 if via.version == 4 else IPV6_DEFAULT_METRIC),
            source=self.source(via.version),
        )


def _broadcast(address: InterfaceAddress) -> Address | None:
    """As `brd +` would set it; guest tools stumble over an address of a wide network without one."""
    if address.version == 4 and address.length < BITS[4] - 1:
        return address.network.last
    return None


def new_interface(host: Host, container: Container, name: str, *, vias: Mapping[int, Via]) -> RoutedInterface:
    """Make a routed interface for a container. Raises Refused for a name that no link could have."""
    check_interface_name(name)
    uuid = container.next_interface_uuid(name)
    return RoutedInterface(
        uuid=uuid,
        name=name,
        link=host.link_name(container.name, name, uuid=uuid),
        mac=derived_mac(uuid, side="guest"),
        host_mac=derived_mac(uuid, side="host"),
        vias=vias,
    )


def routed_interface(container: Container, name: str) -> RoutedInterface:
    """Find an interface that routes. Raises Refused when there is none of that name, or it is of another type."""
    interface = container.interface(name)
    if not isinstance(interface, RoutedInterface):
        raise Refused(f"{name!r} of {container.name}: not a routed interface", code="not-routed", subject=name)
    return interface


def chosen_routed_interfaces(
    host: Host, container: str | None, interface: str | None
) -> Iterator[tuple[Container, RoutedInterface]]:
    """The routed interfaces that a listing is asked for: all, those of a container, or one.

    Raises Refused when what is named does not exist, or does not route.
    """
    if container is not None and interface is not None:
        one = host.container(container)
        yield one, routed_interface(one, interface)
        return
    chosen = [host.container(container)] if container is not None else host.sorted_containers
    for one in chosen:
        for each in one.interfaces:
            if isinstance(each, RoutedInterface):
                yield one, each
