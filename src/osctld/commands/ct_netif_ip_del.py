"""Take addresses away."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, EditCommand, Edited, Flag, Option
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.netif.routed import routed_interface


class CtNetifIpDel(EditCommand, frozen=True, kw_only=True):
    """Take addresses from an interface, and the routes that came with them.

    A route stays when another assigned address needs it, or when the operator added it.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "del")

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
            chosen = [interface.assigned(text) for text in self.addresses]
        for address in chosen:
            interface = interface.without_address(address, keep_route=self.keep_route)
        return Edited(host.with_container(container.with_interface(interface)), container.name)
