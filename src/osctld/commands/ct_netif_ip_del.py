"""Take addresses away."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, EditCommand, Edited, Example, Flag, Option
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.netif.routed import routed_interface


class CtNetifIpDel(EditCommand, frozen=True, kw_only=True):
    """Take addresses from an interface, and the routes that came with them.

    A route stays when another assigned address needs it, or when the operator added it. Routes that have one of
    the addresses as next hop go too, and are named.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip del myct01 eth0 1.2.3.4", "Take an address away, and the route that came with it"),
        Example("osctl ct netif ip del -v 6 myct01 eth0 all", "Take away all IPv6 addresses"),
    )

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Interface", metavar="netif", completes="interface")]
    addresses: Annotated[
        tuple[str, ...],
        Argument(
            "Addresses, or all; - reads them from standard input",
            metavar="addr",
            many=True,
            from_stdin=True,
            completes="address",
            keywords=("all",),
        ),
    ]
    keep_route: Annotated[
        bool, Flag(("--keep-route",), "Keep the routes, as the operator's own", negatable=True)
    ] = False
    version: Annotated[
        int | None, Option(("-v", "--version"), "4|6", "With all: only of this IP version", choices=("4", "6"))
    ] = None

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        if self.addresses == ("all",):
            chosen = [each for each in interface.addresses if self.version in (None, each.version)]
        elif self.version is not None:
            raise UsageError(f"-v {self.version} goes with all, not with {self.addresses[0]}")
        else:
            chosen = interface.all_assigned(self.addresses)
        draft = interface.draft()
        broken = draft.take(chosen, keep_route=self.keep_route)
        return Edited(
            host.with_container(container.with_interface(interface.with_draft(draft))),
            container.name,
            messages=tuple(f"removed route {each.network} via {each.next_hop}" for each in broken),
        )
