"""Stop routing networks to a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import Network
from osctld.core.command import Argument, EditCommand, Edited, Example, Flag, Option
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.netif.routed import routed_interface


class CtNetifRouteDel(EditCommand, frozen=True, kw_only=True):
    """Stop routing networks to a container.

    Refused when assigned addresses would be left unrouted; --force leaves them so.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "route", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif route del myct01 eth0 10.5.5.0/24", "Stop routing one network"),
        Example(
            "osctl ct netif route del --force myct01 eth0 all",
            "Stop routing all, even if addresses are left that nothing leads to",
        ),
    )

    container: Annotated[str, Argument("Container", metavar="ct", completes="container")]
    netif: Annotated[str, Argument("Interface", metavar="netif", completes="interface")]
    networks: Annotated[
        tuple[str, ...],
        Argument(
            "Networks, or all; - reads them from standard input",
            metavar="network",
            many=True,
            from_stdin=True,
            completes="route",
            keywords=("all",),
        ),
    ]
    version: Annotated[
        int | None, Option(("-v", "--version"), "4|6", "With all: only of this IP version", choices=("4", "6"))
    ] = None
    force: Annotated[bool, Flag(("-f", "--force"), "Also when it leaves addresses unrouted")] = False

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = before = routed_interface(container, self.netif)
        if self.networks == ("all",):
            networks = [each.network for each in interface.routes]
            chosen = [(network, "all") for network in networks if self.version in (None, network.version)]
        elif self.version is not None:
            raise UsageError(f"-v {self.version} goes with all, not with {self.networks[0]}")
        else:
            chosen = [(Network.parse(text), text) for text in self.networks]
        draft = interface.draft()
        for network, typed in chosen:
            draft.unroute(network, typed=typed)
        interface = interface.with_draft(draft)
        if not self.force:
            interface.check_still_routed(before, typed=" ".join(self.networks))
        return Edited(host.with_container(container.with_interface(interface)), container.name)
