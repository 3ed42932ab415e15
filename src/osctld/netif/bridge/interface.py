"""Bridged veth: a veth pair whose host end is a port of a bridge that the administrator has made."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.claims import ClaimedNetworks
from osctld.core.config.guest_side import GuestInterface
from osctld.core.config.host import (
    Container,
    GuestPolicy,
    Host,
    InterfaceContext,
    check_interface_name,
    derived_mac,
    why_no_bridge,
)
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import (
    BRIDGE,
    HOST,
    LEAST_IPV6_MTU,
    HostLink,
    KernelObject,
    Link,
    Master,
    PermittedSource,
    Sysctl,
    Veth,
    guest,
)
from osctld.netif.link_options import check_mac, check_mtu

#: First octet of the MAC address of a host end. A bridge without an address of its own has the lowest one among its
#: ports (br_stp_recalculate_bridge_id in linux/net/bridge/br_stp_if.c): a network card's is lower than ours.
HOST_OCTET = "fe"


class BridgeInterface(msgspec.Struct, frozen=True):
    """What the operator asked of one bridged interface.

    With `dhcp`, the guest's own tool asks for addresses. `mac` is the guest's, `host_mac` the host end's, both lower
    case. `mtu` is that inside, at most the bridge's.
    """

    uuid: str
    name: str
    link: str
    mac: str
    host_mac: str
    bridge: str
    dhcp: bool = True
    mtu: int | None = None
    guest_policy: GuestPolicy = GuestPolicy.REPORT

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def type_name(self) -> str:
        return "bridge"

    @property
    def versions(self) -> Collection[int]:
        return ()

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

    def check_mtu(self) -> None:
        """Raise Refused for an MTU that the kernel would not take."""
        check_mtu(self.mtu)

    # --- what it means --------------------------------------------------------------------------------------------

    def claims(self, container: str) -> Iterator[ClaimedNetworks]:  # noqa: ARG002 - it has no address
        return iter(())

    def permissions(self) -> Iterator[PermittedSource]:
        return iter(())

    def routed_networks(self) -> Iterator[PackedNetwork]:
        return iter(())

    def renamed(self, name: str) -> BridgeInterface:
        return msgspec.structs.replace(self, name=name)

    def reason_not_delegable(self, network: Network) -> str | None:  # noqa: ARG002 - it routes nothing
        return None

    def inside(self, context: InterfaceContext) -> GuestInterface:  # noqa: ARG002 - the same in every one
        return GuestInterface(self.name, self.mac, mtu=self.mtu, dhcp=self.dhcp, is_shared=True)

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
