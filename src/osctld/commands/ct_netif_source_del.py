"""Permit sources no longer."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.addresses import Network
from osctld.core.command import Argument, EditCommand, Edited, Example, Option
from osctld.core.errors import UsageError
from osctld.core.host import Host
from osctld.netif.routed import routed_interface


class CtNetifSourceDel(EditCommand, frozen=True, kw_only=True):
    """Permit sources no longer: what comes from there and is not routed to the container is dropped again."""

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "source", "del")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif source del myct01 eth0 203.0.113.0/24", "Permit one network no longer"),
        Example("osctl ct netif source del -v 6 myct01 eth0 all", "Check all IPv6 sources again"),
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
            completes="source",
            keywords=("all",),
        ),
    ]
    version: Annotated[
        int | None, Option(("-v", "--version"), "4|6", "With all: only of this IP version", choices=("4", "6"))
    ] = None

    def edit(self, host: Host) -> Edited:
        container = host.container(self.container)
        interface = routed_interface(container, self.netif)
        draft = interface.draft()
        if self.networks == ("all",):
            chosen = [(each, "all") for each in interface.sources if self.version in (None, each.version)]
        elif self.version is not None:
            raise UsageError(f"-v {self.version} goes with all, not with {self.networks[0]}")
        else:
            chosen = [(Network.parse(text), text) for text in self.networks]
        for network, typed in chosen:
            draft.forbid(network, typed=typed)
        return Edited(host.with_container(container.with_interface(interface.with_draft(draft))), container.name)
