"""Bridged veth: a veth pair whose host end is a port of a bridge that the administrator has made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from osctld.core.address.addresses import (
    BITS,
    VERSIONS,
    Address,
    InterfaceAddress,
    Network,
    PackedNetwork,
    reason_not_unicast,
)
from osctld.core.authority.claims import ClaimedNetworks, ClaimKind, Holder
from osctld.core.authority.host_networks import LINK_LOCAL
from osctld.core.config.guest_side import GuestInterface
from osctld.core.config.host import (
    Container,
    GuestPolicy,
    Host,
    InterfaceContext,
    Precedence,
    check_interface_name,
    derived_mac,
    why_no_bridge,
)
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import (
    BRIDGE,
    HOST,
    LEAST_IPV6_MTU,
    PROTOCOL_STATIC,
    AssignedAddress,
    HostLink,
    KernelObject,
    Link,
    Master,
    PermittedSource,
    Route,
    Sysctl,
    Veth,
    guest,
)
from osctld.netif.bridge.gateways import Gateway, GatewayChoice, address_of_bridge
from osctld.netif.default_routes import default_metric
from osctld.netif.link_options import check_mac, check_mtu

#: First octet of the MAC address of a host end. A bridge without an address of its own has the lowest one among its
#: ports (br_stp_recalculate_bridge_id in linux/net/bridge/br_stp_if.c): a network card's is lower than ours.
HOST_OCTET = "fe"


class BridgeInterface(msgspec.Struct, frozen=True):
    """What the operator asked of one bridged interface.

    With `dhcp`, the guest's own tool asks for addresses, and AUTO is the gateway that it is told. `addresses` are
    assigned in the operator's order. `mac` is the guest's, `host_mac` the host end's, both lower case. `mtu` is that
    inside, at most the bridge's. One that `is_default` was made the first for its default routes' sake.
    """

    uuid: str
    name: str
    link: str
    mac: str
    host_mac: str
    bridge: str
    dhcp: bool = True
    addresses: tuple[InterfaceAddress, ...] = ()
    gateway_v4: Gateway = GatewayChoice.AUTO
    gateway_v6: Gateway = GatewayChoice.AUTO
    mtu: int | None = None
    guest_policy: GuestPolicy = GuestPolicy.REPORT
    is_default: bool = False

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def type_name(self) -> str:
        return "bridge"

    @property
    def versions(self) -> Collection[int]:
        return [version for version in VERSIONS if self.all_addresses(version) and self._has_gateway(version)]

    @property
    def precedence(self) -> Precedence:
        # A container that is reached by routes answers through them.
        return Precedence.CHOSEN if self.is_default else Precedence.LAST

    def gateway(self, version: int) -> Gateway:
        return self.gateway_v4 if version == 4 else self.gateway_v6

    def _has_gateway(self, version: int) -> bool:
        """Whether the host configures a default route, as far as that is known without the bridge."""
        gateway = self.gateway(version)
        return gateway is not GatewayChoice.NONE and not (gateway is GatewayChoice.AUTO and self.dhcp)

    def all_addresses(self, version: int) -> tuple[InterfaceAddress, ...]:
        """What is on the guest's link of one IP version because it was assigned."""
        return tuple(each for each in self.addresses if each.version == version)

    def find(self, texts: Iterable[str]) -> list[InterfaceAddress]:
        """Find assigned addresses by what a person typed, with or without their prefix lengths. Raises Refused."""
        by_address = {each.address: each for each in self.addresses}
        found = []
        for text in texts:
            wanted = InterfaceAddress.parse(text)
            there = by_address.get(wanted.address)
            if there is None or ("/" in text and there != wanted):
                instead = f"; it is assigned as {there}" if there is not None else ""
                raise Refused(
                    f"{text}: address not found on {self.name}{instead}", code="address-not-found", subject=text
                )
            found.append(there)
        return found

    def check_attachable(self, link: HostLink | None) -> None:
        """Raise Refused if it cannot be a port of what its bridge's name stands for now, or not with its MTU."""
        why = why_no_bridge(link)
        if why is not None or link is None:
            raise Refused(f"{self.bridge!r}: {why}", code="no-bridge", subject=self.bridge)
        if self.mtu is not None and self.mtu > link.mtu:
            raise Refused(
                f"MTU {self.mtu}: {self.bridge!r} has an MTU of {link.mtu}", code="bad-mtu", subject=str(self.mtu)
            )

    # --- edits ----------------------------------------------------------------------------------------------------

    def with_mac(self, mac: str) -> BridgeInterface:
        """Give the guest's end a MAC address. Raises Refused when it is the host end's."""
        check_mac(mac, host_mac=self.host_mac, interface=self.name)
        return msgspec.structs.replace(self, mac=mac)

    def with_address(self, address: InterfaceAddress) -> BridgeInterface:
        """Assign an address, behind the others. Raises Refused when it cannot be, or is assigned already."""
        reason = reason_not_unicast(address.address) or _reason_not_a_member(address)
        if reason is not None:
            raise Refused(f"{address}: cannot be assigned, it is {reason}", code="bad-address", subject=str(address))
        there = next((each for each in self.addresses if each.address == address.address), None)
        if there is not None:
            raise Refused(
                f"{address.short}: this address is already assigned to {self.name}"
                + (f" as {there}" if there != address else ""),
                code="address-assigned",
                subject=str(address),
            )
        changed = msgspec.structs.replace(self, addresses=(*self.addresses, address))
        changed.check_gateways()
        changed.check_mtu()
        return changed

    def without_addresses(self, addresses: Iterable[InterfaceAddress]) -> BridgeInterface:
        gone = frozenset(addresses)
        return msgspec.structs.replace(self, addresses=tuple(each for each in self.addresses if each not in gone))

    def with_placed(self, address: InterfaceAddress, *, before: InterfaceAddress | None) -> BridgeInterface:
        """Move an assigned address before another one, or to the front."""
        rest = [each for each in self.addresses if each != address]
        at = 0 if before is None else rest.index(before)
        return msgspec.structs.replace(self, addresses=(*rest[:at], address, *rest[at:]))

    def check_gateways(self) -> None:
        """Raise Refused for a gateway that is an address of the container itself."""
        for each in self.addresses:
            if each.address == self.gateway(each.version):
                raise Refused(
                    f"{each.address}: assigned to {self.name}, and cannot be its gateway",
                    code="bad-gateway",
                    subject=str(each.address),
                )

    def check_mtu(self) -> None:
        """Raise Refused for an MTU that the kernel would not take, or at which it would switch IPv6 off."""
        check_mtu(self.mtu)
        of_ipv6 = self.all_addresses(6)
        if self.mtu is not None and self.mtu < LEAST_IPV6_MTU and of_ipv6:
            raise Refused(
                f"MTU {self.mtu}: IPv6 requires at least {LEAST_IPV6_MTU}, and {self.name} has {of_ipv6[0].short}",
                code="bad-mtu",
                subject=str(self.mtu),
            )

    # --- what it means --------------------------------------------------------------------------------------------

    def claims(self, container: str) -> Iterator[ClaimedNetworks]:
        networks = tuple(each.address.as_network().packed for each in self.addresses)
        yield ClaimedNetworks(ClaimKind.ADDRESS, Holder(container, self.name), networks, self.bridge)

    def permissions(self) -> Iterator[PermittedSource]:
        return iter(())

    def routed_networks(self) -> Iterator[PackedNetwork]:
        return iter(())

    def renamed(self, name: str) -> BridgeInterface:
        return msgspec.structs.replace(self, name=name)

    def chosen_as_default(self, *, is_chosen: bool) -> BridgeInterface:
        return msgspec.structs.replace(self, is_default=is_chosen)

    def reason_not_delegable(self, network: Network) -> str | None:
        for each in self.addresses:
            if network.includes(each):
                return f"{each.address} is assigned to {self.name}"
        return None

    def inside(self, context: InterfaceContext) -> GuestInterface:
        objects = self._guest_side(context, has_ipv6=context.has_ipv6)
        found = GuestInterface.of(objects, name=self.name, mac=self.mac, mtu=self.mtu)
        return msgspec.structs.replace(found, dhcp=self.dhcp, is_shared=True)

    def objects(self, context: InterfaceContext) -> Iterator[KernelObject]:
        bridge = context.links.get(self.bridge)
        # The host's end has the bridge's MTU in any case: a bridge whose MTU nobody has set follows its smallest port
        # (br_mtu_auto_adjust in linux/net/bridge/br_if.c), and the bridge is not ours to change.
        bridge_mtu = bridge.mtu if bridge is not None else context.default_mtu
        mtu = min(self.mtu or bridge_mtu, bridge_mtu)
        inside = guest(context.container)
        yield Veth(
            namespace=HOST,
            name=self.link,
            mac=self.host_mac,
            mtu=bridge_mtu,
            group=context.settings.host.bridge_link_group,
            is_up=True,
            peer_namespace=inside,
            peer_name=self.name,
            peer_mac=self.mac,
            # While the bridge is gone, the link waits for it.
            master=Master(self.bridge, BRIDGE) if bridge is not None and bridge.is_bridge else None,
        )
        yield Link(namespace=inside, name=self.name, mac=self.mac, mtu=mtu, is_up=True)
        if context.has_ipv6 and bridge_mtu >= LEAST_IPV6_MTU:
            # The host speaks by the bridge, and by none of its ports.
            yield Sysctl(HOST, f"ipv6/conf/{self.link}/disable_ipv6", "1", link=self.link)
        if self.all_addresses(4) and not context.is_only_interface:
            # What arrives from beyond the bridge's network is answered by the default route of another interface.
            yield Sysctl(inside, f"ipv4/conf/{self.name}/rp_filter", "2", link=self.name)
        yield from self._guest_side(context, has_ipv6=context.has_ipv6 and mtu >= LEAST_IPV6_MTU)

    def _guest_side(self, context: InterfaceContext, *, has_ipv6: bool) -> Iterator[AssignedAddress | Route]:
        inside = guest(context.container)
        for version in VERSIONS if has_ipv6 else (4,):
            present = [
                each
                for each in self.all_addresses(version)
                if each.address.as_network() not in context.set_aside  # another host answers for it
            ]
            for each in present:
                yield AssignedAddress(inside, self.name, each, broadcast=each.broadcast)
            gateway = self._gateway_of(present, context.links.get(self.bridge))
            if gateway is not None:
                yield Route(
                    inside,
                    Network(version, 0, 0),
                    self.name,
                    gateway,
                    PROTOCOL_STATIC,
                    metric=default_metric(version, rank=context.rank[version], edition=context.edition),
                    source=present[0].address,
                    is_onlink=not _is_on_link(gateway, present),
                )

    def _gateway_of(self, present: Sequence[InterfaceAddress], bridge: HostLink | None) -> Address | None:
        """Where addresses of one IP version send what is for others; None where the host does not say so."""
        if not present or not self._has_gateway(present[0].version):
            return None
        gateway = self.gateway(present[0].version)
        if isinstance(gateway, Address):
            return gateway
        return address_of_bridge(bridge.addresses if bridge is not None else (), present[0])


def _reason_not_a_member(address: InterfaceAddress) -> str | None:
    """Why no member of its network can have an address; None when one can."""
    if address.network.is_default:
        return "in no network: a prefix length of 0 means everything"
    if address.length < BITS[address.version] - 1 and address.address == address.network.address:
        # RFC 4291 2.6.1 has it for routers.
        what = "the network address" if address.version == 4 else "the subnet-router anycast address"
        return f"{what} of {address.network}"
    return None


def _is_on_link(gateway: Address, addresses: Iterable[InterfaceAddress]) -> bool:
    """Whether the kernel takes a gateway for a neighbour by itself."""
    return LINK_LOCAL.includes(gateway) or any(each.network.includes(gateway) for each in addresses)


def new_interface(host: Host, container: Container, name: str, *, bridge: str) -> BridgeInterface:
    """Make a bridged interface for a container. Raises Refused for a name that no link could have."""
    check_interface_name(name)
    uuid = container.next_interface_uuid(name)
    return BridgeInterface(
        uuid=uuid,
        name=name,
        link=host.link_name(container.name, name, uuid=uuid),
        mac=derived_mac(uuid, side="guest"),
        host_mac=HOST_OCTET + derived_mac(uuid, side="host")[2:],
        bridge=bridge,
    )
