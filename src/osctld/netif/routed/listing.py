"""What lists of routes and sources share: they are of routed interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from osctld.core.config.host import Container
from osctld.netif.command_parts import PartsListCommand
from osctld.netif.routed.interface import RoutedInterface, routed_interfaces

Routed: TypeAlias = RoutedInterface


class RoutedListCommand(PartsListCommand, frozen=True, kw_only=True):
    def interfaces_of(self, container: Container, name: str | None) -> Iterator[tuple[str, Routed]]:
        return ((each.name, each) for each in routed_interfaces(container, name))
