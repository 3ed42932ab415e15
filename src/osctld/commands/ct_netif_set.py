"""Change an interface."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.claims import Holder
from osctld.core.command import ContainerName, EditCommand, Edited, Example, Flag, InterfaceName
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.netif.routed import check_broadcasts, routed_interface
from osctld.netif.routed_options import AUTO, RoutedOptions


class CtNetifSet(EditCommand, RoutedOptions, frozen=True, kw_only=True):
    """Change an interface: its interconnecting networks or their ends, MAC address, MTU, rank.

    IP versions that are not named stay as they are. Without --via the ends of the present network are changed.
    Addresses that are on no network of the interface any more are routed from then on. In a running container
    everything changes at once.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "set")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif set --via 10.100.20.0/31 myct01 eth0",
            "Another interconnecting network; connections of the container stay",
        ),
        Example("osctl ct netif set --host-addr 10.100.20.1 --ct-addr 10.100.20.0 myct01 eth0", "Swap its ends"),
        Example(
            "osctl ct netif set --mtu 1400 --hwaddr 02:xx:xx:xx:xx:01 myct01 eth0",
            "Another MTU, and a MAC address of which one byte is given",
        ),
    )

    container: ContainerName
    netif: InterfaceName
    default: Annotated[
        bool, Flag(("--default",), "Make it the first interface: its default routes are the preferred ones")
    ] = False

    @property
    def looks_at_host(self) -> bool:
        return bool(self.via)

    def edit(self, host: Host) -> Edited:
        before = host.container(self.container)
        interface = routed_interface(before, self.netif)
        draft = interface.draft()
        for version in sorted({int(each) for each in self.no_via}):
            # Beside auto it says, as with `new`, which version to leave out: there may be none of it.
            if AUTO not in self.via or version in interface.vias:
                draft.remove_via(version)
        draft.change_vias(self.chosen_vias(host, interface.vias, is_new=False))
        changed = self.with_properties(interface.with_draft(draft))
        if not self._asks_for_something:
            raise UsageError(
                f"{self.netif}: nothing to set, give --via, --host-addr and --ct-addr, --no-via, --via-public,"
                " --hwaddr, --mtu, --guest or --default"
            )
        for version, via in changed.vias.items():
            held = interface.vias.get(version)
            # A network that is new here was given on to nobody: whoever holds a part of it is in its way.
            if held is not None and held != via and held.network == via.network:
                host.check_needs_nothing_given_on(Holder(before.name, changed.name), changed, via.network)
        after = before.with_interface(changed)
        check_broadcasts(after)
        if self.default:
            after = after.with_interface_first(changed.name)
        host.check_delegation(before, after)
        return Edited(host.with_container(after), after.name, is_delegation_allowed=self.force)

    @property
    def _asks_for_something(self) -> bool:
        values = (self.via_public, self.hwaddr, self.mtu, self.guest)
        return bool(
            self.via
            or self.host_addr
            or self.ct_addr
            or self.no_via
            or self.default
            or any(each is not None for each in values)
        )
