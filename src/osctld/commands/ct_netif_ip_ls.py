"""List assigned addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from osctld.core.command import Column, Example
from osctld.core.config.host import Container
from osctld.netif.addressed import Addressed, addressed_interfaces
from osctld.netif.command_parts import WHOSE, PartsListCommand


class CtNetifIpLs(PartsListCommand, frozen=True, kw_only=True):
    """List assigned addresses, in the operator's order: of all containers, of one, or of one interface.

    The state is shown if an address is unrouted, unless the header is hidden.
    """

    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "ip", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif ip ls", "List all addresses of all containers"),
        Example(
            "osctl ct netif ip ls -H -o addr -v 4 myct01 eth0",
            "List the IPv4 addresses of one interface, for a script",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        *WHOSE,
        Column("addr"),
        Column(
            "state",
            "routed, unrouted if no route covers it, or bridged if it is used on a bridge",
            marks={"unrouted": "doubtful"},
        ),
    )
    usual: ClassVar[Mapping[str, Collection[Any]]] = {"state": ("routed", "bridged")}

    def interfaces_of(self, container: Container, name: str | None) -> Iterator[tuple[str, Addressed]]:
        return ((each.interface.name, each) for each in addressed_interfaces(container, name))

    def rows_of(self, interface: Addressed, version: int) -> Iterable[Mapping[str, Any]]:
        for address in interface.addresses:
            if address.version == version:
                yield {"addr": str(address), "state": interface.edits.state(interface.interface, address)}
