"""Routed veth: a veth pair on no bridge, an interconnecting network, and networks routed to the container over it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress, Network, PackedNetwork
from osctld.core.address.network_table import NetworkTable
from osctld.core.address.via import Via
from osctld.core.authority.claims import ClaimedNetworks, ClaimKind, Holder
from osctld.core.config.edition import FIRST
from osctld.core.config.guest_side import GuestInterface
from osctld.core.config.host import (
    Container,
    GuestPolicy,
    Host,
    InterfaceContext,
    Precedence,
    check_interface_name,
    derived_mac,
)
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import (
    HOST,
    LEAST_IPV6_MTU,
    PROTOCOL_STATIC,
    AssignedAddress,
    KernelObject,
    Link,
    Namespace,
    Neighbour,
    PermittedSource,
    PrivateNetwork,
    Route,
    Routes,
    Sysctl,
    Veth,
    Way,
    guest,
)
from osctld.netif.default_routes import default_metric
from osctld.netif.link_options import check_mac, check_mtu
from osctld.netif.routed.draft import Draft
from osctld.netif.routed.networks import RoutedNetwork, RoutedNetworks

__all__ = ["RoutedInterface", "RoutedNetwork", "new_interface", "routed_interface"]

#: The host end's own link-local address. With address generation off it exists at once, without duplicate address
#: detection; a tentative one would delay the first IPv6 packet from beyond the host by up to 2 s. There must be
#: one: without fe80::/64 on the link the source check would drop the guest's own link-local packets.
HOST_LINK_LOCAL = InterfaceAddress.parse("fe80::1/64")


class RoutedInterface(msgspec.Struct, frozen=True):
    """What the operator asked of one routed interface.

    `addresses` are assigned in the operator's order, without the container end unless it was given a place; `routes`
    in the order they were made. From `sources` may be sent although nothing of them is routed. `mac` is the guest's,
    `host_mac` the host end's, both lower case.
    """

    uuid: str
    name: str
    link: str
    mac: str
    host_mac: str
    vias: Mapping[int, Via]
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: RoutedNetworks = RoutedNetworks()
    sources: tuple[Network, ...] = ()
    mtu: int | None = None
    guest_policy: GuestPolicy = GuestPolicy.REPORT
    #: Whether a routing daemon may announce what is routed to it.
    is_announced: bool = True

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def type_name(self) -> str:
        return "routed"

    @property
    def bridge(self) -> None:
        return None

    @property
    def versions(self) -> Collection[int]:
        return self.vias.keys()

    @property
    def precedence(self) -> Precedence:
        return Precedence.USUAL

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
        return self.draft().routing(what)

    def is_routed(self, address: InterfaceAddress) -> bool:
        """Whether a route of this interface, or its own via, leads to the address."""
        via = self.vias.get(address.version)
        return (via is not None and via.network.includes(address)) or self.routes.table.widest(address) is not None

    def source(self, version: int) -> Address:
        """The guest's source address: the first assigned one that is routed or in a public via, else
        the container end."""
        via = self.vias[version]
        for each in self.addresses:
            if each.version != version:
                continue
            if self.routes.table.widest(each) is not None or (via.is_public and via.network.includes(each)):
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

    def draft(self) -> Draft:
        """A copy of vias, addresses, routes and sources to be changed step by step; `with_draft` takes it over."""
        return Draft(self.name, vias=self.vias, addresses=self.addresses, routes=self.routes, sources=self.sources)

    def with_draft(self, draft: Draft) -> RoutedInterface:
        return msgspec.structs.replace(
            self,
            vias=dict(draft.vias),
            addresses=draft.addresses,
            routes=draft.routes,
            sources=draft.sources,
        )

    def with_mac(self, mac: str) -> RoutedInterface:
        """Give the guest's end a MAC address. Raises Refused when it is the host end's."""
        check_mac(mac, host_mac=self.host_mac, interface=self.name)
        return msgspec.structs.replace(self, mac=mac)

    def check_mtu(self) -> None:
        """Raise Refused for an MTU that the kernel would not take, or at which it would switch IPv6 off."""
        check_mtu(self.mtu)
        if self.mtu is not None and 6 in self.vias and self.mtu < LEAST_IPV6_MTU:
            raise Refused(
                f"MTU {self.mtu}: IPv6 requires at least {LEAST_IPV6_MTU}, and {self.name} has {self.vias[6].network}",
                code="bad-mtu",
                subject=str(self.mtu),
            )

    def assigned(self, text: str) -> InterfaceAddress:
        """Find an assigned address by what a person typed, with or without its prefix length.

        Raises Refused when it is not assigned.
        """
        return self.all_assigned([text])[0]

    def all_assigned(self, texts: Iterable[str]) -> list[InterfaceAddress]:
        """Find many assigned addresses, each as `assigned` does."""
        by_address = {each.address: each for each in self.addresses}
        found = []
        for text in texts:
            wanted = InterfaceAddress.parse(text)
            there = by_address.get(wanted.address)
            # A container end has the prefix length of its via, whatever it was added with.
            via = self.vias.get(wanted.version)
            has_any_length = "/" not in text or (via is not None and wanted.address == via.container_end)
            if there is None or not (has_any_length or there.length == wanted.length):
                instead = f"; it is assigned as {there}" if there is not None else ""
                raise Refused(
                    f"{text}: address not found on {self.name}{instead}", code="address-not-found", subject=text
                )
            found.append(there)
        return found

    def next_hop(self, text: str) -> InterfaceAddress:
        """Read the next hop of a route: an assigned address, or the container end of a via.

        Raises Refused when it is neither.
        """
        wanted = InterfaceAddress.parse(text)
        via = self.vias.get(wanted.version)
        if via is not None and wanted.address == via.container_end:
            return via.container_address
        for each in self.addresses:
            if each.address == wanted.address:
                return each
        raise Refused(
            f"{text}: address not found on {self.name}; the next hop of a route must be assigned",
            code="address-not-found",
            subject=text,
        )

    def check_still_routed(self, before: RoutedInterface, *, typed: str) -> None:
        """Raise Refused, naming them, if addresses that were routed before no longer are."""
        lost = [str(each.short) for each in self.addresses if before.is_routed(each) and not self.is_routed(each)]
        if lost:
            raise Refused(
                f"{typed}: without this route, {', '.join(lost)} would be assigned but unrouted;"
                " --leave-unrouted permits it",
                code="address-needs-route",
                subject=typed,
                holder=", ".join(lost),
            )

    # --- what it means --------------------------------------------------------------------------------------------

    def claims(self, container: str) -> Iterator[ClaimedNetworks]:
        holder = Holder(container, self.name)
        unrouted = [each.address.as_network() for each in self.addresses if not self.is_routed(each)]
        yield ClaimedNetworks(ClaimKind.VIA, holder, tuple(via.network.packed for via in self.vias.values()))
        yield ClaimedNetworks(ClaimKind.ROUTE, holder, tuple(self.routes.table))
        yield ClaimedNetworks(ClaimKind.ADDRESS, holder, tuple(each.packed for each in unrouted))

    def permissions(self) -> Iterator[PermittedSource]:
        """Those sources that no other one includes: the packet filter's elements must not overlap."""
        if not self.sources:
            return iter(())
        table: NetworkTable[None] = NetworkTable()
        for each in self.sources:
            table.put(each.packed, None)
        return (PermittedSource(HOST, self.link, each) for each in self.sources if table.widest(each) == each)

    def routed_networks(self) -> Iterator[PackedNetwork]:
        yield from self.routes.table
        yield from (via.network.packed for via in self.vias.values() if via.is_public)

    def renamed(self, name: str) -> RoutedInterface:
        return msgspec.structs.replace(self, name=name)

    def chosen_as_default(self, *, is_chosen: bool) -> RoutedInterface:  # noqa: ARG002 - its place says all
        return self

    def reason_not_delegable(self, network: Network) -> str | None:
        for via in self.vias.values():
            if not via.is_public and via.network.includes(network):
                return f"is inside {via.network}, the private interconnecting network of {self.name}"
            for end in (via.host_end, via.container_end):
                if network.includes(end):
                    return f"{end} is an end of {via.network}, the interconnecting network of {self.name}"
        for address in self.addresses:
            if network.includes(address):
                return f"{address.address} is assigned to {self.name}"
        return None

    def objects(self, context: InterfaceContext) -> Iterator[KernelObject | Routes]:
        mtu = self.mtu or context.default_mtu
        if self.mtu is None and 6 in self.vias:
            # An uplink that cannot carry IPv6 takes none away from what is reached without it.
            mtu = max(mtu, LEAST_IPV6_MTU)
        inside = guest(context.container)
        yield Veth(
            namespace=HOST,
            name=self.link,
            mac=self.host_mac,
            mtu=mtu,
            group=context.settings.host.link_group,
            is_up=True,
            peer_namespace=inside,
            peer_name=self.name,
            peer_mac=self.mac,
        )
        yield Link(namespace=inside, name=self.name, mac=self.mac, mtu=mtu, is_up=True)
        if 4 in self.vias and not context.is_only_interface and context.edition > FIRST:
            # The guest answers through the default route of the first one: a strict check drops what arrives through
            # another.
            yield Sysctl(inside, f"ipv4/conf/{self.name}/rp_filter", "2", link=self.name)
        has_ipv6 = context.has_ipv6 and mtu >= LEAST_IPV6_MTU
        yield from self._host_settings(has_ipv6=has_ipv6, is_only_interface=context.is_only_interface)
        yield from self.permissions()
        if has_ipv6:
            yield AssignedAddress(HOST, self.link, HOST_LINK_LOCAL)
        for version, via in sorted(self.vias.items()):
            yield from self._host_side(via, context)
            yield from self._guest_side(via, inside, rank=context.rank[version], edition=context.edition)

    def inside(self, context: InterfaceContext) -> GuestInterface:
        inside = guest(context.container)
        objects = (
            each
            for version, via in sorted(self.vias.items())
            if version == 4 or context.has_ipv6
            for each in self._guest_side(via, inside, rank=context.rank[version], edition=context.edition)
        )
        return GuestInterface.of(objects, name=self.name, mac=self.mac, mtu=self.mtu)

    def _host_settings(self, *, has_ipv6: bool, is_only_interface: bool) -> Iterator[Sysctl]:
        """Settings of the host link. A guest may send what it likes: it must not change how the host routes."""
        has_foreign_sources = any(each.version == 4 for each in self.sources)
        for path, value in (
            ("ipv4/conf/{}/forwarding", "1"),
            # A second line behind the packet filter. Strict reverse-path filtering would drop what a container with
            # several interfaces sends from the second one's address through the first one's default route, and what
            # comes from a network that is not routed to it.
            ("ipv4/conf/{}/rp_filter", "1" if is_only_interface and not has_foreign_sources else "0"),
            ("ipv4/conf/{}/accept_redirects", "0"),
            ("ipv4/conf/{}/send_redirects", "0"),
            # Deleting one address of a subnet must not delete the others while a via is changed.
            ("ipv4/conf/{}/promote_secondaries", "1"),
            # Even if the host disables IPv6 by default for new links, ours need it.
            ("ipv6/conf/{}/disable_ipv6", "0"),
            # No link-local address of the kernel's own making, see HOST_LINK_LOCAL.
            ("ipv6/conf/{}/addr_gen_mode", "1"),
            ("ipv6/conf/{}/accept_ra", "0"),
            ("ipv6/conf/{}/accept_redirects", "0"),
        ):
            if has_ipv6 or not path.startswith("ipv6/"):
                yield Sysctl(HOST, path.format(self.link), value, link=self.link)

    def _host_side(self, via: Via, context: InterfaceContext) -> Iterator[KernelObject | Routes]:
        routes = context.settings.routes
        metric = 0 if via.version == 4 else routes.ipv6_metric

        link, source = self.link, routes.source(via.version)
        protocol = routes.announce_protocol if self.is_announced else routes.present_protocol

        def way(gateway: Address | None, protocol: int, *, is_onlink: bool = False) -> Way:
            return Way(via.version, HOST, link, gateway, protocol, metric, source, is_onlink)

        yield AssignedAddress(HOST, link, via.host_address, broadcast=via.broadcast, has_prefix_route=not via.is_wide)
        yield Neighbour(HOST, link, via.container_end, self.mac)
        if not via.is_public:
            yield PrivateNetwork(HOST, link, via.network)
        if via.is_wide:
            # Only the ends are on the link: the host never resolves the other addresses, so nobody can fill its
            # neighbour table by scanning the network.
            yield way(None, routes.present_protocol).route(via.container_end.as_network())
            yield way(via.container_end, routes.present_protocol).route(via.network)
        for next_hop, networks in self.routes.by_next_hop(via.version).items():
            if next_hop is None or next_hop == via.container_end:
                yield Routes(way(via.container_end, protocol), networks)
                continue
            # The host reaches an assigned address by the container end, which no next hop may depend on: it is said
            # to be on the link, where its MAC is known.
            yield Neighbour(HOST, link, next_hop, self.mac)
            yield Routes(way(next_hop, protocol, is_onlink=True), networks)

    def _guest_side(self, via: Via, inside: Namespace, *, rank: int, edition: int) -> Iterator[KernelObject]:
        source = self.source(via.version)
        # Programs that masquerade ask no route for its source: they take an address of the next hop's network, if they
        # may, and from a private one nothing gets beyond the host.
        hides_via = not via.is_public and not via.network.includes(source) and edition > FIRST
        for address in self.all_addresses(via.version):
            is_source = not (hides_via and via.network.includes(address))
            yield AssignedAddress(inside, self.name, address, broadcast=address.broadcast, is_source=is_source)
        yield Neighbour(inside, self.name, via.host_end, self.host_mac)
        yield Route(
            inside,
            Network(via.version, 0, 0),
            self.name,
            via.host_end,
            PROTOCOL_STATIC,
            metric=default_metric(via.version, rank=rank, edition=edition),
            source=source,
        )


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


def routed_interface(container: Container, name: str | None) -> RoutedInterface:
    """Find an interface that routes. Raises Refused when there is none of that name, or it is of another type."""
    interface = container.interface(name)
    if not isinstance(interface, RoutedInterface):
        name = interface.name
        raise Refused(f"{name!r} of {container.name}: not a routed interface", code="not-routed", subject=name)
    return interface


def routed_interfaces(container: Container, name: str | None = None) -> Iterator[RoutedInterface]:
    """All interfaces of a container that route, or the one of that name, as `routed_interface` finds it."""
    if name is not None:
        yield routed_interface(container, name)
        return
    for each in container.interfaces:
        if isinstance(each, RoutedInterface):
            yield each
