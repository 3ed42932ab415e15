"""Change the order of addresses."""

from __future__ import annotations

from typing import Annotated, ClassVar

from osctld.core.command import Argument, ContainerName, EditCommand, Edited, Example, Flag, OnlyInterface, Option
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused, UsageError
from osctld.netif.addressed import addressed_interface


class CtNetifIpReorder(EditCommand, frozen=True, kw_only=True):
    """Move an assigned address to the front, or before another one of its IP version.

    The first routed address of each IP version is the container's source address.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "reorder")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            "osctl ct netif ip reorder myct01 eth0 1.2.3.5 --first",
            "Make another address the container's source address",
        ),
    )

    container: ContainerName
    netif: OnlyInterface = None
    address: Annotated[str, Argument("Assigned address", metavar="addr", completes="address")]
    first: Annotated[bool, Flag(("--first",), "Move the address to the front")] = False
    before: Annotated[
        str | None, Option(("--before",), "ADDR", "Move the address before this assigned address", completes="address")
    ] = None

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = host.container(self.container)
        interface, edits = addressed_interface(container, self.netif)
        if self.first == (self.before is not None):
            raise UsageError(f"{self.address}: give either --first or --before ADDR")
        (address,) = edits.find(interface, [self.address])
        before = edits.find(interface, [self.before])[0] if self.before is not None else None
        if before is not None and before.version != address.version:
            raise Refused(
                f"{self.before}: IP version mismatch, {address.short} is IPv{address.version}",
                code="version-mismatch",
                subject=str(self.before),
            )
        if before == address:
            raise Refused(
                f"{self.before}: an address cannot be moved before itself", code="same", subject=str(self.before)
            )
        after = edits.placed(interface, address, before=before)
        return Edited(host.with_container(container.with_interface(after)), container.name)
