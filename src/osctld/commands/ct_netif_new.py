"""Create an interface: each type brings the command that makes one."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.command import EditCommand
from osctld.netif.interface_type import interface_types


def commands() -> Iterator[type[EditCommand]]:
    """One of each type."""
    return (kind.new for kind in interface_types().values())
